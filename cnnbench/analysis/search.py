"""What a search came to, from its ``search.json``: its trials, and which parameters mattered."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cnnbench.analysis.metric_names import higher_is_better
from cnnbench.analysis.statistics import finite_values, to_number
from cnnbench.utils.record import read_json

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
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            data = read_json(folder / SEARCH_FILE)
            shares = {str(name): to_number(share) for name, share in data["importance"].items()}
            importance = {name: share for name, share in shares.items() if share is not None}
            trials = list(map(_trial, data["trials"]))
            searches.append(SearchResult(str(data["objective"]), trials, importance, int(data.get("seeds", 1))))
    return searches


def _trial(data: Mapping[str, Any]) -> dict[str, Any]:
    """A trial of plain values; raises whatever one does that has others."""
    values = {str(name): value for name, value in data["parameters"].items() if isinstance(value, (str, int, float))}
    number = int(float(data["number"]))
    return {"number": number, "state": str(data["state"]), "value": to_number(data["value"]), "parameters": values}
