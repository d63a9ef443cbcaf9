"""The checks before anything starts: that plugins are installed, and that all that the runs name can be built."""

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from omegaconf import DictConfig

from cnnbench.utils.errors import RequestError
from cnnbench.utils.memory import no_gc_during_import

NEEDS_PROCESS = (
    "sweep.timeout, sweep.retries and several runs at a time need sweep.isolate=true: processes of their own"
)


def check_plugins(hydra: DictConfig) -> None:
    """Raise RequestError where a launcher or sweeper is not installed."""
    for kind in ("launcher", "sweeper"):
        module, _, name = str(hydra[kind].get("_target_")).rpartition(".")
        try:
            import_module("optuna" if name == "OptunaSweeper" else module)
        except ImportError as error:
            choice = hydra.runtime.choices[f"hydra/{kind}"]
            raise RequestError(
                f"hydra/{kind}={choice} needs a package that is not installed ({error}): pip install 'cnnbench[{choice}]'"
            ) from error


def check_runs(configs: Sequence[dict[str, Any]]) -> None:
    """Build all that the configurations name, which has to import torch; raises RequestError."""
    if not configs:
        return
    with no_gc_during_import():
        from cnnbench.training.preflight import check, silence_libraries

    silence_libraries()
    for config in configs:
        check(config)


def on_any_machine(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration on one CPU: which devices another machine has, only that can tell."""
    portable = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "sync_batchnorm": False, "precision": "32-true"}
    trainer = {key: portable.get(key, value) for key, value in config["trainer"].items()}
    return {**config, "trainer": trainer}


def import_for_the_end() -> None:
    """Import what the report of a sweep needs; where it is missing, the report says so."""
    with suppress(ImportError):
        for name in ("matplotlib.backends.backend_svg", "pandas", "scipy.stats"):
            import_module(name)
