"""``train``: from a configuration to the record of one run, as a checklist."""

from __future__ import annotations

import logging
import os
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from cnnbench.callbacks import BestAndLast, ConfusionFigures, Diverged, History, StopWhenDiverged
from cnnbench.classifier import ImageClassifier, build_scheduler
from cnnbench.config import fingerprint
from cnnbench.data import ImageDataModule
from cnnbench.environment import environment
from cnnbench.errors import RequestError
from cnnbench.memory import keep_freed_memory
from cnnbench.metrics import metric_mode, recall_per_class
from cnnbench.results.record import Record, write_record

AUTO_STEPS = 16  # optimizer steps in a Lightning step: more gains nothing measurable (benchmarks/README.md)

Config = dict[str, Any]


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
    figures = ConfusionFigures(folder / "figures", data.classes, **config["callbacks"].get("figures", {}))
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
    log_hparams(trainer, record)
    record["status"] = "completed"


# Building: each takes the configuration's node of its name


def build_data(config: Config) -> ImageDataModule:
    """The data module, prepared and split."""
    steps = config["steps_per_execution"]
    data: ImageDataModule = instantiate(
        config["data"],
        augment=instantiate(config["augment"]),
        steps_per_execution=AUTO_STEPS if steps == "auto" else steps,
        accumulate=config["trainer"]["accumulate_grad_batches"],
    )
    data.setup()
    return data


def build_network(config: Config, data: ImageDataModule) -> nn.Module:
    """The network, fitted to the data's channels, classes and image size, in channels_last memory."""
    store = data.prepared
    network: nn.Module = instantiate(
        config["model"], in_channels=store.channels, num_classes=len(store.classes), image_size=store.image_size
    )
    return network.to(memory_format=torch.channels_last)


def build_optimization(config: Config) -> dict[str, Any]:
    """The makers of optimizer and schedule, and when the schedule advances."""
    schedule = dict(config["scheduler"])
    interval = schedule.pop("interval")
    if interval not in ("epoch", "step"):
        raise RequestError(f"scheduler.interval must be epoch or step, got {interval!r}")
    make = instantiate(schedule) if schedule.get("_target_") else None
    return {"optimizer": instantiate(config["optimizer"]), "scheduler": make, "interval": interval}


def build_classifier(config: Config, network: nn.Module, data: ImageDataModule) -> ImageClassifier:
    """The LightningModule around the network."""
    return ImageClassifier(
        network,
        len(data.classes),
        **build_optimization(config),
        objective=config["objective"],
        label_smoothing=config["label_smoothing"],
        decay_norm_and_bias=config["decay_norm_and_bias"],
        gradient_clip_val=config["trainer"]["gradient_clip_val"],
        accumulate=config["trainer"]["accumulate_grad_batches"],
        cuda_graph=config["cuda_graph"],
    )


def build_trainer(config: Config, folder: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's trainer; clipping and accumulation are the classifier's, for it steps the optimizer itself."""
    options = {k: v for k, v in config["trainer"].items() if k not in ("gradient_clip_val", "accumulate_grad_batches")}
    chosen = [instantiate(node) for node in config["callbacks"].values() if node and "_target_" in node]
    logger = instantiate(config["logger"], save_dir=str(folder)) if config["logger"].get("_target_") else False
    return instantiate(
        options,
        callbacks=[*chosen[1:], *callbacks, *chosen[:1]],
        logger=logger,
        default_root_dir=str(folder),
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


# Running


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


def describe_network(network: nn.Module, data: ImageDataModule, name: str) -> dict[str, Any]:
    """The record's ``model``. FLOPs are of one image's forward pass in convolutions and matrix products, a
    multiplication and an addition counted as two, as torch's FlopCounterMode counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    store = data.prepared
    image = torch.zeros(1, store.channels, store.image_size, store.image_size)
    mode = network.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(image)
    network.train(mode)
    return {
        "name": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "flops_per_image": counter.get_total_flops(),
    }


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


# Checking a configuration before anything runs


_checked: set[str] = set()


def check(config: Config) -> None:
    """Build everything that this configuration names, at no cost, so that what is wrong is told before a run starts.

    Raises:
        RequestError: something cannot be built; the message says what.
    """
    key = fingerprint({**config, "seed": 0, "data": {**config["data"], "seed": 0}})
    if key in _checked:
        return
    quiet()
    metric_mode(config["objective"])
    data = building("data", lambda: build_data(config))
    building("data", data.statistics)
    if config["objective"].startswith("val/") and not data.count("val"):
        raise RequestError(
            "objective=val/... needs a validation split; with data.validation=none use objective=train/loss"
        )
    if config["objective"].startswith("test/"):
        raise RequestError(
            "objective=test/... would select on the test set; to do as published, say data.validation=test"
        )
    with torch.device("meta"):
        building("model", lambda: build_network(config, data))
    parts = building("optimizer", lambda: build_optimization(config))
    optimizer = building("optimizer", lambda: parts["optimizer"]([nn.Parameter(torch.zeros(1))]))
    if parts["scheduler"] is not None:
        building("scheduler", lambda: build_scheduler(parts["scheduler"], optimizer, 2))
    building(
        "trainer", lambda: build_trainer({**config, "logger": {}}, Path(), [BestAndLast(Path(), config["objective"])])
    )
    _checked.add(key)


def building(group: str, make: Any) -> Any:
    """``make()``, with whatever it raises as a RequestError that names the config group."""
    try:
        return make()
    except RequestError:
        raise
    except InstantiationException as error:
        if isinstance(error.__cause__, RequestError):
            raise error.__cause__ from None
        cause = error.__cause__ or error
        raise RequestError(f"{group}: {' '.join(str(cause).split())}") from error
    except Exception as error:
        raise RequestError(f"{group}: {' '.join(str(error).split())}") from error


# Small things


def quiet() -> None:
    """Keep back greetings and warnings that say nothing to the person who runs this."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in (
        ".*does not have many workers.*",
        ".*Starting from v1.9.*tensorboardX.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*GPU available but not used.*",
        ".*Total length of `list` across ranks is zero.*",  # a run without validation
    ):
        warnings.filterwarnings("ignore", message=text)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _error(error: BaseException) -> dict[str, str]:
    """The record's ``error``."""
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    return {
        "type": type(cause).__name__,
        "message": str(cause),
        "traceback": "".join(traceback.format_exception(error)),
    }
