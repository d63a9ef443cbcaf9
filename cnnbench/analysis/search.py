"""What a search came to, from its ``search.json``: its trials, and which parameters mattered."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cnnbench.analysis.metric_names import higher_is_better
from cnnbench.analysis.statistics import finite_values

SEARCH_FILE = "search.json"


class SearchResult(NamedTuple):
    """A search, as ``search.json`` in its sweep's folder has it."""

    objective: str
    trials: list[dict[str, Any]]  # "number", "state", "value" and "parameters", in their order
    importance: dict[str, float]  # share of the variance that a parameter explains, the largest first
    seeds: int = 1  # runs of a trial, whose value is their mean

    def best_so_far(self) -> list[float | None]:
        """After each trial; None before the first that completed."""
        choose = max if higher_is_better(self.objective) else min
        values = [trial["value"] for trial in self.trials]
        return [choose(finite_values(values[: count + 1]), default=None) for count in range(len(values))]

    def best(self) -> dict[str, Any] | None:
        """The trial with the best value, the earlier of equals."""
        top = self.best_so_far()[-1] if self.trials else None
        return next((trial for trial in self.trials if top is not None and trial["value"] == top), None)


def read_searches(folders: Iterable[Path]) -> list[SearchResult]:
    """The searches in these folders; one whose file cannot be read is left out."""
    searches = []
    for folder in sorted(set(folders)):
        with suppress(OSError, ValueError, KeyError, TypeError):
            data = json.loads((folder / SEARCH_FILE).read_text(encoding="utf-8"))
            trials, seeds = list(data["trials"]), int(data.get("seeds", 1))
            searches.append(SearchResult(data["objective"], trials, dict(data["importance"]), seeds))
    return searches
