"""A sweep: check every run, run what is left by the launcher, compare the results.

What a sweep prints or writes at its end comes from the records on disk, whatever launched its runs.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.core.utils import run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cnnbench.config.compose import explain, resolved
from cnnbench.config.overrides import expand, quoted
from cnnbench.config.schema import check_values
from cnnbench.config.trusted_targets import repeatable
from cnnbench.sweep import plan
from cnnbench.sweep.checks import NEEDS_PROCESS, check_plugins, check_runs, import_for_the_end, on_any_machine
from cnnbench.sweep.job import Job, count_jobs, is_isolated, needs_process, share_of_cores
from cnnbench.sweep.plan import PlannedRun, ended_since
from cnnbench.sweep.pool import Pool
from cnnbench.sweep.process import call_isolated
from cnnbench.sweep.progress import Progress, follow_folders
from cnnbench.sweep.run_summary import ending
from cnnbench.sweep.worker import make_job
from cnnbench.utils.console import print_info, print_result
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import Record
from cnnbench.utils.run_dir import is_locked
from cnnbench.utils.signals import STOP_FILE, handle_stop_signals, stop_requested

ELSEWHERE = ("SlurmLauncher", "RayLauncher")  # whose runs are on other machines


class Sweep:
    """Composes and checks runs, and runs them by the chosen launcher; made of what Hydra gives a sweeper.

    Raises:
        RequestError: a launcher is not installed, or one of its values or the sweeper's is wrong.
    """

    def __init__(self, config: DictConfig, context: HydraContext, task: TaskFunction) -> None:
        self.config, self.context, self.task = config, context, task
        check_plugins(config.hydra)
        check_values({"hydra": config.hydra})
        self.launcher = str(config.hydra.launcher.get("_target_"))
        self.is_local = self.launcher.endswith(".LocalLauncher")
        self.jobs = count_jobs(config.hydra.launcher.n_jobs) if self.is_local else 1
        # runs tell how they go by themselves, one after the other
        self.in_turn = self.jobs == 1 and (self.is_local or "BasicLauncher" in self.launcher)
        self.command = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
        self.folder = Path(str(config.hydra.sweep.dir))
        self.total, self.began = 0, 0.0
        self.progress: Progress | None = None

    def compose(self, overrides: Sequence[str], label: str = "", number: int = 0) -> PlannedRun:
        """Compose a run and check its values.

        Raises:
            RequestError: it cannot be composed, or a value cannot be.
        """
        try:
            cfg = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(cfg):
                cfg.hydra.job.id = cfg.hydra.job.num = number
            folder = str(OmegaConf.select(cfg, "hydra.sweep.subdir"))
            run = PlannedRun(list(overrides), cfg, resolved(cfg), folder, label, number=number + 1)
        except (HydraException, OmegaConfBaseException) as error:
            raise RequestError(explain(error, overrides)) from error
        check_values(run.config)
        options = run.config["sweep"]
        if not options["isolate"] and (self.jobs > 1 or needs_process(options)):
            raise RequestError(NEEDS_PROCESS)
        return run

    def check(self, runs: Sequence[PlannedRun]) -> None:
        """Build what the runs name, in a process of its own, so that this one does not import torch.

        Raises:
            RequestError: something cannot be built.
        """
        configs = [run.config for run in runs]
        if any(name in self.launcher for name in ELSEWHERE):
            configs = [on_any_machine(config) for config in configs]
        if not configs or not runs[0].config["sweep"]["isolate"]:
            check_runs(configs)
        else:
            threading.Thread(target=import_for_the_end, daemon=True).start()
            call_isolated(check_runs, configs)

    def settle_folder(self) -> Path:
        """Make the folder, a new one where the command names none, and return it."""
        if not any(text.startswith("hydra.sweep.dir=") for text in self.command):
            self.folder = plan.own_folder(self.folder)
        where = str(self.folder if self.is_local else self.folder.absolute())  # workers may have another working folder
        with open_dict(self.config):
            self.config.hydra.sweep.dir = where
            self.config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(where)}")  # for what is composed from it
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        return self.folder

    @contextmanager
    def running(self, left: int, total: int, objective: str) -> Iterator[None]:
        """Within this, ``left`` of ``total`` runs may be launched, signals ask for a stop, and the progress is shown."""
        self.total, self.began = total, time.time()
        stop = self.folder.absolute() / STOP_FILE
        stop.unlink(missing_ok=True)
        if not self.in_turn:
            self.progress = Progress(left, objective)
        try:
            with handle_stop_signals(file=stop, write=True):
                yield
        finally:
            stop.unlink(missing_ok=True)
            if self.progress is not None:
                self.progress.close()

    def launch(self, runs: Sequence[PlannedRun]) -> None:
        """Run these, and return when all have ended or a stop was asked for."""
        options = runs[0].config["sweep"]
        if not self.is_local:
            self._launch_by_another(runs)
        elif is_isolated(options):
            poll = self.progress.show if self.progress is not None else lambda: None
            pool = Pool(self.jobs, options["runs_per_gpu"], self._ended, to_files=not self.in_turn, poll=poll)
            pool.run(self._jobs(runs))
        else:
            for job in self._jobs(runs):
                self._ended(job.folder, job.run())
                if stop_requested() is not None:
                    return

    def _jobs(self, runs: Sequence[PlannedRun]) -> Iterator[Job]:
        """Each run, its folder made, when it is about to be started."""
        for run in runs:
            folder = (self.folder / run.folder).absolute()
            record = ended_since(folder, self.began)  # by another process, meanwhile
            if record is not None and record["status"] != "interrupted":
                self._ended(folder, record)
            elif is_locked(folder):
                print_result(f"  {run.folder}: another process is running this")
            else:
                with open_dict(run.cfg):
                    run.cfg.hydra.sweep.update(dir=self.config.hydra.sweep.dir, subdir=run.folder)
                    run.cfg.threads = run.cfg.threads or share_of_cores(self.jobs, len(runs))
                made = run_job(make_job, run.cfg, "hydra.sweep.dir", "hydra.sweep.subdir", self.context, False)
                if self.in_turn:
                    print_info(f"\n[{run.number}/{self.total}] {run.label or 'the defaults'}")
                elif self.progress is not None:
                    self.progress.start(folder)
                yield made.return_value

    def _ended(self, folder: Path, record: Record) -> None:
        if self.progress is not None:
            self.progress.end(folder, record)
        else:
            print_result(ending(record, folder, short=True))

    def _launch_by_another(self, runs: Sequence[PlannedRun]) -> None:
        """By a launcher of Hydra's or of a plugin, which composes and makes folders itself."""
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.config
        )
        folders = [self.folder.absolute() / run.folder for run in runs]
        with nullcontext() if self.progress is None else follow_folders(self.progress, folders):
            try:
                launcher.launch([run.command() for run in runs], initial_job_idx=runs[0].number - 1)
            except Exception as error:  # what launchers raise has no common kind
                print_result(f"the launcher gave up: {type(error).__name__}: {error}")


