"""From the records of runs to an answer: was it better, by how much, and can that be trusted?

- ``record``: result.json, one run's.
- ``collect``, ``settings``: the runs below some folders; what they were set to; which settings vary.
- ``grid``: runs that differ only in their seed make one configuration.
- ``leaderboard``: a row a configuration. Light: a sweep's end prints it.
- ``statistics``, ``compare``: intervals, and differences from a baseline; ``anova``, ``effects``, ``wording``: main
  effects, interactions, and the sentences about them; ``pareto``: cost against quality.
- ``analysis``: all of that for one collection of runs, as plain numbers; every format of the report is made from it.
- ``names``: how metrics and numbers are written; ``tables``, ``terminal``, ``formats``, ``figures``, ``sections``,
  ``page``: how they are shown; ``commands``: what made the runs; ``report``: ``cnnbench report``.

What a sweep's end needs (``collect``, ``leaderboard`` and what they use) imports nothing heavy.
"""
