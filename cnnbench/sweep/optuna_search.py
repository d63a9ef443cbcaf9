"""A search: Optuna draws the configurations, the launcher runs them, a few at a time.

The axes are overrides in Hydra's syntax: ``optimizer=sgd,adam`` and ``choice(...)`` are choices, ``range(1,5)`` is its
whole numbers, ``interval(0,0.5)`` a real number, ``int(interval(1,64))`` a whole one, and ``tag(log,interval(1e-4,1))``
is drawn uniformly in the logarithm. The study lies in the sweep's folder; each run reports its epochs to it
(``cnnbench.training.callbacks.Pruning``). A search that was killed first resumes the runs that it had begun.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from cnnbench.analysis.metric_names import higher_is_better
from cnnbench.analysis.runs import PRUNED
from cnnbench.analysis.search import SEARCH_FILE
from cnnbench.config.compose import run_folder
from cnnbench.config.overrides import parse as parse_override
from cnnbench.config.overrides import quoted
from cnnbench.sweep import plan
from cnnbench.sweep.job import count_jobs
from cnnbench.sweep.run_summary import finish
from cnnbench.sweep.sweep import Sweep
from cnnbench.training.pruner import STUDY, find_trial, make_pruner, open_storage
from cnnbench.utils.console import print_info
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import Record, RecordError, read_record, write_atomically
from cnnbench.utils.signals import stop_requested

if TYPE_CHECKING:
    import optuna

FEWEST_FOR_WILCOXON = 5  # Optuna's threshold is p < 0.1, and four pairs can have 1/16
JOURNAL, DATABASE = "search.log", "search.db"  # the latter of version 1


@dataclass(frozen=True)
class Axis:
    """One thing that varies: among ``choices`` (as they stand on a command line), or from ``low`` to ``high``."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """What Optuna draws from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def override(self, value: Any) -> str:
        """A value as it stands on a command line: a real number with six significant digits."""
        if self.choices and value not in self.choices:  # a journal may come from anywhere
            raise RequestError(
                f"the search has drawn {value!r} for {self.key}, which is none of {', '.join(self.choices)}"
            )
        if not self.choices:
            value = int(value) if self.whole else f"{float(value):.6g}"
        return f"{self.key}={value}"


def parse(overrides: Sequence[str]) -> tuple[list[str], list[Axis]]:
    """The overrides that all runs share, and the axes; raises RequestError where one cannot be read, or its ends are not in
    order."""
    fixed, axes = [], []
    for text in overrides:
        override = parse_override(text)
        key, sweep = override.get_key_element(), cast(Any, override.value())
        if not override.is_sweep_override():
            fixed.append(text)
        elif not override.is_interval_sweep():
            axes.append(Axis(key, tuple(str(value) for value in override.sweep_string_iterator())))
        else:
            low, high, log = sweep.start, sweep.end, "log" in sweep.tags
            if unknown := sweep.tags - {"log"}:
                raise RequestError(f"{text}: the tag is {', '.join(sorted(unknown))}; there is log alone")
            if not low < high or (log and low <= 0):
                both = ", both above 0" if log else ""
                raise RequestError(f"{text}: an interval goes from a smaller to a larger number{both}")
            whole = isinstance(low, int) and isinstance(high, int) and "int(" in text
            axes.append(Axis(key, (), float(low), float(high), log, whole))
    return fixed, axes


def corners(overrides: Sequence[str]) -> list[list[str]]:
    """Runs that have every choice and both ends of each interval in them, each at least once."""
    fixed, axes = parse(overrides)
    ends = {axis.key: [axis.override(value) for value in axis.choices or (axis.low, axis.high)] for axis in axes}
    most = max(map(len, ends.values()), default=1)
    return [[*fixed, *(texts[min(number, len(texts) - 1)] for texts in ends.values())] for number in range(most)]


