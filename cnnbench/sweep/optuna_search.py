"""A search: Optuna draws the configurations, the launcher runs them, a few at a time.

The study lies in the sweep's folder, and each run reports its epochs to it and asks whether it has fallen behind
(``cnnbench.training.callbacks.Pruning``). A search that was killed goes on: the runs that it had begun are gone on with,
in their folders, before new ones are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.analysis.metric_names import higher_is_better
from cnnbench.analysis.runs import PRUNED
from cnnbench.analysis.search import SEARCH_FILE
from cnnbench.config.compose import run_folder
from cnnbench.config.overrides import quoted
from cnnbench.sweep import plan
from cnnbench.sweep.job import count_jobs
from cnnbench.sweep.search_space import corners, parse
from cnnbench.sweep.sweep import Sweep, finish
from cnnbench.training.pruner import STUDY, find_trial, make_pruner, open_storage
from cnnbench.utils.console import print_info
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RecordError, read_record, write_atomically
from cnnbench.utils.signals import stop_requested

if TYPE_CHECKING:
    import optuna

JOURNAL, DATABASE = "search.log", "search.db"  # the latter of version 1


class Search:
    """A study in a sweep's folder: draws trials, and hears how their runs have ended.

    Args:
        folder: of the sweep.
        arguments: the sweep's overrides, fixed ones and axes.
        objective: the metric to be best at; epochs: that a run trains.
        n_trials: runs in all; at_a_time: runs that are drawn and launched together.
        sampler: ``tpe`` (tree-structured Parzen estimator; Bergstra et al. 2011), ``random`` or ``qmc`` (Sobol).
        pruner, startup_trials: as ``make_pruner`` has them; so many trials are drawn at random.
        seed: of the draws.

    Raises:
        RequestError: the folder holds a search over something else.
    """

    def __init__(
        self, folder: Path, arguments: Sequence[str], objective: str, epochs: int, *, n_trials: int, at_a_time: int = 1,
        sampler: str = "tpe", pruner: str = "median", startup_trials: int = 10, seed: int = 0,
    ) -> None:  # fmt: skip
        import optuna

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
        seed += len(self.study.get_trials(deepcopy=False))  # a search that goes on does not draw the same again
        samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "tpe": lambda: optuna.samplers.TPESampler(
                n_startup_trials=startup_trials, seed=seed, constant_liar=at_a_time > 1
            ),
            "random": lambda: optuna.samplers.RandomSampler(seed),
            "qmc": lambda: optuna.samplers.QMCSampler(seed=seed),
        }
        self.study.sampler = samplers[sampler]()
        asked = json.loads(json.dumps({"objective": objective, "axes": [vars(axis) for axis in self.axes]}))
        if self.study.user_attrs.get("asked", asked) != asked:
            raise RequestError(f"{folder} holds a search over something else; choose another folder")
        self.study.set_user_attr("asked", asked)

    def count_left(self) -> int:
        """How many trials have not ended, or not been drawn."""
        return self.n_trials - sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def next_batch(self) -> list[optuna.Trial]:
        """Trials that a killed search had begun, else new ones; none when all have ended."""
        there = self.study.get_trials(deepcopy=False)
        begun = [find_trial(self.study, self.storage, one.number) for one in there if not one.state.is_finished()]
        return begun[: self.at_a_time] or [self._draw() for _ in range(min(self.at_a_time, self.n_trials - len(there)))]

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

    def varied(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> list[str]:
        """What the trial has drawn, as overrides."""
        return [f"{axis.key}={axis.text(trial.params[axis.key])}" for axis in self.axes if axis.key in trial.params]

    def run_name(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> str:
        """The folder of the trial's run."""
        return run_folder(",".join([f"trial={trial.number}", *self.varied(trial)]))

    def overrides(self, trial: optuna.Trial) -> list[str]:
        """The overrides of the trial's run."""
        own = f"number:{trial.number},storage:{quoted(self.path)},{self.pruning}"
        folder = f"hydra.sweep.subdir={quoted(self.run_name(trial))}"
        return [*self.fixed, *self.varied(trial), f"sweep.trial={{{own}}}", folder]

    def tell(self, trial: optuna.Trial) -> bool:
        """Tell the study how a run has ended; of one that has not (False) nothing, so that it is gone on with."""
        from optuna.trial import TrialState

        try:
            record = read_record(self.folder / self.run_name(trial))
        except (FileNotFoundError, RecordError):
            return False
        pruned = record["status"] == "diverged" or (record.get("error") or {}).get("type") == PRUNED
        if record["status"] == "completed":
            self.study.tell(trial.number, record["best"][self.objective])
        elif pruned or record["status"] == "failed":
            self.study.tell(trial.number, state=TrialState.PRUNED if pruned else TrialState.FAIL)
        return pruned or record["status"] != "interrupted"

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
        importance: dict[str, float] = {}
        with suppress(RuntimeError, ValueError):  # fewer than two have completed, or all alike
            evaluator = FanovaImportanceEvaluator(seed=0)
            importance = get_param_importances(self.study, evaluator=evaluator)
        found = {"objective": self.objective, "asked": self.n_trials, "trials": trials, "importance": importance}
        write_atomically(self.folder / SEARCH_FILE, json.dumps(found, indent=1) + "\n")


def sweep_by_optuna(sweep: Sweep, arguments: Sequence[str], options: Mapping[str, Any]) -> int:
    """Run trials until ``n_trials`` have ended or a stop is asked for; returns and raises as ``sweep_grid`` does.

    Before it starts, runs are checked that have every choice and both ends of each interval in them.
    """
    ends = [sweep.compose(overrides) for overrides in corners(arguments)]
    sweep.check(ends)
    print_info(f"a search; in {sweep.settle_folder()}")
    config = ends[0].config
    search = Search(
        sweep.folder, arguments, config["objective"], config["trainer"]["max_epochs"],
        **{**options, "at_a_time": count_jobs(options["at_a_time"])},
    )  # fmt: skip
    plan.write_plan(sweep.folder, sweep.command, [], {})
    runs: list[plan.PlannedRun] = []
    with sweep.running(search.count_left(), search.n_trials, search.objective):
        while stop_requested() is None and (batch := search.next_batch()):
            drawn = [
                sweep.compose(search.overrides(trial), " ".join(search.varied(trial)), trial.number) for trial in batch
            ]
            for trial, run in zip(batch, drawn, strict=True):
                run.number = trial.number + 1
            sweep.launch(drawn)
            runs += drawn
            ended = [search.tell(trial) for trial in batch]
            search.write()
            if not any(ended):  # the launcher gave up, or another process has them
                break
        interrupted = stop_requested() is not None
    return finish(sweep.folder, runs, interrupted)
