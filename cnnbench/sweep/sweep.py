"""A sweep: check every run, run what is left by the launcher, compare the results.

What a sweep prints or writes at its end comes from the records on disk, whatever launched its runs.
"""

import os
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.core.utils import run_job
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from cnnbench.config.compose import COMPOSE_ERRORS, Composer, explain, resolved
from cnnbench.config.overrides import override_key, quoted
from cnnbench.config.schema import check_values
from cnnbench.sweep import plan
from cnnbench.sweep.job import Job, check_options, check_runs, count_jobs, is_isolated, make_job, share_of_cores
from cnnbench.sweep.plan import PlannedRun
from cnnbench.sweep.pool import Pool
from cnnbench.sweep.process import call_isolated
from cnnbench.sweep.progress import Progress, ended_since, follow_folders
from cnnbench.sweep.run_summary import given_up
from cnnbench.training.same_data import refuse_changed_data
from cnnbench.utils.console import print_result
from cnnbench.utils.environment import idle_cores
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RECORD_FILE, SWEEP_CONFIG_FILE
from cnnbench.utils.run_dir import is_locked
from cnnbench.utils.signals import STOP_FILE, handle_stop_signals, stop_requested

ELSEWHERE = ("SlurmLauncher", "RayLauncher")  # whose runs are on other machines
Runs = dict[tuple[str, int], PlannedRun]  # by fingerprint and how many before have it, or by configuration and seed


class Sweep:
    """Composes and checks runs, and runs them by the chosen launcher; made of what Hydra gives a sweeper. Raises
    RequestError where a launcher is not installed, one of its values or the sweeper's is wrong, or the folder is a run's."""

    def __init__(self, config: DictConfig, context: HydraContext, task: TaskFunction) -> None:
        self.config, self.context, self.task = config, context, task
        for kind in ("launcher", "sweeper"):
            module, _, name = str(config.hydra[kind].get("_target_")).rpartition(".")
            try:
                import_module("optuna" if name == "OptunaSweeper" else module)
            except ImportError as error:
                choice = config.hydra.runtime.choices[f"hydra/{kind}"]
                wrong = f"hydra/{kind}={choice} needs a package that is not installed"
                raise RequestError(f"{wrong} ({error}): pip install 'cnnbench[{choice}]'") from error
        check_values({"hydra": config.hydra})
        self.launcher = str(config.hydra.launcher.get("_target_"))
        self.is_local = self.launcher.endswith(".LocalLauncher")
        self.jobs = count_jobs(config.hydra.launcher.n_jobs) if self.is_local else 1
        # then each run prints its own course
        self.in_turn = self.jobs == 1 and (self.is_local or "BasicLauncher" in self.launcher)
        self.command = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
        self.folder = Path(str(config.hydra.sweep.dir))
        self.composer = Composer(lambda texts: context.config_loader.load_configuration("config", texts, RunMode.RUN))
        self.is_named = any(text.startswith("hydra.sweep.dir=") for text in self.command)
        is_run = (self.folder / RECORD_FILE).exists() or (self.folder / ".hydra").is_dir()
        if self.is_named and is_run and not (self.folder / plan.FILE).exists():
            raise RequestError(f"{self.folder} holds a run; choose another folder for a sweep")

    def compose(self, overrides: Sequence[str], label: str = "", number: int = 0) -> PlannedRun:
        """Compose a run and check its values; raises RequestError."""
        try:
            cfg = self.composer([*self.config.hydra.overrides.hydra, *overrides])
            OmegaConf.copy_cache(self.config, cfg)  # of one time
            with open_dict(cfg):
                cfg.hydra.job.id = cfg.hydra.job.num = number
            folder = str(OmegaConf.select(cfg, "hydra.sweep.subdir"))
            run = PlannedRun(list(overrides), cfg, resolved(cfg), folder, label, number=number + 1)
        except COMPOSE_ERRORS as error:
            raise RequestError(explain(error, overrides)) from error
        check_options(run.config, self.jobs)
        for key in ("until", "practical", "max_seeds", "baseline"):
            if run.config["sweep"][key] != self.config.sweep[key]:
                raise RequestError(f"sweep.{key} is of the whole sweep: it can be no part of what varies ({label})")
        return run

    def check(self, runs: Sequence[PlannedRun], repeat_failed: bool) -> None:
        """Build what the runs that are left name, in a process of its own, so that this one need not import torch;
        raises RequestError, also where one that has begun would go on with other images."""
        configs = [run.config for run in runs if run.left(repeat_failed)]
        elsewhere = self.launcher.endswith(ELSEWHERE)
        if not configs or not is_isolated(configs[0]["sweep"]):
            check_runs(configs, elsewhere)
        else:
            threading.Thread(target=_import_for_the_end, daemon=True).start()
            call_isolated(check_runs, configs, elsewhere)
        refuse_changed_data((run.config, self.folder / run.folder) for run in runs if run.state != "new")

    def settle_folder(self) -> Path:
        """Make the folder, a new one where the command names none, and return it."""
        if not self.is_named:
            self.folder = plan.own_folder(self.folder)
        where = str(self.folder if self.is_local else self.folder.absolute())  # workers may have another working folder
        with open_dict(self.config):
            self.config.hydra.sweep.dir = where
            self.config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(where)}")  # for what is composed from it
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.folder / SWEEP_CONFIG_FILE)
        return self.folder

    @contextmanager
    def running(self, left: int, total: int, objective: str, is_search: bool = False) -> Iterator[None]:
        """Within this, ``left`` of ``total`` runs may be launched, signals ask for a stop, and the progress is shown."""
        self.total, self.progress = total, Progress(left, objective, self.in_turn)
        stop = self.folder.absolute() / STOP_FILE
        stop.unlink(missing_ok=True)
        if self.is_local:  # once for all runs, so that they have equally many threads
            os.environ.setdefault("OMP_NUM_THREADS", str(idle_cores()))
        try:
            with handle_stop_signals(file=stop, write=True):
                yield
                self.interrupted = stop_requested() is not None
        finally:
            stop.unlink(missing_ok=True)
            self.progress.close()
            if self.progress.has_given_up():
                print_result(f"\n{given_up(self.progress.failures, self.folder, is_search)}")

    def launch(self, runs: Sequence[PlannedRun]) -> None:
        """Run these, and return when all have ended or a stop was asked for."""
        options, jobs = runs[0].config["sweep"], self._jobs(runs)
        self.progress.stop_on_failure = options["stop_on_failure"]
        if not self.is_local:
            self._launch_by_another(runs)
            return
        if is_isolated(options):
            ended = Pool(self.jobs, options["runs_per_gpu"], not self.in_turn, self.progress.show).run(jobs)
        else:
            ended = ((job.folder, job.run()) for job in jobs)
        for folder, record in ended:
            self.progress.end(folder, record)

    def _jobs(self, runs: Sequence[PlannedRun]) -> Iterator[Job]:
        """Each run, its folder made, when it is about to be started; none after a stop was asked for, or too many have
        failed."""
        for run in runs:
            if stop_requested() is not None or self.progress.has_given_up():
                return
            folder = (self.folder / run.folder).absolute()
            record = ended_since(folder, self.progress.began)  # by another process, meanwhile
            if record is not None and record["status"] != "interrupted":
                self.progress.end(folder, record)
            elif is_locked(folder):
                print_result(f"  {run.folder}: another process is running this")
            else:
                with open_dict(run.cfg):
                    run.cfg.hydra.sweep.update(dir=self.config.hydra.sweep.dir, subdir=run.folder)
                    run.cfg.threads = run.cfg.threads or share_of_cores(self.jobs, len(runs))
                made = run_job(make_job, run.cfg, "hydra.sweep.dir", "hydra.sweep.subdir", self.context, False)
                self.progress.start(folder, f"[{run.number}/{self.total}] {run.label or 'the defaults'}")
                yield made.return_value

    def _launch_by_another(self, runs: Sequence[PlannedRun]) -> None:
        """By a launcher of Hydra's or of a plugin, which composes and makes folders itself."""
        make = Plugins.instance().instantiate_launcher
        launcher = make(hydra_context=self.context, task_function=self.task, config=self.config)
        if self.progress.has_given_up():
            return
        self.progress.stop_file = self.folder.absolute() / STOP_FILE
        folders = [self.folder.absolute() / run.folder for run in runs]
        commands = [[*run.overrides, f"hydra.sweep.subdir={quoted(run.folder)}"] for run in runs]
        with nullcontext() if self.in_turn else follow_folders(self.progress, folders):
            try:
                launcher.launch(commands, initial_job_idx=runs[0].number - 1)
            except Exception as error:  # what launchers raise has no common kind
                print_result(f"the launcher gave up: {type(error).__name__}: {error}")


