"""The cells of a sweep: which runs lie in its folder already, by fingerprint, and which are left to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from cnnbench.analysis.runs import Run, find_runs, read_run
from cnnbench.config.compose import compose, fingerprint, resolved
from cnnbench.config.overrides import quoted
from cnnbench.utils.run_dir import is_locked

FINISHED, FAILED = ("completed",), ("failed", "diverged", "unreadable")


@dataclass
class GridRun:
    """One run that a sweep asks for.

    Attributes:
        overrides: of this run.
        config: resolved.
        folder: below the sweep's; where a run of this configuration lies there already, its folder.
        twin: how many cells before it in its command have its fingerprint: a sweep over settings that change no result,
            such as steps_per_execution, has such cells.
        state: new, or as ``Run.status``; ``running`` where a process is at it.
    """

    overrides: list[str]
    config: dict[str, Any]
    folder: str
    twin: int = 0
    state: str = "new"

    def left(self, repeat_failed: bool) -> bool:
        """Whether there is something to do."""
        return self.state not in (*FINISHED, "running") and (repeat_failed or self.state not in FAILED)

    def command(self) -> list[str]:
        """Its overrides with its folder in the sweep's, which the whole command names."""
        own = [text for text in self.overrides if not text.startswith("hydra.sweep.dir=")]
        return [*own, f"hydra.sweep.subdir={quoted(self.folder)}"]


def make_cells(runs: Sequence[Sequence[str]], names: Sequence[str]) -> list[GridRun]:
    """Compose every run; ``names`` are overrides that settle how folders are named.

    Raises:
        RequestError: a configuration cannot be composed.
    """
    cells = []
    seen: Counter[str] = Counter()
    for number, overrides in enumerate(runs):
        cfg = compose([*overrides, *names, f"hydra.job.num={number}", f"hydra.job.id={number}"], hydra=True)
        folder = str(OmegaConf.select(cfg, "hydra.sweep.subdir"))
        with open_dict(cfg):
            del cfg["hydra"]
        config = resolved(cfg)
        mark = fingerprint(config)
        cells.append(GridRun(list(overrides), config, folder, seen[mark]))
        seen[mark] += 1
    return cells


def assign_folders(cells: Sequence[GridRun], sweep: Path) -> list[GridRun]:
    """Find each cell's run in the sweep's folder, or a free folder for it; cells of several commands that are equal
    are one."""
    there = existing(sweep)
    once: dict[tuple[str, int], GridRun] = {}
    for cell in cells:
        once.setdefault((fingerprint(cell.config), cell.twin), cell)
    waiting = dict(once)
    for by_name in (True, False):  # names change when a grid grows, fingerprints do not
        for (mark, twin), cell in list(waiting.items()):
            runs = there.get(mark, [])
            for name, run in runs:
                if not by_name or name == cell.folder:
                    cell.folder, cell.state = name, "running" if is_locked(run.path) else run.status
                    runs.remove((name, run))
                    del waiting[mark, twin]
                    break
    taken: set[str] = set()
    for cell in waiting.values():
        name, number = cell.folder, 1
        while cell.folder in taken or (sweep / cell.folder).exists():
            number += 1
            cell.folder = f"{name}_{number}"
        taken.add(cell.folder)
    return list(once.values())


def existing(sweep: Path) -> dict[str, list[tuple[str, Run]]]:
    """The runs below a folder by fingerprint, each with its path from there; completed ones first."""
    found: dict[str, list[tuple[str, Run]]] = {}
    for path in find_runs(sweep) if sweep.is_dir() else ():
        run = read_run(path)
        mark = str(run.record.get("fingerprint") or hydra_fingerprint(path))
        found.setdefault(mark, []).append((str(path.relative_to(sweep)), run))
    for runs in found.values():
        runs.sort(key=lambda item: not item[1].completed)
    return found


def hydra_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the configuration that Hydra wrote when a run began; None where it cannot be read."""
    try:
        cfg = OmegaConf.load(folder / ".hydra" / "config.yaml")
        return fingerprint(resolved(cfg)) if isinstance(cfg, DictConfig) else None
    except Exception:  # what the libraries make of a damaged file has no common kind
        return None


def folder_names(runs: Iterable[Sequence[str]]) -> list[str]:
    """Overrides that name each run's folder by what varies, leaving out what all runs share."""
    values: dict[str, set[str]] = {}
    count = 0
    for run in runs:
        count += 1
        for text in run:
            key, _, value = text.partition("=")
            values.setdefault(key.lstrip("+~"), set()).add(value)
    shared = [key for key, seen in values.items() if len(seen) == 1 and count > 1]
    return [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(shared)}]"] if shared else []


def describe(cells: Sequence[GridRun], repeat_failed: bool) -> str:
    """``"6 runs: 2 finished, 1 failed (kept; sweep.repeat_failed=true repeats it), 3 to do"``."""
    left = sum(cell.left(repeat_failed) for cell in cells)
    finished = sum(cell.state in FINISHED for cell in cells)
    failed = 0 if repeat_failed else sum(cell.state in FAILED for cell in cells)
    running = sum(cell.state == "running" for cell in cells)
    parts = [f"{finished} finished" * bool(finished)]
    parts.append(f"{failed} failed or diverged (sweep.repeat_failed=true repeats)" * bool(failed))
    parts.append(f"{running} being run by another process" * bool(running))
    parts = [part for part in parts if part]
    many = f"{len(cells)} run{'s' * (len(cells) != 1)}"
    return re.sub(" +", " ", f"{many}: {', '.join(parts)}, {left} to do" if parts else many)
