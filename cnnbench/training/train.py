"""``train``: from a configuration to the record of one run, as a checklist."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException

from cnnbench.config.compose import fingerprint
from cnnbench.data import ImageDataModule
from cnnbench.training import checkpoint_io
from cnnbench.training.batch_size_advice import suggest_batch_size
from cnnbench.training.build import (
    Config,
    build_classifier,
    build_data,
    build_network,
    build_trainer,
    count_devices,
    count_machines,
    describe_network,
)
from cnnbench.training.callbacks import (
    BestAndLast,
    Diverged,
    Figures,
    History,
    Pruning,
    Resume,
    StopWhenDiverged,
    TensorBoardCallback,
    tensorboard,
)
from cnnbench.training.callbacks.final_figures import agreement
from cnnbench.training.callbacks.hparams import log_hparams
from cnnbench.training.distributed import Place
from cnnbench.training.followers import Error, FollowerFailed, together
from cnnbench.training.lr_finder import settle_lr
from cnnbench.training.metrics import recall_per_class
from cnnbench.training.module import ImageClassifier
from cnnbench.training.preflight import silence_libraries
from cnnbench.utils import run_dir
from cnnbench.utils.console import print_info
from cnnbench.utils.environment import available_cores, code_version, environment
from cnnbench.utils.errors import RequestError
from cnnbench.utils.memory import is_out_of_memory, keep_freed_memory
from cnnbench.utils.record import Record, write_record
from cnnbench.utils.signals import Stopped, handle_stop_signals


def train(config: Config, folder: Path, overrides: Sequence[str] = (), choices: dict[str, str] | None = None) -> Record:
    """Train, evaluate once on the test set, and leave a record, whatever happens.

    Args:
        config: a resolved configuration, as ``conf/config.yaml`` composes it.
        folder: of the run; made where it is missing.
        overrides, choices: how the configuration was asked for; for the record.

    Returns:
        The record, which is also ``folder/result.json``. Its ``status`` tells how the run ended; a failure is in
        ``error`` and is not raised. A run that ended early goes on from its newest checkpoint, and one that has
        completed is not repeated.

    Raises:
        RequestError: the folder holds another configuration's run, or another process is running in it.
    """
    folder, mark = Path(folder), fingerprint(config)
    with run_dir.locked(folder), handle_stop_signals():
        finished = run_dir.completed_record(folder, mark)
        if finished is not None:
            return finished
        run_dir.archive_attempt(folder)
        record = run_dir.new_record(config, mark, overrides, choices, run_dir.attempts(folder))
        try:
            _train(config, folder, record)
        except Diverged as error:
            record.update(status="diverged", error={**_error(error), "epoch": error.epoch, "step": error.step})
        except (KeyboardInterrupt, Stopped) as error:
            record.update(status="interrupted", error=_error(error))
        except Exception as error:
            record.update(status="failed", error=_error(error))
        write_record(folder, record)
    return record


def _train(config: Config, folder: Path, record: Record) -> None:
    silence_libraries()
    keep_freed_memory()
    devices, machines = count_devices(config), count_machines(config)
    newest = resumable(folder, record["fingerprint"], devices * machines)
    # the number of threads can change the last bits of a sum, so a run keeps the one that it began with
    threads = config["threads"] or max(available_cores() // devices, 1)
    torch.set_num_threads(newest[1]["resume"]["sessions"][0]["threads"] if newest else threads)
    config, record["lr_finder"] = settle_lr(config)  # a resumed run finds what it had found
    if record["lr_finder"]:
        print_info(f"  optimizer.lr={record['lr_finder']['lr']:g}: {record['lr_finder']['reason']}")
    resumed = (newest[0], newest[1]["resume"]["sessions"][-1]["epoch"]) if newest else None
    data = build_data(config)  # before there are others, which find it prepared
    work = partial(_follow, config, folder, dict(record), resumed, torch.get_num_threads())
    with together(devices, machines, work, partial(_give_up, folder, record)) as place:
        _run(config, folder, record, data, resumed, place)


def _follow(
    config: Config, folder: Path, record: Record, resumed: tuple[Path, int] | None, threads: int, place: Place
) -> Error | None:
    """What the other processes of a run on several devices do, beside the first; returns the error that ended it."""
    silence_libraries()
    keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        _run(config, folder, record, build_data(config), resumed, place)
    except (Diverged, KeyboardInterrupt, Stopped):
        return None  # all came to that together
    except Exception as error:
        return _error(error)
    return None


def _give_up(folder: Path, record: Record, error: Error) -> None:
    """Leave the record of a run that hangs because another of its processes has ended."""
    record.update(status="failed", error=error)
    write_record(folder, record)
    print_info(f"  failed: {error['type']}: {error['message']}")


def _run(
    config: Config,
    folder: Path,
    record: Record,
    data: ImageDataModule,
    resumed: tuple[Path, int] | None,
    place: Place,
) -> None:
    """Train and test; in all processes of a run, of which the first alone writes.

    Args:
        record: is filled in.
        resumed: the checkpoint to go on from, and how many whole epochs it has behind it.
    """
    pl.seed_everything(config["seed"], verbose=False)

    record["data"] = data.description()
    network = build_network(config, data)
    record["model"] = describe_network(network, data, record["choices"].get("model", type(network).__name__))
    if config["compile"]:
        network.compile()  # in place, so the names in checkpoints stay as they are
    classifier = build_classifier(config, network, data)
    place.seed(config["seed"])

    history = History(folder)
    keep = BestAndLast(folder / "checkpoints", config["objective"])
    figures = Figures(folder / "figures", data, **{"pictures": False, **config["callbacks"].get("figures", {})})
    shape = (data.prepared.channels, data.prepared.image_size, data.prepared.image_size)
    resume = Resume(keep, session(record, place.world), **config["checkpoint"])
    callbacks: list[pl.Callback] = [
        TensorBoardCallback(data.classes, shape),
        figures,
        history,
        StopWhenDiverged(**config["divergence"]),
        keep,
        resume,
    ]
    if (trial := config["sweep"].get("trial")) is not None:
        callbacks.append(Pruning(config["objective"], config["trainer"]["max_epochs"], **trial))
    if resumed is None and not place.rank:
        tensorboard.remove_events(folder)
    trainer = build_trainer(config, folder, callbacks, resumed[1] if resumed else None, place)
    record["environment"] = {**environment(str(trainer.strategy.root_device)), "devices": place.world}

    try:
        fit(trainer, classifier, data, resumed[0] if resumed else None)
    except Exception as error:
        if is_out_of_memory(error) and place.world == 1:
            raise MemoryError(f"no room in memory: {suggest_batch_size(error, classifier, data)}") from error
        raise
    finally:  # a run that ends early has its history too
        record["history"] = history.columns()
        record["metrics"] = dict(classifier.metrics)
        record["best"] = keep.best
        record["time"] = times(history, data, resume.seconds())
        record["resumed"] = resume.sessions
    record["model"]["sha256"] = digest(classifier)

    matrices = test(trainer, classifier, data, keep, config["test_with"])
    if place.rank:
        return
    record["metrics"] = dict(classifier.metrics)
    record["confusion_matrix"] = {split: matrix.tolist() for split, matrix in matrices.items()}
    recalls = {f"{split}/recall": recall_per_class(matrix).tolist() for split, matrix in matrices.items()}
    record["per_class"] = {"classes": data.classes, **recalls}
    figures.finish(trainer, classifier, matrices)
    record["agreement_with_cpu"] = agreement(classifier, data, trainer.strategy.root_device)
    log_hparams(trainer, record)
    record["status"] = "completed"


def resumable(folder: Path, mark: str, devices: int = 1) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint in the run's folder and what it holds, if there is one.

    Raises:
        RequestError: it is of another configuration, or of another number of devices in all.
    """
    newest = checkpoint_io.newest(folder / "checkpoints", lambda text: print_info(f"  {text}"))
    if newest is None:
        return None
    path, saved = newest
    last = saved["resume"]["sessions"][-1]
    if last["fingerprint"] != mark:
        raise RequestError(f"{path} is of another configuration; choose another folder")
    if (began := last.get("devices", 1)) != devices:
        raise RequestError(f"{path} is of a run on {began} devices in all; it goes on with as many only")
    print_info(f"  going on at epoch {last['epoch'] + 1}, batch {last['batch'] + 1} ({path})")
    return newest