def sweep_grid(sweep: Sweep, arguments: Sequence[str], dry_run: bool) -> int:
    """Run what is left of a grid, or only check it; returns 0 when every run has completed, else 1.

    Raises:
        RequestError: before anything was started.
        KeyboardInterrupt: a signal asked for a stop; what had been done is kept, and the end has been printed.
    """
    by_fingerprint = _compose_all(sweep, arguments)
    first = next(iter(by_fingerprint.values()))
    options = first.config["sweep"]
    sweep.folder = Path(str(OmegaConf.select(first.cfg, "hydra.sweep.dir")))
    known = plan.read_plan(sweep.folder)
    for command in known["commands"] if options["earlier"] else ():
        kept = repeatable(command, str(sweep.folder / plan.FILE))
        more = _compose_all(sweep, [text for text in kept if not text.startswith("hydra")])
        by_fingerprint |= {key: run for key, run in more.items() if key not in by_fingerprint}
    runs = list(by_fingerprint.values())
    plan.assign_folders(runs, sweep.folder, known["runs"])
    sweep.check([run for run in runs if run.left(options["repeat_failed"])])
    if dry_run:
        return 0
    sweep.settle_folder()
    plan.write_plan(sweep.folder, sweep.command, runs, known["runs"])
    left = [run for run in runs if run.left(options["repeat_failed"])]
    print_info(f"{plan.describe(runs, options['repeat_failed'])}; in {sweep.folder}")
    if not left:
        return finish(sweep.folder, runs)
    for number, run in enumerate(left, start=len(runs) - len(left) + 1):
        run.number = number
    with sweep.running(len(left), len(runs), left[0].config["objective"]):
        sweep.launch(left)
        interrupted = stop_requested() is not None
    return finish(sweep.folder, runs, interrupted)


def _compose_all(sweep: Sweep, arguments: Sequence[str]) -> dict[tuple[str, int], PlannedRun]:
    """The runs of one command, whose folders are named by what varies, each by its fingerprint and how many runs before
    it have that: a sweep over settings that change no result, such as steps_per_execution, has such runs."""
    commands = expand(arguments)
    values: dict[str, set[str]] = {}
    for key, _, value in (text.partition("=") for overrides in commands for text in overrides):
        values.setdefault(key.lstrip("+~"), set()).add(value)
    shared = {key for key, seen in values.items() if len(seen) == 1} if len(commands) > 1 else set()
    names = [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(shared)}]"] if shared else []
    count: Counter[str] = Counter()
    runs = {}
    for number, overrides in enumerate(commands):
        varied = [text for text in overrides if text.partition("=")[0].lstrip("+~") not in shared]
        run = sweep.compose([*overrides, *names], " ".join(varied), number)
        runs[run.fingerprint, count[run.fingerprint]] = run
        count[run.fingerprint] += 1
    return runs


def finish(folder: Path, runs: Sequence[PlannedRun] = (), interrupted: bool = False) -> int:
    """Print the leaderboard of a sweep and write it and the report; 0 when every run, planned or there, completed, else 1.

    Raises:
        KeyboardInterrupt: the sweep was interrupted, so that whoever sweeps more than once, as reproduce does, stops.
    """
    from cnnbench.analysis.leaderboard import build
    from cnnbench.analysis.report import write as report
    from cnnbench.analysis.report.text import leaderboard_text
    from cnnbench.analysis.runs import collect, read_run

    try:
        collected = collect([folder])
        print_result(f"\n{leaderboard_text(build(collected))}\n")
    except RequestError:  # stopped before the first began
        collected = []
    if interrupted:
        print_result(f"interrupted; what has been done is kept. `cnnbench resume {folder}` goes on")
        raise KeyboardInterrupt
    for path in report.build([folder]).write(folder) if collected else ():
        print_result(f"  {path.suffix[1:]:<12} {path}")
    print_result(f"  {'runs':<12} {folder}\n  {'tensorboard':<12} cnnbench tensorboard {folder}")
    planned = [read_run(folder / run.folder) for run in runs]
    if collected and all(run.completed or run.pruned for run in (*collected, *planned)):
        return 0
    print_result(
        f"not all runs completed: `cnnbench resume {folder}` goes on, with sweep.repeat_failed=true failed ones too"
    )
    return 1
