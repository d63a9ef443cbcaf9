"""One run or many, through Hydra: check everything first, run, and say at the end what came out.

Hydra stops a sweep at the first job that raises and then forgets its callbacks, so here a job never raises: a failure
is a record. Everything that a sweep prints or writes at its end comes from the records on disk, whatever launched it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnbench.config import (
    CONFIG_DIR,
    VERSION_BASE,
    check_values,
    compose,
    expand,
    expand_globs,
    register_resolvers,
    resolved,
)
from cnnbench.errors import RequestError
from cnnbench.results.record import RecordError, read_record

TOTAL = "CNNBENCH_SWEEP_RUNS"  # how many runs this sweep has; set for the jobs, wherever they run


@dataclass
class Plan:
    """What the command line asks for, checked: the overrides of each run, and the folder of them all."""

    runs: list[list[str]]
    folder: Path
    sweep: bool
    extra: list[str] = field(default_factory=list)  # overrides that settle the folder names


def plan(overrides: Sequence[str], sweep: bool) -> Plan:
    """Compose and check every run that ``overrides`` ask for.

    Raises:
        RequestError: something in it cannot be done as asked; nothing has been started or written.
    """
    # how Hydra is to run; without the rest, which may need the choices that are swept over
    base = compose([text for text in _fixed(overrides) if text.lstrip("+~").startswith("hydra")], hydra=True).hydra
    sweep = sweep or str(base.mode or "").endswith("MULTIRUN")
    # a search draws its runs while it goes, so only what is fixed can be checked
    grid = sweep and "BasicSweeper" in str(base.sweeper.get("_target_"))
    runs = expand(overrides) if grid else [_fixed(overrides)] if sweep else [list(overrides)]
    check_runs(runs)
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    folder = Path(str(OmegaConf.select(compose(runs[0], hydra=True), key)))
    if any(text.startswith(f"{key}=") for text in overrides):
        extra = []
    else:
        folder = _own_folder(folder)
        extra = [f"{key}='{folder}'"]
    if sweep:
        extra += _folder_names(runs)
    return Plan(runs, folder, sweep, extra)


def _fixed(overrides: Sequence[str]) -> list[str]:
    """The overrides that are the same in every run of a search."""
    return [text for text in overrides if "(" not in text and "," not in text.partition("=")[2]]


def check_runs(runs: Sequence[Sequence[str]]) -> None:
    """Compose every run and check its values, and then all that it names; raises RequestError.

    In two passes, because the second has to import torch and the first finds most mistakes.
    """
    configs = []
    for overrides in runs:
        configs.append(resolved(compose(overrides)))
        check_values(configs[-1])
    from cnnbench.preflight import check

    for config in configs:
        check(config)


def _own_folder(folder: Path) -> Path:
    """``folder``, or with a number where another command of the same second has it; made, so that it is taken."""
    for number in range(1, 1000):
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RequestError(f"cannot make the output folder {candidate} ({error.strerror})") from error
        return candidate
    raise RequestError(f"there are 1,000 folders named like {folder} already")


def _folder_names(runs: list[list[str]]) -> list[str]:
    """Overrides that name each run's folder by what varies, leaving out what all runs share."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for text in run:
            key, _, value = text.partition("=")
            values.setdefault(key, set()).add(value)
    shared = [key for key, seen in values.items() if len(seen) == 1 and len(runs) > 1]
    return [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(shared)}]"] if shared else []


def run_job(cfg: DictConfig) -> float | None:
    """What Hydra calls for each run; never raises but for Ctrl-C. Returns the objective, for sweepers that search."""
    from hydra.core.hydra_config import HydraConfig

    from cnnbench.train import train

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = list(hydra.overrides.task)
    choices = {group: str(choice) for group, choice in hydra.runtime.choices.items() if not group.startswith("hydra/")}
    total = os.environ.get(TOTAL)
    if total is not None:
        varied = re.sub(r",(?![^[]*])", " ", hydra.job.override_dirname)  # a comma in a list stays
        say(f"\n[{hydra.job.num + 1}/{total}] {varied or 'the defaults'}")
    config = resolved(cfg)
    config["threads"] = config["threads"] or _share_of_cores(hydra.launcher.get("n_jobs"), total)
    record = train(config, folder, overrides, choices)
    say(summary(record, folder, short=total is not None))
    if record["status"] == "interrupted":
        raise KeyboardInterrupt
    return record.get("best", {}).get(record["protocol"]["objective"])


