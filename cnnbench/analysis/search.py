"""What a search came to, from its ``search.json``: the best so far over its trials, and which parameters mattered."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.analysis.metric_names import higher_is_better
from cnnbench.analysis.statistics import to_number

SEARCH_FILE = "search.json"


@dataclass(frozen=True)
class SearchResult:
    """A search.

    Attributes:
        folder: of the sweep; objective: the metric that it went by.
        trials: each {"number", "state", "value", "epochs", "folder", "parameters"}, in their order.
        importance: share of the variance that a parameter explains, the largest first.
    """

    folder: Path
    objective: str
    trials: list[dict[str, Any]]
    importance: dict[str, float]

    def best_so_far(self) -> list[float | None]:
        """After each trial; None before the first that completed."""
        choose = max if higher_is_better(self.objective) else min
        best: list[float | None] = []
        for trial in self.trials:
            values = [v for v in (best[-1] if best else None, to_number(trial["value"])) if v is not None]
            best.append(choose(values) if values else None)
        return best

    def best(self) -> dict[str, Any] | None:
        """The trial with the best value, the earlier of equals."""
        top = self.best_so_far()[-1] if self.trials else None
        return next((trial for trial in self.trials if top is not None and trial["value"] == top), None)

    def count(self, *states: str) -> int:
        """How many trials ended so."""
        return sum(trial["state"] in states for trial in self.trials)


def read_searches(folders: Iterable[Path]) -> list[SearchResult]:
    """The searches in these folders; one whose file cannot be read is left out."""
    found = []
    for path in sorted({Path(folder) / SEARCH_FILE for folder in folders}):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            found.append(SearchResult(path.parent, told["objective"], list(told["trials"]), dict(told["importance"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
