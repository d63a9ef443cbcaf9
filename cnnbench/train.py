"""``train``: from a configuration to the record of one run, as a checklist."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException

from cnnbench.build import Config, build_classifier, build_data, build_network, build_trainer, describe_network
from cnnbench.callbacks import BestAndLast, ConfusionFigures, Diverged, History, StopWhenDiverged
from cnnbench.callbacks.pictures import agreement, draw_pictures
from cnnbench.classifier import ImageClassifier
from cnnbench.config import fingerprint
from cnnbench.data import ImageDataModule
from cnnbench.environment import environment
from cnnbench.memory import keep_freed_memory
from cnnbench.metrics import recall_per_class
from cnnbench.preflight import quiet
from cnnbench.results.record import Record, write_record


def train(config: Config, folder: Path, overrides: Sequence[str] = (), choices: dict[str, str] | None = None) -> Record:
    """Train, evaluate once on the test set, and leave a record, whatever happens.

    Args:
        config: a resolved configuration, as ``conf/config.yaml`` composes it.
        folder: of the run; made where it is missing.
        overrides, choices: how the configuration was asked for; for the record.

    Returns:
        The record, which is also ``folder/result.json``. Its ``status`` tells how the run ended; a failure is in
        ``error`` and is not raised.
    """
    record: Record = {
        "status": "failed",
        "name": config["name"],
        "fingerprint": fingerprint(config),
        "overrides": list(overrides),
        "choices": choices or {},
        "config": config,
        "seed": config["seed"],
        "protocol": {"objective": config["objective"], "weights": config["test_with"]},
        "error": None,
    }
    try:
        _train(config, Path(folder), record)
    except Diverged as error:
        record.update(status="diverged", error=_error(error))
    except KeyboardInterrupt as error:
        record.update(status="interrupted", error=_error(error))
    except Exception as error:
        record.update(status="failed", error=_error(error))
    write_record(folder, record)
    return record


def _train(config: Config, folder: Path, record: Record) -> None:
    quiet()
    keep_freed_memory()
    torch.set_num_threads(config["threads"] or available_cores())
    pl.seed_everything(config["seed"], verbose=False)

    data = build_data(config)
    record["data"] = data.description()
    network = build_network(config, data)
    record["model"] = describe_network(network, data, record["choices"].get("model", type(network).__name__))
    if config["compile"]:
        network.compile()  # in place, so the names in checkpoints stay as they are
    classifier = build_classifier(config, network, data)

    history = History(folder)
    keep = BestAndLast(folder / "checkpoints", config["objective"])
    drawn = dict(config["callbacks"].get("figures", {}))
    pictures = drawn.pop("pictures", False)
    figures = ConfusionFigures(folder / "figures", data.classes, **drawn)
    trainer = build_trainer(config, folder, [StopWhenDiverged(), figures, history, keep])
    record["environment"] = environment(str(trainer.strategy.root_device))

    start = time.perf_counter()
    try:
        fit(trainer, classifier, data)
    finally:  # a run that ends early has its history too
        record["history"] = history.columns()
        record["metrics"] = dict(classifier.metrics)
        record["best"] = keep.best
        record["time"] = times(history, data, time.perf_counter() - start)

    matrices = test(trainer, classifier, data, keep, config["test_with"])
    record["metrics"] = dict(classifier.metrics)
    record["confusion_matrix"] = {split: matrix.tolist() for split, matrix in matrices.items()}
    recalls = {f"{split}/recall": recall_per_class(matrix).tolist() for split, matrix in matrices.items()}
    record["per_class"] = {"classes": data.classes, **recalls}
    figures.finish(trainer, matrices)
    if pictures:
        draw_pictures(trainer, classifier, data, recall_per_class(matrices["test"]), folder / "figures")
    record["agreement_with_cpu"] = agreement(classifier, data, trainer.strategy.root_device)
    log_hparams(trainer, record)
    record["status"] = "completed"


def fit(trainer: pl.Trainer, classifier: ImageClassifier, data: ImageDataModule) -> None:
    """Train; raises KeyboardInterrupt where Lightning would have ended the process for one."""
    try:
        trainer.fit(classifier, datamodule=data)
    except SystemExit as error:
        raise KeyboardInterrupt from error
    if trainer.interrupted:
        raise KeyboardInterrupt


def test(
    trainer: pl.Trainer, classifier: ImageClassifier, data: ImageDataModule, keep: BestAndLast, weights: str
) -> dict[str, torch.Tensor]:
    """Evaluate the test set once, with the best or the last weights; confusion matrices of val and test with those."""
    final = dict(classifier.metrics)
    matrices = dict(classifier.confusion)
    if weights == "best":
        checkpoint = torch.load(keep.folder / "best.ckpt", map_location="cpu", weights_only=True)
        classifier.load_state_dict(checkpoint["state_dict"])
        matrices = dict(keep.best_confusion)
    trainer.test(classifier, datamodule=data, verbose=False)
    classifier.metrics = {**final, **{k: v for k, v in classifier.metrics.items() if k.startswith("test/")}}
    matrices["test"] = classifier.confusion["test"]
    return {split: matrices[split] for split in ("val", "test") if split in matrices}


def times(history: History, data: ImageDataModule, fit_seconds: float) -> dict[str, Any]:
    """The record's ``time``, in seconds and images of the train set a second of training."""
    spent = sum(history.epoch_seconds)
    return {
        "fit_seconds": fit_seconds,
        "epoch_seconds": history.epoch_seconds,
        "images_per_second": data.count("train") * len(history.epoch_seconds) / spent if spent else None,
    }


def log_hparams(trainer: pl.Trainer, record: Record) -> None:
    """One hparams entry, so that TensorBoard's HPARAMS tab compares the runs of a sweep: what was asked for on the
    command line, the optimizer and its learning rate, and the few final metrics that one compares."""
    if trainer.logger is None or not hasattr(trainer.logger, "log_hyperparams"):
        return
    values = {"optimizer": record["choices"].get("optimizer")}
    values |= {key: value for key, _, value in (text.partition("=") for text in record["overrides"])}
    values |= {"optimizer.lr": record["config"]["optimizer"].get("lr"), "seed": record["seed"]}
    compared = ("test/accuracy", "test/recall", "val/accuracy", "test/loss")
    final = {f"final/{name}": record["metrics"][name] for name in compared if name in record["metrics"]}
    trainer.logger.log_hyperparams(values, final)


def available_cores() -> int:
    """Cores that this process may use; OMP_NUM_THREADS where it is set, as for every program that computes."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _error(error: BaseException) -> dict[str, str]:
    """The record's ``error``."""
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    return {
        "type": type(cause).__name__,
        "message": str(cause),
        "traceback": "".join(traceback.format_exception(error)),
    }
