"""What a sweep with ``sweep.until=decided`` has come to, from the ``decided.json`` in its folder."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cnnbench.analysis.sequential import Judgement
from cnnbench.analysis.statistics import to_number
from cnnbench.utils.record import read_json

DECIDED_FILE = "decided.json"


class DecidedSweep(NamedTuple):
    """The rule, what it has decided so far, and what a reader must know of it."""

    rule: dict[str, Any]
    metric: str
    pairs: list[tuple[str, str, Judgement]]
    caption: str
    notes: list[str]


def read_decided(folders: Iterable[Path]) -> list[DecidedSweep]:
    """The decided sweeps in these folders; one whose file cannot be read is left out."""
    sweeps = []
    for folder in sorted(set(folders)):
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
            data = read_json(folder / DECIDED_FILE)
            pairs = [
                (str(one), str(other), Judgement(int(n), *map(to_number, limits), str(decision)))  # type: ignore
                for one, other, n, *limits, decision in data["pairs"]
            ]
            rule, (caption, *notes) = data["rule"], map(str, data["told"])
            sweeps.append(DecidedSweep(rule, str(rule["metric"]), pairs, caption, notes))
    return sweeps
