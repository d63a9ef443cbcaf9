"""The report of a collection of runs: as text, HTML, Markdown, CSV and LaTeX, with its figures."""
