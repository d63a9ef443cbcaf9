"""From the records of runs to statistics, a leaderboard, a report and the verdicts of published studies."""