def session(record: Record, devices: int) -> dict[str, Any]:
    """What each checkpoint says of the process that wrote it."""
    commit, dirty = code_version()
    return {
        "fingerprint": record["fingerprint"],
        "threads": torch.get_num_threads(),
        "devices": devices,
        "torch": str(torch.__version__),
        "git": commit,
        "git_dirty": dirty,
    }


def fit(trainer: pl.Trainer, classifier: ImageClassifier, data: ImageDataModule, checkpoint: Path | None) -> None:
    """Train, from ``checkpoint`` on if there is one.

    Raises:
        KeyboardInterrupt: where Lightning would have ended the process.
        Stopped: the run was asked to stop.
    """
    try:
        trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint)
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
        if trainer.is_global_zero:  # which has written them; the others get them from it
            classifier.load_state_dict(keep.best_weights())
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


def digest(classifier: ImageClassifier) -> str:
    """The SHA-256 of all weights and buffers, in the order of their names."""
    total = hashlib.sha256()
    for name, value in sorted(classifier.state_dict().items()):
        total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _error(error: BaseException) -> dict[str, str]:
    """The record's ``error``."""
    if isinstance(error, FollowerFailed):
        return error.error
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    return {
        "type": type(cause).__name__,
        "message": str(cause),
        "traceback": "".join(traceback.format_exception(error)),
    }