class Search:
    """A study in a sweep's folder: draws trials, and reads how their runs have ended.

    Args:
        arguments: the sweep's overrides, fixed ones and axes.
        objective: the metric to be best at; epochs: that a run trains.
        n_trials: runs in all; at_a_time: runs that are drawn and launched together.
        sampler: ``tpe`` (tree-structured Parzen estimator; Bergstra et al. 2011), ``random`` or ``qmc`` (Sobol).
        pruner, startup_trials: as ``make_pruner`` has them; so many trials are drawn at random.
        seed: of the draws.
        seeds: runs of a trial, whose value is their mean; ``first_seed`` is that of the first.

    Raises RequestError where the folder holds a search over something else.
    """

    def __init__(
        self, folder: Path, arguments: Sequence[str], objective: str, epochs: int, *, n_trials: int, at_a_time: int = 1,
        sampler: str = "tpe", pruner: str = "median", startup_trials: int = 10, seed: int = 0, seeds: int = 1,
        first_seed: int = 0,
    ) -> None:  # fmt: skip
        import optuna

        self.seeds, self.by_seed = range(first_seed, first_seed + seeds), pruner == "wilcoxon"
        self.folder, self.objective = folder, objective
        self.fixed, self.axes = parse(arguments)
        self.n_trials, self.at_a_time = n_trials, at_a_time
        self.path = folder.absolute() / (DATABASE if (folder / DATABASE).exists() else JOURNAL)
        self.pruning = f"pruner:{pruner},startup_trials:{startup_trials}"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        self.storage = open_storage(self.path)
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=STUDY,
            load_if_exists=True,
            direction="maximize" if higher_is_better(objective) else "minimize",
            pruner=make_pruner(pruner, startup_trials, epochs),
        )
        samplers: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
            "tpe": partial(optuna.samplers.TPESampler, n_startup_trials=startup_trials, constant_liar=at_a_time > 1),
            "random": optuna.samplers.RandomSampler,
            "qmc": optuna.samplers.QMCSampler,
        }
        # a search that goes on does not draw the same again
        self.study.sampler = samplers[sampler](seed=seed + len(self.study.get_trials(deepcopy=False)))
        space = json.loads(json.dumps({"objective": objective, "axes": [vars(axis) for axis in self.axes]}))
        if seeds > 1:
            space |= {"seeds": [*self.seeds]}
        if self.study.user_attrs.get("asked", space) != space:
            raise RequestError(f"{folder} holds a search over something else; choose another folder")
        self.study.set_user_attr("asked", space)

    def count_left(self) -> int:
        """How many trials have not ended, or not been drawn."""
        return self.n_trials - sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def next_batch(self) -> list[optuna.Trial]:
        """Trials that a killed search had begun, else new ones; none when all have ended."""
        there = self.study.get_trials(deepcopy=False)
        begun = [find_trial(self.study, self.storage, one.number) for one in there if not one.state.is_finished()]
        if begun:
            return begun[: self.at_a_time]
        space = {axis.key: axis.distribution() for axis in self.axes}
        return [self.study.ask(space) for _ in range(min(self.at_a_time, self.n_trials - len(there)))]

    def varied(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> list[str]:
        """What the trial has drawn, as overrides."""
        return [axis.override(trial.params[axis.key]) for axis in self.axes if axis.key in trial.params]

    def label(self, trial: optuna.Trial, seed: int) -> str:
        """What the terminal says of the run."""
        return " ".join([*self.varied(trial), *([f"seed={seed}"] if len(self.seeds) > 1 else [])])

    def run_name(self, trial: optuna.Trial | optuna.trial.FrozenTrial, seed: int | None = None) -> str:
        """The folder of the trial's run, of several that with this seed (the first)."""
        own = [f"seed={self.seeds[0] if seed is None else seed}"] if len(self.seeds) > 1 else []
        return run_folder(",".join([f"trial={trial.number}", *self.varied(trial), *own]))

    def overrides(self, trial: optuna.Trial, seed: int | None = None) -> list[str]:
        """The overrides of the trial's run, or of that with this seed: one of several does not report its epochs."""
        own = f"sweep.trial={{number:{trial.number},storage:{quoted(self.path)},{self.pruning}}}"
        own = f"seed={seed}" if len(self.seeds) > 1 else own
        return [*self.fixed, *self.varied(trial), own, f"hydra.sweep.subdir={quoted(self.run_name(trial, seed))}"]

    def records(self, trial: optuna.Trial) -> dict[int, Record]:
        """The records of the trial's runs that have ended, by seed; one that was stopped, so that it is resumed, has not."""
        ended = {}
        for seed in self.seeds:
            with suppress(FileNotFoundError, RecordError):
                record = read_record(self.folder / self.run_name(trial, seed))
                if record["status"] != "interrupted" or _is_pruned(record):
                    ended[seed] = record
        return ended

    def seeds_left(self, trial: optuna.Trial) -> list[int]:
        """The seeds to run next: one after the other where the pruner looks after each, none where the trial is over."""
        ended = self.records(trial)
        left = [seed for seed in self.seeds if seed not in ended]
        over = any(record["status"] != "completed" for record in ended.values()) or self.is_behind(trial, ended)
        return [] if over else left[: 1 if self.by_seed else None]

    def is_behind(self, trial: optuna.Trial, ended: Mapping[int, Record]) -> bool:
        """Report each seed's value; whether the pruner ends the trial before its last seed."""
        if not self.by_seed:
            return False
        known = self.study.trials[trial.number].intermediate_values
        for step, record in enumerate(ended.values()):
            if step not in known and record["status"] == "completed":
                trial.report(record["best"][self.objective], step)
        return len(ended) < len(self.seeds) and trial.should_prune()

    def tell(self, trial: optuna.Trial) -> bool:
        """Tell the study how the trial's runs have ended; False where they have not, so that they are resumed."""
        from optuna.trial import TrialState

        ended = self.records(trial)
        statuses = {record["status"] for record in ended.values()}
        if not ended or self.seeds_left(trial):
            return False
        if statuses == {"completed"} and len(ended) == len(self.seeds):
            self.study.tell(trial.number, fmean(record["best"][self.objective] for record in ended.values()))
        elif "failed" in statuses:
            self.study.tell(trial.number, state=TrialState.FAIL)
        else:
            self.study.tell(trial.number, state=TrialState.PRUNED)
        return True

    def write(self) -> None:
        """``search.json``, which the report is made from: every trial, and the share of the variance over the completed
        ones that each axis explains (Hutter et al. 2014)."""
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        trials = [
            {
                "number": one.number,
                "state": one.state.name.lower(),
                "value": one.value if one.state.name == "COMPLETE" else None,
                "epochs": len(one.intermediate_values),
                "folder": self.run_name(one),
                "parameters": one.params,
            }
            for one in self.study.get_trials(deepcopy=False)
        ]
        result = {"objective": self.objective, "asked": self.n_trials, "seeds": len(self.seeds), "trials": trials,
                  "importance": {}}  # fmt: skip
        with suppress(RuntimeError, ValueError):  # fewer than two have completed, or all alike
            result["importance"] = get_param_importances(self.study, evaluator=FanovaImportanceEvaluator(seed=0))
        write_atomically(self.folder / SEARCH_FILE, json.dumps(result, indent=1) + "\n")


def sweep_by_optuna(sweep: Sweep, arguments: Sequence[str], options: Mapping[str, Any]) -> int:
    """Run trials until ``n_trials`` have ended or a stop is asked for; returns and raises as ``sweep_grid`` does.

    Before it starts, runs are checked that have every choice and both ends of each interval in them.
    """
    ends = [sweep.compose(overrides) for overrides in corners(arguments)]
    if ends[0].config["sweep"]["until"] is not None:
        raise RequestError("sweep.until=decided adds seeds to a grid; a search has hydra.sweeper.seeds (leave one out)")
    sweep.check(ends)
    check_seeds(options["seeds"], options["pruner"], parse(arguments)[1])
    print_info(f"a search; in {sweep.settle_folder()}")
    config, at_a_time = ends[0].config, count_jobs(options["at_a_time"])
    epochs, more = config["trainer"]["max_epochs"], {"at_a_time": at_a_time, "first_seed": config["seed"]}
    search = Search(sweep.folder, arguments, config["objective"], epochs, **{**options, **more})
    plan.write_plan(sweep.folder, sweep.command)
    runs: list[plan.PlannedRun] = []
    count = len(search.seeds)
    with sweep.running(count * search.count_left(), count * search.n_trials, search.objective):
        while stop_requested() is None and (batch := search.next_batch()):
            runs += _run(sweep, search, batch)
            ended = [search.tell(trial) for trial in batch]
            search.write()
            if not any(ended):
                break
        interrupted = stop_requested() is not None
    return finish(sweep.folder, runs, interrupted)


def _run(sweep: Sweep, search: Search, batch: Sequence[optuna.Trial]) -> list[plan.PlannedRun]:
    """Run the seeds of these trials, until none is left or a stop is asked for."""
    runs: list[plan.PlannedRun] = []
    while left := [(trial, seed) for trial in batch for seed in search.seeds_left(trial)]:
        drawn = []
        for trial, seed in left:
            number = len(search.seeds) * trial.number + seed - search.seeds[0]
            drawn.append(sweep.compose(search.overrides(trial, seed), search.label(trial, seed), number))
        sweep.launch(drawn)
        runs += drawn
        if stop_requested() is not None or not any(seed in search.records(trial) for trial, seed in left):
            break  # or the launcher gave up, or another process has them
    return runs


def _is_pruned(record: Record) -> bool:
    return record["status"] == "diverged" or (record.get("error") or {}).get("type") == PRUNED


def check_seeds(seeds: int, pruner: str, axes: Iterable[Axis]) -> None:
    """Raise RequestError where a trial of so many runs makes no sense."""
    if seeds > 1 and any(axis.key == "seed" for axis in axes):
        raise RequestError("hydra.sweeper.seeds gives each trial the same seeds, so seed cannot be searched over")
    if seeds > 1 and pruner in ("median", "halving"):
        raise RequestError(f"hydra.sweeper.pruner={pruner} compares the epochs of single runs; with hydra.sweeper.seeds={seeds} "
                           "take wilcoxon or none")  # fmt: skip
    if pruner == "wilcoxon" and seeds < FEWEST_FOR_WILCOXON:
        raise RequestError(f"hydra.sweeper.pruner=wilcoxon needs hydra.sweeper.seeds of at least {FEWEST_FOR_WILCOXON}: it ends "
                           "no trial before the fourth")  # fmt: skip