def _share_of_cores(jobs: int | None, total: str | None) -> int | None:
    """CPU threads of each of ``jobs`` parallel runs (joblib's n_jobs: negative counts back from all cores); None where
    runs go one after the other."""
    from cnnbench.train import available_cores

    if jobs is None or jobs == 1 or total is None:
        return None
    cores = available_cores()
    at_once = min(jobs if jobs > 0 else max(cores + 1 + jobs, 1), int(total))
    return max(cores // at_once, 1)


def summary(record: dict[str, Any], folder: Path, short: bool) -> str:
    """What a person wants to know of a run that has ended, in a line or a few."""
    if record["status"] != "completed":
        error = record["error"] or {}
        lines = [f"  {record['status']}: {error.get('type')}: {error.get('message')}"]
        if os.environ.get("CNNBENCH_TRACEBACK") == "1":
            lines.append(error.get("traceback", ""))
    else:
        metrics, best, objective = record["metrics"], record["best"], record["protocol"]["objective"]
        lines = [
            f"  test accuracy {metrics['test/accuracy']:.2%}, macro recall {metrics['test/recall']:.2%}, "
            f"loss {metrics['test/loss']:.4f}, with the {record['protocol']['weights']} weights "
            f"(epoch {best['epoch'] + 1}: {objective} {best[objective]:.4f}); {record['time']['fit_seconds']:.1f} s"
        ]
        if record["data"]["validation"] == "test" and record["protocol"]["weights"] == "best":
            lines.append("  note: data.validation=test, so the epoch was selected on the test set, as the reports did")
    if not short:
        lines.append(f"  record       {folder / 'result.json'}\n  tensorboard  tensorboard --logdir {folder}")
    return "\n".join(lines)


def launch(arguments: Sequence[str]) -> int:
    """Run what the command line asks for.

    Args:
        arguments: overrides and Hydra's flags.

    Returns:
        0 when every run completed, 1 when one did not.

    Raises:
        RequestError: before anything ran.
    """
    flags = [text for text in arguments if text.startswith("-")]
    overrides = [text for text in arguments if not text.startswith("-")]
    overrides = expand_globs(overrides)
    asked = plan(overrides, sweep=bool({"-m", "--multirun"} & set(flags)))
    if asked.sweep:
        os.environ[TOTAL] = str(len(asked.runs))
        say(f"{len(asked.runs)} runs, into {asked.folder}")
    interrupted = False
    try:
        through_hydra([*flags, *overrides, *asked.extra])
    except KeyboardInterrupt:
        interrupted = True
    finally:
        os.environ.pop(TOTAL, None)
    if asked.sweep:
        return finish(asked.folder, interrupted)
    try:
        return 0 if read_record(asked.folder)["status"] == "completed" else 1
    except (RecordError, FileNotFoundError):
        return 1


def through_hydra(arguments: Sequence[str]) -> None:
    """Hand the command line to Hydra, which composes, makes folders, sweeps and calls ``run_job``."""
    import hydra

    register_resolvers()
    before = sys.argv
    sys.argv = ["cnnbench", *arguments]
    try:
        hydra.main(version_base=VERSION_BASE, config_path=str(CONFIG_DIR), config_name="config")(run_job)()
    finally:
        sys.argv = before


def finish(folder: Path, interrupted: bool = False) -> int:
    """Print the leaderboard of a sweep and write it and the report; 0 when every run completed, else 1."""
    from cnnbench.results import leaderboard, report
    from cnnbench.results.collect import collect

    runs = collect([folder])
    say(f"\n{leaderboard.to_text(leaderboard.build(runs))}\n")
    if interrupted:
        say(f"interrupted; finished runs are kept. `cnnbench report {folder}` makes the leaderboard and the report")
        return 1
    for path in report.make([folder]):
        say(f"  {path.suffix[1:]:<12} {path}")
    say(f"  {'runs':<12} {folder}\n  {'tensorboard':<12} tensorboard --logdir {folder}")
    return 0 if runs and all(run.status == "completed" for run in runs) else 1


def say(text: str) -> None:
    """Print at once, so that a pipe or a log shows it while the sweep runs."""
    print(text, flush=True)
