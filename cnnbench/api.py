"""cnnbench from Python: ``train`` and ``load_results``; ``load_run`` is in ``cnnbench.inference.load``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.analysis.runs import collect
from cnnbench.config.compose import compose, resolved
from cnnbench.config.schema import check_values
from cnnbench.config.settings import canonical
from cnnbench.sweep.plan import own_folder
from cnnbench.utils.errors import RequestError, one_of
from cnnbench.utils.record import Record

if TYPE_CHECKING:
    import pandas as pd


def train(*overrides: str, folder: str | Path | None = None) -> Record:
    """Train once, in this process, as ``cnnbench OVERRIDES`` does.

    Args:
        overrides: as on the command line: ``"model=lenet"``, ``"optimizer.lr=0.01"``.
        folder: of the run; by default a new one below ``outputs/``. One that was interrupted goes on, and one that has
            finished is not repeated.

    Returns:
        The record, as in ``result.json``. How the run ended is its ``status``; a failure is in ``error``, not raised.

    Raises:
        RequestError: before anything ran: what was asked for cannot be done.
    """
    from cnnbench.training.preflight import check
    from cnnbench.training.train import train as run

    cfg = compose(overrides, hydra=True)
    config = resolved(cfg)
    check_values(config)
    check(config)
    choices = {group: str(name) for group, name in cfg.hydra.runtime.choices.items() if not group.startswith("hydra/")}
    where = Path(folder) if folder is not None else own_folder(Path(str(cfg.hydra.run.dir)))
    return run(config, where, overrides, choices)


def load_results(*folders: str | Path, predictions: str | None = None) -> pd.DataFrame:
    """All runs in and below ``folders``, finished or not, a row each.

    Args:
        predictions: ``test`` or ``val``: a row for each image of that split instead, of the runs that have predictions,
            with ``row`` (its number in the set), ``true``, ``predicted``, ``probability_true``, ``probability_predicted``,
            and of image files ``file`` (the path below ``data.path``).

    Returns:
        Columns ``folder``, ``status`` and ``seed``, the settings that are not the same in all runs (``optimizer``,
        ``optimizer.lr``), the metrics of the weights that a run stands for (``test/accuracy``, a share), and
        ``parameters``, ``flops_per_image`` and ``seconds_per_epoch``; NaN where a run has no value.

    Raises:
        RequestError: a folder is not there, or has no runs, or none of them has predictions.
    """
    import pandas as pd

    runs = collect([Path(folder) for folder in folders])
    keys = dict.fromkeys(key for run in runs for key in run.settings if key != "seed")
    vary = [key for key in keys if len({canonical(run.settings.get(key)) for run in runs}) > 1]
    metrics = sorted(set().union(*(run.metrics() for run in runs)))
    results = pd.DataFrame([
        {"folder": str(run.path), "status": run.status, "seed": run.seed}
        | {key: run.settings.get(key) for key in vary}
        | {metric: run.value(metric) for metric in metrics}
        for run in runs
    ])  # fmt: skip
    if predictions is None:
        return results
    one_of("predictions", predictions, ("test", "val"))
    images = [
        pd.DataFrame({"folder": str(run.path), **{name: column for name, column in found.items() if column.ndim == 1}})
        for run in runs
        if (found := run.predictions(predictions))
    ]
    if not images:
        raise RequestError(f"no run has predictions of the {predictions} set (keep_predictions=true keeps them)")
    return results.merge(pd.concat(images), on="folder")
