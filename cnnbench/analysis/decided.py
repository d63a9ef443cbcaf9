"""What a sweep with ``sweep.until=decided`` has come to, from the ``decided.json`` in its folder."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from cnnbench.analysis.metric_names import difference, plural, title
from cnnbench.analysis.sequential import Decision, Decisions, Judgement
from cnnbench.analysis.statistics import to_number
from cnnbench.utils.record import write_atomically

DECIDED_FILE = "decided.json"


class DecidedSweep(NamedTuple):
    """The rule, and what it has decided so far."""

    rule: dict[
        str, Any
    ]  # metric, on_test, practical (in the metric's unit), baseline, seeds, max_seeds, configurations
    pairs: list[tuple[str, str, Judgement]]  # the better first, where there is no baseline
    seeds: dict[str, int]  # that each configuration was given
    failed: list[str]  # configurations without a completed run

    @property
    def caption(self) -> str:
        """What was decided by what."""
        rule = self.rule
        size = difference(rule["practical"], rule["metric"]).lstrip("+")
        on_test = ", which was measured on the test set," if rule["on_test"] else ""
        return (f"Decided by {title(rule['metric'])}{on_test} where {size} do not matter, seed by seed. 95% intervals that "
                "hold at all looks and for all pairs together; of what is practically the same 90%, as of two one-sided "
                "tests.")  # fmt: skip

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the other tests, what was saved, and which configurations never completed."""
        count, most = len(self.rule["configurations"]), self.rule["max_seeds"]
        stopped = ", ".join(f"{name} {n}" for name, n in self.seeds.items())
        notes = [
            "Seeds were added until decided (sweep.until=decided); the intervals of the decisions hold at all looks, other "
            "intervals and p-values suppose that the number of seeds was fixed beforehand.",
            f"{plural(sum(self.seeds.values()), 'run')} instead of {count * most} ({count} configurations of {most} seeds). "
            f"Seeds of each: {stopped}.",
        ]
        if left := sum(judged.decision == "undecided" for *_, judged in self.pairs):
            notes.append(f"{plural(left, 'pair')} undecided after at most {plural(max(self.seeds.values()), 'seed')}.")
        return notes + [f"{name} was dropped: none of its runs has completed." for name in self.failed]


def write_decided(folder: Path, rule: Mapping[str, Any], decisions: Decisions, seeds: Mapping[str, int]) -> None:
    """Write ``decided.json``; pairs that were still open when one of them was dropped are left out."""
    asked = [*decisions.pairs.items()]
    pairs = [(*pair, *it) for pair, it in asked if it.decision != "undecided" or pair in decisions.open]
    if rule["baseline"] is None:
        pairs = [_better_first(*pair, higher=decisions.rule.higher_is_better) for pair in pairs]
    content = {"rule": rule, "pairs": pairs, "seeds": seeds, "failed": sorted(decisions.failed)}
    write_atomically(folder / DECIDED_FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _better_first(one: str, other: str, n: int, value: float | None, *rest: Any, higher: bool) -> tuple[Any, ...]:
    low, high, decision = rest
    if value is None or (value >= 0) == higher:
        return one, other, n, value, low, high, decision
    ends = (None, None) if low is None or high is None else (-high, -low)
    return other, one, n, -value, *ends, decision.replace("worse", "better")


def read_decided(folders: Iterable[Path]) -> list[DecidedSweep]:
    """The decided sweeps in these folders; one whose file cannot be read is left out."""
    sweeps = []
    for folder in sorted(set(folders)):
        try:
            data = json.loads((folder / DECIDED_FILE).read_text(encoding="utf-8"))
            pairs = [
                (str(one), str(other), Judgement(int(n), to_number(value), to_number(low), to_number(high), decision))
                for one, other, n, value, low, high, decision in data["pairs"]
                if decision in get_args(Decision)
            ]
            sweeps.append(DecidedSweep(data["rule"], pairs, dict(data["seeds"]), list(data["failed"])))
            _ = (sweeps[-1].caption, sweeps[-1].notes)  # which need all that is in it
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return sweeps
