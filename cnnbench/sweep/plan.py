"""The plan of a sweep: its runs, their folders, and ``sweep.json`` with its commands and each folder's fingerprint.

The file is written before anything is started: so a run is resumed in its folder, whatever a kill left there.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from cnnbench.analysis.metric_names import plural
from cnnbench.analysis.runs import find_runs, read_run
from cnnbench.config.compose import fingerprint, resolved
from cnnbench.config.trusted_targets import computes_as_here
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_json, read_yaml_file, write_atomically
from cnnbench.utils.run_dir import is_locked

FILE, LOCK = "sweep.json", ".sweep.lock"
FAILED = ("failed", "diverged", "unreadable")
NOT_KEPT = ("hydra.sweep.dir=", "sweep.repeat_failed=", "sweep.earlier=")  # each command says these anew


@dataclass
class PlannedRun:
    """One run of a sweep, composed."""

    overrides: list[str]
    cfg: DictConfig = field(repr=False)  # with Hydra's own node
    config: dict[str, Any] = field(repr=False)  # without it, resolved
    folder: str  # below the sweep's
    label: str = ""  # what varies, for the terminal
    state: str = "new"  # or as Run.status; "running" where another process runs it
    number: int = 0  # from 1, in the order in which they are run

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.config)

    def left(self, repeat_failed: bool) -> bool:
        """Whether it has still to be run."""
        return self.state not in ("completed", "running") and (repeat_failed or self.state not in FAILED)


def assign_folders(runs: Sequence[PlannedRun], sweep: Path, owners: Mapping[str, str]) -> None:
    """Find each run's folder in the sweep's, or a free one for it, and its state; ``owners`` as for ``existing``."""
    there, waiting = existing(sweep, owners), list(runs)
    for by_name in (True, False):  # names change when a grid grows, fingerprints do not
        for run in list(waiting):
            names = there.get(run.fingerprint, {})
            name = run.folder if by_name else next(iter(names), "")
            if name in names:
                state = names.pop(name)
                run.folder, run.state = name, "running" if is_locked(sweep / name) else state
                waiting.remove(run)
    taken = {*owners}
    for run in waiting:
        name, number = run.folder, 1
        while run.folder in taken or (sweep / run.folder).exists():
            number += 1
            run.folder = f"{name}_{number}"
        taken.add(run.folder)


def existing(sweep: Path, owners: Mapping[str, str] | None = None) -> dict[str, dict[str, str]]:
    """The folders below a sweep's by fingerprint, each with its state, completed ones first; ``owners`` has the
    fingerprints by folder, as in ``sweep.json``."""
    states = {name: ("new", owner) for name, owner in (owners or {}).items()}
    for path in find_runs(sweep) if sweep.is_dir() else ():
        run, name = read_run(path), str(path.relative_to(sweep))
        known = run.record.get("fingerprint") or (owners or {}).get(name)
        states[name] = run.status, str(known or hydra_fingerprint(path))
    found: dict[str, dict[str, str]] = {}
    for name, (state, owner) in sorted(states.items(), key=lambda item: item[1][0] != "completed"):
        found.setdefault(owner, {})[name] = state
    return found


def hydra_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the configuration that Hydra wrote when a run began; None where it cannot be read."""
    with suppress(Exception):  # what the libraries make of a damaged file has no common kind
        path = folder / ".hydra" / "config.yaml"
        if computes_as_here(read_yaml_file(path)) and isinstance(cfg := OmegaConf.load(path), DictConfig):
            return fingerprint(resolved(cfg))
    return None


def write_plan(
    sweep: Path, command: Sequence[str], runs: Sequence[PlannedRun] = (), owners: Mapping[str, str] | None = None
) -> None:
    """Add the runs and the command to ``sweep.json``, the newest last, while other sweeps into this folder wait; where
    ``owners``, by which the runs' folders have been assigned, have changed since, they are assigned anew."""
    sweep.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / LOCK):
        plan = read_plan(sweep)
        if plan["runs"] != owners:
            assign_folders(runs, sweep, plan["runs"])
        kept = [text for text in command if not text.startswith(NOT_KEPT)]
        plan["commands"] = [*(old for old in plan["commands"] if old != kept), kept]
        plan["runs"] |= {run.folder: run.fingerprint for run in runs}
        write_atomically(sweep / FILE, json.dumps(plan, indent=1, ensure_ascii=False) + "\n")


def read_plan(sweep: Path) -> dict[str, Any]:
    """``{"commands": overrides of each command, oldest first, "runs": fingerprints by folder}``; empty without a file.
    Raises RequestError where it cannot be read."""
    path = sweep / FILE
    if not path.exists():
        return {"commands": [], "runs": {}}
    try:
        plan = read_json(path)
        if isinstance(plan, list):  # of version 1
            plan = {"commands": [command["overrides"] for command in plan], "runs": {}}
        commands = [[str(text) for text in command] for command in plan["commands"]]
        inside = {name for name in plan["runs"] if name[:1] != "/" and ".." not in Path(name).parts}
        return {"commands": commands, "runs": {k: str(v) for k, v in plan["runs"].items() if k in inside}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} cannot be read ({error}); delete it and give the command again") from error


def describe(runs: Sequence[PlannedRun], repeat_failed: bool) -> str:
    """``"6 runs: 2 finished, 1 failed or diverged (sweep.repeat_failed=true repeats), 3 to do"``."""
    states = Counter(run.state for run in runs)
    failed = 0 if repeat_failed else sum(states[one] for one in FAILED)
    counts = {"finished": states["completed"], "failed or diverged (sweep.repeat_failed=true repeats)": failed,
              "being run by another process": states["running"]}  # fmt: skip
    parts = [f"{number} {name}" for name, number in counts.items() if number]
    left = sum(run.left(repeat_failed) for run in runs)
    return plural(len(runs), "run") + (f": {', '.join(parts)}, {left} to do" if parts else "")


def own_folder(folder: Path) -> Path:
    """``folder``, or with a number where a command of the same second has it, made; or raises RequestError."""
    candidate, number = folder, 1
    while True:
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            number += 1
            candidate = folder.with_name(f"{folder.name}_{number}")
        except OSError as error:
            raise RequestError(f"cannot make the output folder {candidate} ({error.strerror})") from error
