"""The loggers of a run: made from ``conf/logger``, given its figures at the end, and gone on with by a resumed run."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger

from cnnbench.config.schema import LOGGERS
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_json, write_atomically
from cnnbench.utils.run_dir import sweep_of

SERVICES = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}  # with the package of each
IDS = "loggers.json"  # in the run's folder: its id at each service


def logger_nodes(node: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The node ``logger``, which is one logger or has several by their names, by the name of the class."""
    nodes = [node] if node.get("_target_") else [node[name] for name in LOGGERS if name in node]
    return {str(one["_target_"]).rpartition(".")[2]: dict(one) for one in nodes}


def check_packages(node: Mapping[str, Any]) -> None:
    """Raise RequestError where the package of a logger is not installed."""
    for name in filter(None, map(SERVICES.get, logger_nodes(node))):
        if (spec := find_spec(name)) is None or spec.origin is None:  # a folder of its name is no package
            raise RequestError(f"logger={name} needs {name}, which is not installed: pip install 'cnnbench[{name}]'")


def build_loggers(node: Mapping[str, Any], folder: Path, resumed: int | None) -> list[Logger]:
    """The loggers of the run in ``folder``, which goes on from ``resumed`` whole epochs: TensorBoard then hides what it
    had sent of later ones, and a service shows the same run."""
    ids, sweep, local = {}, sweep_of(folder), {"save_dir": str(folder)}
    if resumed is not None:
        with suppress(OSError, ValueError):
            ids = read_json(folder / IDS)
    tags = {"sweep": sweep} if sweep else None
    more: dict[str, dict[str, Any]] = {
        "TensorBoardLogger": {**local, "purge_step": resumed + 1} if resumed is not None else local,
        "WandbLogger": {"name": folder.name, "group": sweep, "id": ids.get("wandb")},
        "MLFlowLogger": {"run_name": folder.name, "run_id": ids.get("mlflow"), "tags": tags},
    }
    return [instantiate(one, **more.get(name, local)) for name, one in logger_nodes(node).items()]


def keep_ids(loggers: Iterable[Logger], folder: Path) -> None:
    """Write which runs these are at their services, so that a resumed run goes on with them."""
    remote = [one for one in loggers if isinstance(one, (WandbLogger, MLFlowLogger)) and one.experiment is not None]
    if ids := {SERVICES[type(one).__name__]: one.version for one in remote}:  # which ``experiment`` has begun
        write_atomically(folder / IDS, json.dumps(ids))


def send_files(loggers: Iterable[Logger], folder: Path) -> None:
    """The run's figures and ``metrics.csv``, to the services."""
    figures = sorted((folder / "figures").glob("*.png"))
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            for path in figures:
                logger.log_image(f"figures/{path.stem}", [str(path)])
            logger.experiment.save(str(folder / "metrics.csv"), base_path=str(folder))
        elif isinstance(logger, MLFlowLogger):
            for path, within in [*((path, "figures") for path in figures), (folder / "metrics.csv", None)]:
                logger.experiment.log_artifact(logger.run_id, str(path), within)


def send_report(node: Mapping[str, Any], folder: Path, files: Iterable[Path]) -> None:
    """Send the report of the sweep in ``folder`` to the services of its runs' loggers, as files of a run that has the sweep's
    name and group; a sweep that goes on replaces them."""
    services = [one for one in build_loggers(node, folder, 0) if isinstance(one, (WandbLogger, MLFlowLogger))]
    keep_ids(services, folder)
    for logger, path in product(services, files):
        if isinstance(logger, WandbLogger):
            logger.experiment.log_artifact(str(path), type="report")
        else:
            logger.experiment.log_artifact(logger.run_id, str(path))
    finish(services, "success")


def finish(loggers: Iterable[Logger], status: str) -> None:
    """Wait until all has been sent, for a sweep's process ends without its threads; ``status`` is success or failed."""
    for logger in loggers:
        logger.save()
        logger.finalize(status)
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=int(status != "success"))
