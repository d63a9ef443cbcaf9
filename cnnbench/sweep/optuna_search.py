"""A search: Optuna draws the configurations, Hydra's launcher runs them, a few at a time.

The study lies in the sweep's folder (SQLite), so a search that was killed goes on: the runs that it had begun are gone
on with, in their folders, before new ones are drawn. A run that falls behind is told so by a file in its folder, which
works on any machine that shares the folder.
"""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.analysis.metric_names import higher_is_better
from cnnbench.analysis.search import SEARCH_FILE
from cnnbench.config.overrides import quoted
from cnnbench.config.resolvers import run_folder
from cnnbench.config.schema import PRUNERS, SAMPLERS
from cnnbench.sweep.background import alongside
from cnnbench.sweep.process import ENOUGH
from cnnbench.sweep.search_space import parse
from cnnbench.utils.errors import RequestError, one_of
from cnnbench.utils.record import RecordError, read_record, write_atomically
from cnnbench.utils.signals import stop_requested

if TYPE_CHECKING:
    import optuna

DATABASE = "search.db"
LOOK = 1.0  # seconds between two looks at the epochs of the running runs
Launch = Callable[[list[list[str]], int], Any]


class Search:
    """Draws, runs and tells until ``trials`` have ended.

    Args:
        folder: of the sweep.
        arguments: the sweep's overrides, fixed ones and axes.
        objective: the metric to be best at; epochs: that a run trains.
        trials: runs in all; at_a_time: runs that are drawn and launched together.
        sampler: ``tpe`` (tree-structured Parzen estimator; Bergstra et al. 2011), ``random`` or ``qmc`` (Sobol).
        pruner: ``median`` ends a run whose best is below the median of the others' at that epoch, ``halving`` all but
            the best half at each rung (asynchronous; Li et al. 2020), ``none`` none.
        startup_trials: that are drawn at random, and never ended early.
        seed: of the draws.

    Raises:
        RequestError: a name is of nothing, or the folder holds a search over something else.
    """

    def __init__(
        self, folder: Path, arguments: Sequence[str], objective: str, epochs: int, *, trials: int, at_a_time: int = 1,
        sampler: str = "tpe", pruner: str = "median", startup_trials: int = 10, seed: int = 0,
    ) -> None:  # fmt: skip
        self.folder, self.objective, self.epochs = folder, objective, epochs
        self.fixed, self.axes = parse(arguments)
        self.trials, self.at_a_time = trials, at_a_time
        self.study = self._study(sampler, pruner, startup_trials, seed)

    def run(self, launch: Launch) -> None:
        """Until all has been done, or a stop is asked for; ``launch`` runs a batch of overrides, from a job number on."""
        while batch := self._next():
            with self._watching(batch):
                launch([self._overrides(trial) for trial in batch], batch[0].number)
            for trial in batch:
                self._tell(trial)
            self.write()
            if stop_requested() is not None:
                return

    def _study(self, sampler: str, pruner: str, startup: int, seed: int) -> optuna.Study:
        import optuna

        one_of("hydra.sweeper.sampler", sampler, SAMPLERS)
        one_of("hydra.sweeper.pruner", pruner, PRUNERS)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        began = (self.folder / DATABASE).exists()
        seed += self._count_before() if began else 0  # a search that goes on does not draw the same again
        samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "tpe": lambda: optuna.samplers.TPESampler(
                n_startup_trials=startup, seed=seed, constant_liar=self.at_a_time > 1
            ),
            "random": lambda: optuna.samplers.RandomSampler(seed),
            "qmc": lambda: optuna.samplers.QMCSampler(seed=seed),
        }
        pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
            "median": lambda: optuna.pruners.MedianPruner(startup, n_warmup_steps=self.epochs // 4),
            "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=max(self.epochs // 8, 1)),
            "none": optuna.pruners.NopPruner,
        }
        study = optuna.create_study(
            storage=self._storage(),
            study_name="search",
            load_if_exists=True,
            direction="maximize" if higher_is_better(self.objective) else "minimize",
            sampler=samplers[sampler](),
            pruner=pruners[pruner](),
        )
        asked = json.loads(json.dumps({"objective": self.objective, "axes": [vars(axis) for axis in self.axes]}))
        if study.user_attrs.setdefault("asked", asked) != asked:
            raise RequestError(f"{self.folder} holds a search over something else; choose another folder")
        study.set_user_attr("asked", asked)
        return study

    def _storage(self) -> str:
        return f"sqlite:///{(self.folder / DATABASE).absolute()}"

    def _count_before(self) -> int:
        import optuna

        studies = optuna.get_all_study_summaries(self._storage())
        return studies[0].n_trials if studies else 0

    # One batch

    def _next(self) -> list[optuna.Trial]:
        """Those that a killed search had begun, else new ones; none when all have ended."""
        import optuna
        from optuna.trial import TrialState

        there = self.study.get_trials(deepcopy=False)
        begun = [optuna.Trial(self.study, one._trial_id) for one in there if one.state == TrialState.RUNNING]
        if begun:
            return begun[: self.at_a_time]
        return [self._draw() for _ in range(min(self.at_a_time, self.trials - len(there)))]

    def _draw(self) -> optuna.Trial:
        trial = self.study.ask()
        for axis in self.axes:
            if axis.choices:
                trial.suggest_categorical(axis.key, axis.choices)
            elif axis.whole:
                trial.suggest_int(axis.key, int(axis.low), int(axis.high), log=axis.log)
            else:
                trial.suggest_float(axis.key, axis.low, axis.high, log=axis.log)
        return trial

    def _varied(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> list[str]:
        return [f"{axis.key}={axis.text(trial.params[axis.key])}" for axis in self.axes if axis.key in trial.params]

    def _name(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> str:
        return run_folder(",".join([f"trial={trial.number}", *self._varied(trial)]))

    def _overrides(self, trial: optuna.Trial) -> list[str]:
        fixed = [text for text in self.fixed if not text.startswith("hydra.sweep.dir=")]
        return [*fixed, *self._varied(trial), f"hydra.sweep.subdir={quoted(self._name(trial))}"]

    def _tell(self, trial: optuna.Trial) -> None:
        """How a run has ended; of one that has not nothing, so that it is gone on with."""
        from optuna.trial import TrialState

        folder = self.folder / self._name(trial)
        self._look(trial, end=False)
        try:
            record = read_record(folder)
        except (FileNotFoundError, RecordError):
            return
        if record["status"] == "completed":
            self.study.tell(trial.number, record["best"][self.objective])
        elif record["status"] == "diverged" or (folder / ENOUGH).exists():
            self.study.tell(trial.number, state=TrialState.PRUNED)
        elif record["status"] == "failed":
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _watching(self, batch: Sequence[optuna.Trial]) -> AbstractContextManager[None]:
        """Report the epochs of the runs while they go on, and end those that fall behind."""

        def watch(done: threading.Event) -> None:
            while not done.wait(LOOK):
                for trial in batch:
                    self._look(trial)

        return alongside(watch, "search")

    def _look(self, trial: optuna.Trial, end: bool = True) -> None:
        folder = self.folder / self._name(trial)
        try:
            with (folder / "metrics.csv").open(newline="") as file:
                values = [float(row[self.objective]) for row in csv.DictReader(file)]
        except (OSError, ValueError, KeyError):
            return
        known = self.study.trials[trial.number].intermediate_values
        for epoch, value in enumerate(values):
            if epoch not in known:
                trial.report(value, epoch)
        if end and len(known) < len(values) < self.epochs and trial.should_prune():
            (folder / ENOUGH).write_text(f"ended by the search in epoch {len(values)}: it had fallen behind")

    # What the report is made from

    def write(self) -> None:
        """``search.json``: every trial, and how much each axis mattered."""
        trials = [
            {
                "number": one.number,
                "state": one.state.name.lower(),
                "value": one.value if one.state.name == "COMPLETE" else None,
                "epochs": len(one.intermediate_values),
                "folder": self._name(one),
                "parameters": one.params,
            }
            for one in self.study.get_trials(deepcopy=False)
        ]
        told = {"objective": self.objective, "asked": self.trials, "trials": trials, "importance": self._importance()}
        write_atomically(self.folder / SEARCH_FILE, json.dumps(told, indent=1) + "\n")

    def _importance(self) -> dict[str, float]:
        """The share of the variance over the completed trials that each axis explains (Hutter et al. 2014)."""
        import optuna

        try:
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            return optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        except (RuntimeError, ValueError):  # fewer than two, or all alike
            return {}
