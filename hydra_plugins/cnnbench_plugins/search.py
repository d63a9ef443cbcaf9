"""The sweeper ``optuna``: a search by a current Optuna, by its ask-and-tell interface (``cnnbench.sweep.optuna_search``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class OptunaSweeper(Sweeper):
    """Draws ``n_trials`` configurations, ``at_a_time`` together, and runs them by the launcher."""

    def __init__(self, n_trials: int, at_a_time: int, **options: Any) -> None:
        self.n_trials, self.at_a_time, self.options = n_trials, at_a_time, options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from cnnbench.sweep.optuna_search import Search
        from cnnbench.sweep.worker import count_jobs

        launcher = self.launcher
        assert self.config is not None and launcher is not None
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        search = Search(
            folder, arguments, self.config.objective, self.config.trainer.max_epochs, trials=self.n_trials,
            at_a_time=count_jobs(self.at_a_time), **self.options,
        )  # fmt: skip
        search.run(lambda batch, number: launcher.launch(batch, initial_job_idx=number))
