"""From the records of runs to an answer: was it better, by how much, and can that be trusted?

- ``record``: result.json, one run's.
- ``collect``, ``settings``: the runs below some folders; what they were set to; which settings vary.
- ``grid``: runs that differ only in their seed make one configuration.
- ``leaderboard``: a row a configuration. Light: a sweep's end prints it.
- ``statistics``, ``compare``, ``effects``: intervals, differences from a baseline, main effects and interactions.
- ``analysis``: all of that for one collection of runs, as plain numbers; every format of the report is made from it.
- ``figures``, ``page``, ``tables``, ``report``: how it is shown.

``record``, ``collect``, ``settings``, ``grid``, ``names`` and ``leaderboard`` import nothing heavy.
"""
