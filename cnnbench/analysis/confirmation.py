"""What fresh runs say of a sweep's winners, from the ``confirm.json`` that ``cnnbench confirm`` leaves in their folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.analysis.metric_names import difference, higher_is_better, number, plural, title, unit
from cnnbench.analysis.statistics import finite_mean

if TYPE_CHECKING:
    from cnnbench.analysis.leaderboard import LeaderboardRow

CONFIRM_FILE = "confirm.json"


def confirmation_notes(rows: Sequence[LeaderboardRow]) -> list[str]:
    """Of each folder that confirms another's winners: what these were there, and what they are with fresh seeds."""
    notes = []
    for folder in sorted({run.path.parent for row in rows for run in row.configuration.runs}):
        try:
            notes += _notes(folder, rows)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return notes


def _notes(folder: Path, rows: Sequence[LeaderboardRow]) -> list[str]:
    plan = json.loads((folder / CONFIRM_FILE).read_text(encoding="utf-8"))
    metric, winners = str(plan["metric"]), plan["winners"]
    notes, optimism = [], []
    for winner in winners:
        row = next((row for row in rows if winner["fingerprint"] in _fingerprints(row)), None)
        fresh = row.value(metric).mean if row else None
        if row is None or fresh is None:
            continue
        optimism.append((winner["value"] - fresh) * (1 if higher_is_better(metric) else -1))
        notes.append(
            f"{row.configuration.short}: {title(metric)} {number(winner['value'], metric)}{unit(metric)} there "
            f"({plural(winner['n'], 'seed')}), {number(fresh, metric)}{unit(metric)} with {plural(row.n, 'fresh seed')}."
        )
    mean = finite_mean(optimism)
    if mean is None:
        return []
    size = difference(abs(mean), metric).lstrip("+")
    told = f"were optimistic by {size}" if mean > 0 else f"were not optimistic: the fresh ones are better by {size}"
    return [f"Fresh seeds of the best {len(winners)} of {plan['of']} configurations in {plan['sweep']}, whose own runs, by which "
            f"they were chosen, are not counted: the numbers there {told}, on average.", *notes]  # fmt: skip


def _fingerprints(row: LeaderboardRow) -> set[str | None]:
    configuration = row.configuration
    return {run.record.get("fingerprint") for run in (*configuration.runs, *configuration.incomplete)}
