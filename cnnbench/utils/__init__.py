"""Errors, console, the record of a run, its folder, environment, signals and memory: what every package may import."""
