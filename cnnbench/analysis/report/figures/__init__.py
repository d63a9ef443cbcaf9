"""The figures of a report, one concern a file: functions that return a matplotlib figure, without pyplot's global state."""
