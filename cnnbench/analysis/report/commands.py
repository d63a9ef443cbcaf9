"""The command that made some runs, from their overrides."""

import shlex
from collections.abc import Sequence

from cnnbench.analysis.runs import Run
from cnnbench.config.settings import SEED

MOST = 12  # commands listed


def run_commands(runs: Sequence[Run]) -> list[str]:
    """Sweeps, as few as possible, that together give exactly these runs; a single command where nothing is swept."""
    # A box is {key: values}, and stands for every combination of the values: first one for each run
    boxes: list[dict[str, tuple[str, ...]]] = []
    for run in runs:
        if run.overrides or run.record:
            written = dict(text.partition("=")[::2] for text in run.overrides)
            if run.seed is not None:
                written.setdefault(SEED, str(run.seed))
            boxes.append({key: (value,) for key, value in written.items()})

    # Join those that differ in one key alone, key by key
    order = list(dict.fromkeys(key for box in boxes for key in box))
    for key in reversed(order):
        joined: dict[tuple[frozenset, bool], dict[str, None]] = {}
        for box in boxes:
            values = box.get(key, ())
            joins = key in box and not any("," in value and not value.startswith("[") for value in values)
            rest = frozenset((name, of) for name, of in box.items() if name != key or not joins)
            joined.setdefault((rest, joins), {}).update(dict.fromkeys(values))
        boxes = [dict(rest) | ({key: tuple(values)} if joins else {}) for (rest, joins), values in joined.items()]

    commands = []
    for box in boxes:
        texts = [f"{key}={','.join(box[key])}" for key in order if key in box]
        sweep = ["-m"] if any(len(values) > 1 for values in box.values()) else []
        commands.append(shlex.join(["cnnbench", *sweep, *texts]))
    if len(commands) > MOST:
        commands[MOST:] = [f"# and {len(commands) - MOST} more: each run's result.json has its overrides"]
    return commands
