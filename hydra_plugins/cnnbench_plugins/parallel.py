"""The launcher ``parallel``: several runs of a sweep at a time, each in a process of its own.

Hydra composes and makes folders in this process, one run after the other, for its state is global; the runs themselves
only wait here, in threads, for processes that come from one server which has imported everything once. So there is no
worker that could be killed with the runs it has yet to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class ParallelLauncher(Launcher):
    """Runs ``n_jobs`` runs at a time, negative as joblib has it."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Start the runs in their order, and return when all have ended."""
        from cnnbench.sweep.worker import at_once, count_jobs

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        with at_once(count_jobs(self.n_jobs)):
            returned = [self._start(number, list(o)) for number, o in enumerate(job_overrides, initial_job_idx)]
        for job in returned:
            if isinstance(job.return_value, Future):
                job.return_value = job.return_value.result()
        return returned

    def _start(self, number: int, overrides: list[str]) -> JobReturn:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
