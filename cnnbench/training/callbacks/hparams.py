"""What TensorBoard's HPARAMS tab shows of a run."""

from __future__ import annotations

import lightning.pytorch as pl

from cnnbench.config.overrides import parse_override
from cnnbench.config.settings import SEED, ignored, settings_of, show
from cnnbench.training.callbacks import tensorboard
from cnnbench.training.callbacks.history import tag
from cnnbench.utils.record import Record


def log_hparams(trainer: pl.Trainer, record: Record) -> None:
    """One hparams entry, so that TensorBoard's HPARAMS tab compares the runs of a sweep: what was asked for on the
    command line, the optimizer and its learning rate, and the final metrics that one compares."""
    if trainer.logger is None:
        return
    settings = settings_of(record["config"], record["choices"], record["overrides"])
    settings["optimizer.lr"] = (record["lr_finder"] or settings).get("lr", settings.get("optimizer.lr"))
    asked = [parse_override(text)[0] for text in record["overrides"]]
    keys = [key for key in dict.fromkeys(("optimizer", *asked, "optimizer.lr")) if not ignored(key)]
    values = {key: show(settings[key]) if isinstance(settings[key], list) else settings[key]
              for key in (*keys, SEED) if settings.get(key) is not None}  # fmt: skip
    objective = record["protocol"]["objective"]
    final = {tag(name): record["metrics"][name] for name in ("test/accuracy", "test/recall", "test/loss")}
    final[f"{tag(objective)} (best)"] = record["best"][objective]
    trainer.logger.log_metrics(final, step=trainer.current_epoch)
    writer = tensorboard.writer(trainer)
    if writer is not None:
        tensorboard.add_hparams(writer, values, list(final))
        writer.flush()  # a process of a sweep ends without its threads' leave
    else:
        trainer.logger.log_hyperparams(values)
