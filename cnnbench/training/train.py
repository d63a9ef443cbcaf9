"""``train``: from a configuration to the record of one run."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import lightning.pytorch as pl
import torch
import yaml
from torch import Tensor

from cnnbench.config.compose import fingerprint
from cnnbench.data import ImageDataModule
from cnnbench.training import build, distributed, recording
from cnnbench.training.build import Config
from cnnbench.training.callbacks.checkpoint import BestAndLast
from cnnbench.training.callbacks.early_stopping import Pruning, StopWhenDiverged
from cnnbench.training.callbacks.figures import Figures
from cnnbench.training.callbacks.history import History
from cnnbench.training.callbacks.resume import Resume, resumable
from cnnbench.training.callbacks.tensorboard import TensorBoardCallback, log_hparams
from cnnbench.training.estimate import suggest_batch_size, useful_threads
from cnnbench.training.lr_finder import settle_lr
from cnnbench.training.metrics import PER_CLASS
from cnnbench.training.module import ImageClassifier
from cnnbench.training.same_data import refuse_changed_data
from cnnbench.utils import run_dir
from cnnbench.utils.console import print_result, silence_libraries
from cnnbench.utils.environment import environment, idle_cores
from cnnbench.utils.memory import is_out_of_memory, keep_freed_memory
from cnnbench.utils.record import Record, RecordError, read_record, write_record
from cnnbench.utils.signals import handle_stop_signals


def train(config: Config, folder: Path, overrides: Sequence[str] = (), choices: dict[str, str] | None = None) -> Record:
    """Train, evaluate once on the test set, and leave a record, whatever happens. A run that ended early goes on from
    its newest checkpoint, and one that has completed is not repeated.

    Args:
        config: resolved, as ``conf/config.yaml`` composes it.
        overrides, choices: how the configuration was composed; for the record.

    Returns:
        The record, which is also ``folder/result.json``; how the run ended is its ``status``, a failure its ``error``.

    Raises:
        RequestError: the folder holds the run of another configuration, of other images, or of a running process.
        SystemExit: the run has failed on ranks that torchrun or srun has started, which ends all of them.
    """
    folder, digest = Path(folder), fingerprint(config)
    with run_dir.locked(folder), handle_stop_signals():
        completed = run_dir.completed_record(folder, digest)
        refuse_changed_data([(config, folder)])
        if completed is not None:
            return completed
        run_dir.archive_attempt(folder)
        record = run_dir.new_record(folder, config, digest, overrides, choices)
        try:
            _train_on_devices(config, folder, record)
        except (Exception, KeyboardInterrupt) as error:
            record.update(recording.describe_end(error))
        write_record(folder, record)
    return record


def _train_on_devices(config: Config, folder: Path, record: Record) -> None:
    """Settle what the run begins with, and train in this process or on ranks, one a device."""
    silence_libraries()
    devices, ranks = build.count_devices(config["trainer"]), build.count_ranks(config["trainer"])
    checkpoint = resumable(folder, record["fingerprint"], ranks)
    if checkpoint is None:
        threads, resumed = config["threads"] or max(idle_cores() // devices, 1), None
    else:  # the number of threads can change the last bits of a sum, so a run keeps it
        path, sessions = checkpoint
        threads, resumed = sessions[0]["threads"], (str(path), sessions[-1]["epoch"])
    torch.set_num_threads(threads)
    config, record["lr_finder"] = settle_lr(config)  # a resumed run finds what it had found
    if ranks == 1:
        fit_and_test(config, folder, record, resumed)
        return
    build.build_data(config)  # which prepares the images before all ranks ask for them
    arguments = str(folder), record, resumed, threads, yaml.safe_dump(config)
    if distributed.external_launch() is None:
        try:
            distributed.launch_ranks(ranks, train_rank, *arguments)
        finally:
            with suppress(FileNotFoundError, RecordError):  # rank 0's
                record.update(read_record(folder))
        return
    distributed.broadcast_json(arguments)
    try:
        train_rank(*arguments)
    except Exception as error:  # torchrun or srun ends the other ranks, if they have not ended by themselves
        print_result(f"  failed: {type(error).__name__}: {error}")
        raise SystemExit(1) from error


def train_rank(folder: str, record: Record, resumed: tuple[str, int] | None, threads: int, config: str) -> None:
    """What each rank of several does; rank 0 writes the record. Raises what the run has failed with. ``config`` is
    YAML, for JSON would turn keys that are numbers into text."""
    silence_libraries()
    torch.set_num_threads(threads)
    failure: BaseException | None = None
    try:
        fit_and_test(yaml.safe_load(config), Path(folder), record, resumed)
    except (Exception, KeyboardInterrupt) as error:
        record.update(recording.describe_end(error))
        if record["status"] == "failed":
            failure = build.cause_of(error)
            if distributed.has_lost_a_rank(failure):
                record["error"]["message"] = f"another rank has ended, and its launcher says why: {failure}"
    if distributed.external_launch().global_rank() == 0:  # type: ignore[union-attr]
        write_record(Path(folder), record)
    if failure is not None:
        raise failure


def on_every_rank(command: Callable[[], int]) -> int:
    """Do a command that torchrun or srun may have started once a rank: rank 0 does it, and the others take part in each
    run that it trains. Returns the exit status."""
    launched = distributed.external_launch()
    if launched is None:
        return command()
    if launched.global_rank() == 0:
        status = 1
        try:
            status = command()
        finally:
            distributed.broadcast_json(status, is_last=True)
        return status
    distributed.mute()
    with handle_stop_signals():
        while isinstance(run := distributed.broadcast_json(None), list):
            train_rank(*run)
    return run


def fit_and_test(config: Config, folder: Path, record: Record, resumed: tuple[str, int] | None) -> None:
    """Train and test, in each rank, and fill in ``record``; ``resumed`` is a checkpoint and its whole epochs."""
    keep_freed_memory()
    pl.seed_everything(config["seed"], verbose=False)

    data = build.build_data(config)
    network = build.build_network(config, data)
    record["data"] = data.description()
    record["model"] = recording.describe_network(network, data, record["choices"].get("model", type(network).__name__))
    if resumed is None and config["threads"] is None:
        torch.set_num_threads(useful_threads(torch.get_num_threads(), record["model"]["flops_per_image"], config))
    if config["compile"]:
        network.compile()  # in place, so the names in checkpoints stay as they are
    classifier = ImageClassifier(config, network, data.class_counts())

    history = History(folder)
    checkpoint = BestAndLast(folder / "checkpoints", config["objective"])
    figures = Figures(folder / "figures", data, **(config["callbacks"].get("figures") or {}))
    resume = Resume(checkpoint, record["fingerprint"], **config["checkpoint"])
    diverged = StopWhenDiverged(**config["divergence"])
    callbacks: list[pl.Callback] = [TensorBoardCallback(data), figures, history, diverged, checkpoint, resume]
    if (trial := config["sweep"].get("trial")) is not None:
        callbacks.append(Pruning(config["objective"], config["trainer"]["max_epochs"], **trial))
    path, whole_epochs = resumed or (None, None)
    trainer = build.build_trainer(config, folder, callbacks, whole_epochs)
    if trainer.strategy.root_device.type == "cpu":
        # Lightning sets this, and torch's optimizers then open NVML's library at each step: a tenth of a small one
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    record["environment"] = {**environment(str(trainer.strategy.root_device)), "devices": trainer.world_size}

    try:
        fit(trainer, classifier, data, path)
    finally:  # a run that ends early has its history too
        record["history"], record["metrics"] = history.columns(), dict(classifier.metrics)
        record["best"], record["resumed"] = checkpoint.best, resume.sessions
        seconds = history.epoch_seconds
        speed = data.count("train") * len(seconds) / sum(seconds) if sum(seconds) else None
        record["time"] = {"fit_seconds": resume.seconds(), "epoch_seconds": seconds, "images_per_second": speed}
        data.teardown()
    record["model"]["sha256"] = recording.weights_sha256(classifier)

    matrices = test(trainer, classifier, checkpoint, config["test_with"] == "best")
    if trainer.is_global_zero:
        record["metrics"] = dict(classifier.metrics)
        record["confusion_matrix"] = {split: matrix.tolist() for split, matrix in matrices.items()}
        shown = {name: of for name, of in PER_CLASS.items() if name in ("recall", *classifier.more_metrics)}
        each = {f"{split}/{k}": of(matrix).tolist() for k, of in shown.items() for split, matrix in matrices.items()}
        record["per_class"] = {"classes": data.classes, **each}
        if classifier.logits:
            recording.save_predictions(folder, classifier.logits, data)
        figures.finish(trainer, classifier, matrices)
        record["agreement_with_cpu"] = recording.agreement_with_cpu(classifier, data, trainer.strategy.root_device)
        log_hparams(trainer, record)
        record["status"] = "completed"


def fit(trainer: pl.Trainer, classifier: ImageClassifier, data: ImageDataModule, checkpoint: str | None) -> None:
    """Train, from ``checkpoint`` on if there is one. Raises KeyboardInterrupt where Lightning would have ended the
    process, and MemoryError, with the batch size that fits, where there is not enough."""
    try:
        trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint)
    except SystemExit as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        if not is_out_of_memory(error) or trainer.world_size > 1:
            raise
        suggestion = suggest_batch_size(error, classifier, data, trainer.strategy.root_device)
        raise MemoryError(f"no room in memory: {suggestion}") from error


def test(trainer: pl.Trainer, classifier: ImageClassifier, checkpoint: BestAndLast, best: bool) -> dict[str, Tensor]:
    """Evaluate the test set once, with the best or the last weights; confusion matrices of val and test with those."""
    if best and trainer.is_global_zero:  # which has written them; the others get them from it
        classifier.load_state_dict(checkpoint.best_weights())
    trainer.test(classifier, datamodule=trainer.datamodule, verbose=False)  # type: ignore[attr-defined]
    confusion = checkpoint.best_confusion if best else classifier.confusion
    matrices = {**confusion, "test": classifier.confusion["test"]}
    return {split: matrices[split] for split in ("val", "test") if split in matrices}
