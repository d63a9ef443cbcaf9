"""The sweepers ``grid`` (``cnnbench.sweep.sweep``) and ``optuna`` (``cnnbench.sweep.optuna_search``).

Hydra imports this at every start, so what they need is imported when they sweep.
"""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """Runs every combination of values that has not been run; with ``dry_run`` only checks that all can be."""

    def __init__(self, dry_run: bool) -> None:
        self.dry_run = dry_run

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.given = config, hydra_context, task_function

    def sweep(self, arguments: list[str]) -> int:
        from cnnbench.sweep.grid import sweep_grid
        from cnnbench.sweep.sweep import Sweep

        return sweep_grid(Sweep(*self.given), arguments, self.dry_run)


class OptunaSweeper(Sweeper):
    """Draws ``n_trials`` configurations, ``at_a_time`` together, and runs them by the launcher."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.given = config, hydra_context, task_function

    def sweep(self, arguments: list[str]) -> int:
        from cnnbench.sweep.sweep import Sweep

        sweep = Sweep(*self.given)  # which refuses where Optuna is not installed
        from cnnbench.sweep.optuna_search import sweep_by_optuna

        return sweep_by_optuna(sweep, arguments, self.options)