def _import_for_the_end() -> None:
    """Import what the report of a sweep needs; where it is missing, the report says so."""
    with suppress(ImportError):
        for name in ("matplotlib.backends.backend_svg", "pandas", "scipy.stats"):
            import_module(name)


def shared_keys(commands: Sequence[Sequence[str]]) -> set[str]:
    """The keys that all runs, of which there are several, set to the same value: they are not in their folders' names. An
    experiment stays, so that its runs are named alike whichever others are swept with it."""
    values = [{override_key(text): text.partition("=")[2] for text in overrides} for overrides in commands]
    same = {key for key in values[0] if len({run.get(key) for run in values}) == 1 < len(values)}
    return same - {"experiment"}


def compose_all(sweep: Sweep, commands: Sequence[Sequence[str]], shared: Collection[str]) -> Runs:
    """The runs of one command, whose folders are named by what is not ``shared``, each by its fingerprint and how many runs
    before it have that: a sweep over settings that change no result, such as steps_per_execution, has such runs. What is
    written twice, as in ``optimizer.lr=0.1,1e-1``, is one run."""
    names = [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(shared)}]"] if shared else []
    count: Counter[str] = Counter()
    runs = Runs()
    for number, overrides in enumerate(commands):
        varied = [text for text in overrides if override_key(text) not in shared]
        run = sweep.compose([*overrides, *names], " ".join(varied), number)
        if run.config in [runs[run.fingerprint, earlier].config for earlier in range(count[run.fingerprint])]:
            continue
        runs[run.fingerprint, count[run.fingerprint]] = run
        count[run.fingerprint] += 1
    return runs
