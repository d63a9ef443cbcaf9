"""The plan of a sweep: its runs, which of them lie in its folder already, and what has been written down of it.

``sweep.json`` in the folder has the commands of the sweep and, before anything is started, the fingerprint of the
configuration that each run's folder belongs to. So a folder that was begun is gone on with, whatever a kill left in it.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from cnnbench.analysis.runs import find_runs, read_run
from cnnbench.config.compose import fingerprint, resolved
from cnnbench.config.overrides import quoted
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RECORD_FILE, Record, RecordError, read_record, write_atomically
from cnnbench.utils.run_dir import is_locked

FILE, LOCK = "sweep.json", ".sweep.lock"
FINISHED, FAILED = ("completed",), ("failed", "diverged", "unreadable")
NOT_KEPT = ("hydra.sweep.dir=", "sweep.repeat_failed=", "sweep.earlier=")  # each command says these anew


@dataclass
class PlannedRun:
    """One run that a sweep asks for.

    Attributes:
        cfg: composed, with Hydra's own node; config: the same without it, resolved.
        folder: below the sweep's.
        label: what varies, for the terminal.
        state: new, or as ``Run.status``; ``running`` where a process is at it.
        number: of the sweep's runs, from 1, in the order in which they are run.
    """

    overrides: list[str]
    cfg: DictConfig = field(repr=False)
    config: dict[str, Any] = field(repr=False)
    folder: str
    label: str = ""
    state: str = "new"
    number: int = 0

    @cached_property
    def fingerprint(self) -> str:
        """Of its configuration."""
        return fingerprint(self.config)

    def left(self, repeat_failed: bool) -> bool:
        """Whether there is something to do."""
        return self.state not in (*FINISHED, "running") and (repeat_failed or self.state not in FAILED)

    def command(self) -> list[str]:
        """Its overrides with its folder, for a launcher that composes by itself."""
        return [*self.overrides, f"hydra.sweep.subdir={quoted(self.folder)}"]


def shared_keys(runs: Sequence[Sequence[str]]) -> set[str]:
    """The keys that have the same value in all of several runs, which folder names leave out."""
    values: dict[str, set[str]] = {}
    for text in (text for run in runs for text in run):
        key, _, value = text.partition("=")
        values.setdefault(key.lstrip("+~"), set()).add(value)
    return {key for key, seen in values.items() if len(seen) == 1} if len(runs) > 1 else set()


def assign_folders(runs: Sequence[PlannedRun], sweep: Path, owners: Mapping[str, str]) -> None:
    """Find each run's folder in the sweep's, or a free one for it, and its state; ``owners`` as for ``existing``."""
    there = existing(sweep, owners)
    waiting = list(runs)
    for by_name in (True, False):  # names change when a grid grows, fingerprints do not
        for run in list(waiting):
            names = there.get(run.fingerprint, {})
            name = run.folder if by_name else next(iter(names), "")
            if name in names:
                run.folder, run.state = name, names.pop(name)
                if is_locked(sweep / name):
                    run.state = "running"
                waiting.remove(run)
    taken = {*owners}
    for run in waiting:
        name, number = run.folder, 1
        while run.folder in taken or (sweep / run.folder).exists():
            number += 1
            run.folder = f"{name}_{number}"
        taken.add(run.folder)


def existing(sweep: Path, owners: Mapping[str, str] = MappingProxyType({})) -> dict[str, dict[str, str]]:
    """The folders below a sweep's by the fingerprint that they belong to, each with its state; completed ones first.

    Args:
        owners: fingerprints by folder, as ``sweep.json`` has them.
    """
    states = {name: ("new", mark) for name, mark in owners.items()}
    for path in find_runs(sweep) if sweep.is_dir() else ():
        run, name = read_run(path), str(path.relative_to(sweep))
        states[name] = run.status, str(run.record.get("fingerprint") or owners.get(name) or hydra_fingerprint(run.path))
    found: dict[str, dict[str, str]] = {}
    for name, (state, mark) in sorted(states.items(), key=lambda item: item[1][0] not in FINISHED):
        found.setdefault(mark, {})[name] = state
    return found


def hydra_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the configuration that Hydra wrote when a run began; None where it cannot be read."""
    try:
        cfg = OmegaConf.load(folder / ".hydra" / "config.yaml")
        return fingerprint(resolved(cfg)) if isinstance(cfg, DictConfig) else None
    except Exception:  # what the libraries make of a damaged file has no common kind
        return None


def write_plan(sweep: Path, command: Sequence[str], runs: Sequence[PlannedRun], owners: Mapping[str, str]) -> None:
    """Add the runs and the command to ``sweep.json``; the newest command is the last.

    Another process that sweeps into the same folder at the same moment waits, and then finds what this one has settled.

    Args:
        owners: by which the runs' folders have been assigned; where it has changed, they are assigned anew.
    """
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

    Raises:
        RequestError: it cannot be read.
    """
    path = sweep / FILE
    if not path.exists():
        return {"commands": [], "runs": {}}
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(plan, list):  # of version 1
            plan = {"commands": [command["overrides"] for command in plan], "runs": {}}
        commands = [[str(text) for text in command] for command in plan["commands"]]
        inside = {str(name): str(mark) for name, mark in plan["runs"].items() if ".." not in Path(name).parts}
        return {"commands": commands, "runs": {name: mark for name, mark in inside.items() if name[:1] != "/"}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} cannot be read ({error}); delete it and give the command again") from error


def describe(runs: Sequence[PlannedRun], repeat_failed: bool) -> str:
    """``"6 runs: 2 finished, 1 failed or diverged (sweep.repeat_failed=true repeats), 3 to do"``."""
    counts = {
        "finished": sum(run.state in FINISHED for run in runs),
        "failed or diverged (sweep.repeat_failed=true repeats)": sum(
            run.state in FAILED for run in runs if not repeat_failed
        ),
        "being run by another process": sum(run.state == "running" for run in runs),
    }
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    many = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    left = sum(run.left(repeat_failed) for run in runs)
    return f"{many}: {', '.join(parts)}, {left} to do" if parts else many


def ended_since(folder: Path, since: float) -> Record | None:
    """The record that was written into a run's folder since then; None where there is none or it cannot be read."""
    with suppress(OSError, RecordError):
        return read_record(folder) if (folder / RECORD_FILE).stat().st_mtime >= since else None
    return None


def own_folder(folder: Path) -> Path:
    """``folder``, or with a number where another command of the same second has it; made, so that it is taken.

    Raises:
        RequestError: it cannot be made.
    """
    candidate = folder
    for number in count(2):
        try:
            candidate.mkdir(parents=True)
            break
        except FileExistsError:
            candidate = folder.with_name(f"{folder.name}_{number}")
        except OSError as error:
            raise RequestError(f"cannot make the output folder {candidate} ({error.strerror})") from error
    return candidate
