"""What a sweep with ``sweep.until=decided`` has come to, from the ``decided.json`` in its folder."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cnnbench.analysis.sequential import Judgement
from cnnbench.analysis.statistics import to_number

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
        with suppress(OSError, ValueError, KeyError, TypeError):
            data = json.loads((folder / DECIDED_FILE).read_text(encoding="utf-8"))
            pairs = [
                (str(one), str(other), Judgement(int(n), to_number(value), to_number(low), to_number(high), decision))
                for one, other, n, value, low, high, decision in data["pairs"]
            ]
            rule, (caption, *notes) = data["rule"], map(str, data["told"])
            sweeps.append(DecidedSweep(rule, str(rule["metric"]), pairs, caption, notes))
    return sweeps
