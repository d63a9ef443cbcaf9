"""A search: Optuna draws the configurations, the launcher runs them, a few at a time.

The study lies in the sweep's folder; a trial of one run reports its epochs to it (``cnnbench.training.callbacks.Pruning``), one
of several seeds the value of each. A search that was killed first resumes the trials that it had begun.
"""

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from cnnbench.analysis.metric_names import higher_is_better
from cnnbench.analysis.runs import PRUNED
from cnnbench.analysis.search import SEARCH_FILE
from cnnbench.config.overrides import override_key, quoted
from cnnbench.config.resolvers import run_folder
from cnnbench.config.settings import SEED, SPLIT
from cnnbench.sweep import plan
from cnnbench.sweep.job import count_jobs
from cnnbench.sweep.run_summary import finish
from cnnbench.sweep.search_space import corners, override, parse
from cnnbench.sweep.sweep import Sweep
from cnnbench.training.pruner import STUDY, find_trial, make_pruner, open_storage
from cnnbench.utils.console import print_info, print_result
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import Record, RecordError, read_record, write_atomically
from cnnbench.utils.signals import stop_requested

JOURNAL = "search.log"


class Search:
    """A study in a sweep's folder: draws trials, and reads how their runs have ended.

    Args:
        arguments: the sweep's overrides, fixed ones and axes.
        objective: the metric to be best at; epochs: that a run trains.
        n_trials: trials in all; at_a_time: trials that are drawn and run together.
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
        self.folder, self.objective, self.seeds = folder, objective, range(first_seed, first_seed + seeds)
        self.fixed, self.axes = parse(arguments)
        self.n_trials, self.at_a_time = n_trials, at_a_time
        self.path = folder.absolute() / JOURNAL
        self.pruning = f"pruner:{pruner},startup_trials:{startup_trials}"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        self.storage = open_storage(self.path)
        self.study = optuna.create_study(
            storage=self.storage, study_name=STUDY, load_if_exists=True,
            direction="maximize" if higher_is_better(objective) else "minimize",
            pruner=make_pruner(pruner, startup_trials, epochs),
        )  # fmt: skip
        samplers: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
            "tpe": partial(optuna.samplers.TPESampler, n_startup_trials=startup_trials, constant_liar=at_a_time > 1),
            "random": optuna.samplers.RandomSampler,
            "qmc": optuna.samplers.QMCSampler,
        }
        self.make_sampler, self.seed = samplers[sampler], seed
        axes = {key: optuna.distributions.distribution_to_json(of) for key, of in self.axes.items()}
        space = {"objective": objective, "axes": axes, "seeds": [*self.seeds] if seeds > 1 else []}
        if self.study.user_attrs.get("asked", space) != space:
            raise RequestError(f"{folder} holds a search over something else; choose another folder")
        self.study.set_user_attr("asked", space)

    def count_left(self) -> int:
        """How many trials have not ended, or not been drawn."""
        return self.n_trials - sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def next_batch(self) -> list[Trial]:
        """Trials that a killed search had begun, else new ones; none when all have ended."""
        there = self.study.get_trials(deepcopy=False)
        begun = [find_trial(self.study, self.storage, one.number) for one in there if not one.state.is_finished()]
        if begun:
            return begun[: self.at_a_time]
        return [self._draw(number) for number in range(len(there), min(len(there) + self.at_a_time, self.n_trials))]

    def _draw(self, number: int) -> Trial:
        own = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        self.study.sampler = self.make_sampler(seed=own)  # by number, so that a resumed search draws what it would have
        return self.study.ask(self.axes)

    def varied(self, trial: Trial | FrozenTrial) -> list[str]:
        """What the trial has drawn, as overrides."""
        return [override(key, of, trial.params[key]) for key, of in self.axes.items() if key in trial.params]

    def run_name(self, trial: Trial | FrozenTrial, seed: int | None = None) -> str:
        """The folder of the trial's run with this seed; of a single run without."""
        own = [f"seed={seed}"] if len(self.seeds) > 1 else []
        return run_folder(",".join([f"trial={trial.number}", *self.varied(trial), *own]))

    def overrides(self, trial: Trial, seed: int | None = None) -> list[str]:
        """The overrides of the trial's run with this seed: a single one reports its epochs."""
        own = f"sweep.trial={{number:{trial.number},storage:{quoted(self.path)},{self.pruning}}}"
        own = f"seed={seed}" if len(self.seeds) > 1 else own
        return [*self.fixed, *self.varied(trial), own, f"hydra.sweep.subdir={quoted(self.run_name(trial, seed))}"]

    def records(self, trial: Trial) -> dict[int, Record]:
        """The records of the trial's runs that have ended, by seed; one that was stopped, so that it is resumed, has not."""
        ended = {}
        for seed in self.seeds:
            with suppress(FileNotFoundError, RecordError):
                record = read_record(self.folder / self.run_name(trial, seed))
                if record["status"] != "interrupted" or (record.get("error") or {}).get("type") == PRUNED:
                    ended[seed] = record
        return ended

    def _value(self, record: Record) -> float:
        """The objective of a run; NaN, which records cannot have and Optuna counts as failed, where it is no number."""
        return math.nan if (value := record["best"][self.objective]) is None else value

    def next_seed(self, trial: Trial) -> int | None:
        """The seed to run next, after the values of those before are reported; None where the trial is over, also because
        a run has not completed or the pruner ends it."""
        ended = self.records(trial)
        left = [seed for seed in self.seeds if seed not in ended]
        if any(record["status"] != "completed" for record in ended.values()):
            return None
        if len(self.seeds) > 1:
            known = self.study.trials[trial.number].intermediate_values
            for seed in {*ended} - {self.seeds[step] for step in known}:
                trial.report(self._value(ended[seed]), self.seeds.index(seed))
        return left[0] if left and not (len(self.seeds) > 1 and trial.should_prune()) else None

    def tell(self, trial: Trial) -> bool:
        """Tell the study how the trial's runs have ended; False where they have not, so that they are resumed."""
        ended = self.records(trial)
        statuses = {record["status"] for record in ended.values()}
        if not ended or self.next_seed(trial) is not None:
            return False
        if statuses == {"completed"} and len(ended) == len(self.seeds):
            self.study.tell(trial.number, fmean(map(self._value, ended.values())))
        else:
            self.study.tell(trial.number, state=TrialState.FAIL if "failed" in statuses else TrialState.PRUNED)
        return True

    def write(self) -> None:
        """``search.json``, which the report is made from: every trial, and the share of the variance over the completed
        ones that each axis explains (Hutter et al. 2014)."""
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        trials = [{"number": one.number, "state": one.state.name.lower(), "parameters": one.params,
                   "value": one.value if one.state.name == "COMPLETE" else None}
                  for one in self.study.get_trials(deepcopy=False)]  # fmt: skip
        result = {"objective": self.objective, "seeds": len(self.seeds), "trials": trials, "importance": {}}
        with suppress(RuntimeError, ValueError):  # fewer than two have completed, or all alike
            result["importance"] = get_param_importances(self.study, evaluator=FanovaImportanceEvaluator(seed=0))
        write_atomically(self.folder / SEARCH_FILE, json.dumps(result, indent=1) + "\n")


