"""The launcher ``local``: runs in processes of their own on this machine (``cnnbench.sweep.pool``)."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Runs ``n_jobs`` runs at a time; the sweepers here hand it their composed runs by ``cnnbench.sweep.sweep.Sweep``."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        pass

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuse: another sweeper has not planned the folders of its runs."""
        from cnnbench.utils.errors import RequestError

        raise RequestError("hydra/launcher=local runs what hydra/sweeper=grid or optuna plans; choose another launcher")
