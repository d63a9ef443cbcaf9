"""The command that made some runs, told from their overrides."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from cnnbench.analysis.runs import Run
from cnnbench.config.settings import SEED

MOST = 12  # commands listed
Box = frozenset[tuple[str, tuple[str, ...]]]  # {key: values}: every combination of the values


def run_commands(runs: Sequence[Run]) -> list[str]:
    """The fewest sweeps found that together give exactly these runs; a single command where nothing is swept."""
    boxes: dict[Box, None] = {}
    for run in runs:
        if run.overrides or run.record:
            boxes[frozenset((key, (value,)) for key, value in _keys(run).items())] = None
    order = list(dict.fromkeys(key for run in runs for key in _keys(run)))
    for key in reversed(order):
        boxes = _merge(boxes, key)
    commands = [_command(sorted(box, key=lambda item: order.index(item[0]))) for box in boxes]
    if len(commands) > MOST:
        commands[MOST:] = [f"# and {len(commands) - MOST} more: each run's result.json has its overrides"]
    return commands


def _merge(boxes: Iterable[Box], key: str) -> dict[Box, None]:
    """Join the boxes that differ in ``key`` alone."""
    joined: dict[Box, dict[str, None]] = {}
    whole: dict[Box, None] = {}
    for box in boxes:
        values = dict(box).get(key)
        if values is None or any("," in value and not value.startswith("[") for value in values):
            whole[box] = None
            continue
        rest = frozenset(item for item in box if item[0] != key)
        joined.setdefault(rest, {}).update(dict.fromkeys(values))
    return {**whole, **{rest | {(key, tuple(values))}: None for rest, values in joined.items()}}


def _keys(run: Run) -> dict[str, str]:
    """{key as written: value as written}."""
    keys = dict(text.partition("=")[::2] for text in run.overrides)
    if run.seed is not None and SEED not in keys:
        keys[SEED] = str(run.seed)
    return keys


def _command(box: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    texts = [f"{key}={','.join(values)}" for key, values in box]
    sweep = ["-m"] if any(len(values) > 1 for _, values in box) else []
    return shlex.join(["cnnbench", *sweep, *texts])