def sweep_by_optuna(sweep: Sweep, arguments: Sequence[str], options: Mapping[str, Any]) -> int:
    """Run trials until ``n_trials`` have ended or a stop is asked for; returns and raises as ``sweep_grid`` does.

    Before it starts, runs are checked that have every choice and both ends of each interval in them.
    """
    if sweep.config.sweep.until is not None:
        raise RequestError("sweep.until=decided adds seeds to a grid; a search has hydra.sweeper.seeds (leave one out)")
    ends = [sweep.compose(overrides) for overrides in corners(arguments)]
    sweep.check(ends, True)
    check_axes(parse(arguments)[1], options["seeds"], options["pruner"])
    print_info(f"a search; in {sweep.settle_folder()}")
    config, at_a_time = ends[0].config, count_jobs(options["at_a_time"])
    epochs, more = config["trainer"]["max_epochs"], {"at_a_time": at_a_time, "first_seed": config["seed"]}
    search = Search(sweep.folder, arguments, config["objective"], epochs, **{**options, **more})
    plan.write_plan(sweep.folder, sweep.command)
    runs: list[plan.PlannedRun] = []
    count = len(search.seeds)
    with sweep.running(count * search.count_left(), count * search.n_trials, search.objective, is_search=True):
        while stop_requested() is None and (batch := search.next_batch()):
            runs += _run(sweep, search, batch)
            ended = [search.tell(trial) for trial in batch]
            search.write()
            if not any(ended):
                break
    status = finish(sweep.folder, runs, sweep.interrupted, is_search=True)
    print_result(f"  {'search':<12} optuna-dashboard {shlex.quote(str(sweep.folder / JOURNAL))}")
    return status


def _run(sweep: Sweep, search: Search, batch: Sequence[Trial]) -> list[plan.PlannedRun]:
    """Run these trials, one seed of each after the other, until none is left or a stop is asked for."""
    runs: list[plan.PlannedRun] = []
    while left := [(trial, seed) for trial in batch if (seed := search.next_seed(trial)) is not None]:
        drawn = []
        for trial, seed in left:
            label = " ".join([*search.varied(trial), *([f"seed={seed}"] if len(search.seeds) > 1 else [])])
            number = len(search.seeds) * trial.number + search.seeds.index(seed)
            drawn.append(sweep.compose(search.overrides(trial, seed), label, number))
        sweep.launch(drawn)
        runs += drawn
        if stop_requested() is not None or not any(seed in search.records(trial) for trial, seed in left):
            break  # or the launcher gave up, or another process has them
    return runs


def check_axes(axes: Mapping[str, BaseDistribution], seeds: int, pruner: str) -> None:
    """Raise RequestError where trials could not be compared with one another, or one of so many seeds makes no sense."""
    varied = {override_key(key) for key, of in axes.items() if not of.single()}
    if wrong := sorted({"objective", SEED, *SPLIT} & varied):
        raise RequestError(f"{wrong[0]} cannot be searched over, for trials that differ in it cannot be compared; "
                           "hydra.sweeper.seeds=3 runs each with three seeds")  # fmt: skip
    if seeds > 1 and pruner in ("median", "halving"):
        raise RequestError(f"hydra.sweeper.pruner={pruner} compares the epochs of single runs; with hydra.sweeper.seeds={seeds} "
                           "take wilcoxon or none")  # fmt: skip
