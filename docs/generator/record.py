"""The fields of ``result.json``."""

from __future__ import annotations

from cnnbench.utils.record import SCHEMA
from generator.text import code, document, plain, table

METRICS = "train/, val/ or test/ with loss, accuracy (top-1, a share) and recall (mean over classes, a share)"

FIELDS: dict[str, str] = {
    "schema": "version of this layout, a whole number",
    "status": "completed, failed, diverged or interrupted",
    "name": "of the run's group, as the key name gave it",
    "fingerprint": "of the resolved configuration, the seed included; equal where nothing that can change the result differs",
    "overrides": "what was asked for, as on the command line",
    "choices": "the choice of each config group",
    "config": "the resolved configuration that ran",
    "seed": "of weights, order, augmentation and dropout",
    "protocol.objective": "metric that chose the best epoch",
    "protocol.weights": "those that saw the test set: best or last",
    "protocol.test_time_augmentation": "views of each test image over which the probabilities are averaged: none, flip or five_crop",
    "protocol.average": "the kind of weight average that was evaluated and saved; null is none",
    "error": "null, or type, message and traceback of what ended the run; for a divergence also epoch and step",
    "attempts": "earlier ends of the same run: status, error, epochs done, commit",
    "lr_finder": "null, or with optimizer.lr=auto the rate used, lr, with lowest, steepest and reason",
    "data.name": "class of the set",
    "data.classes": "how many",
    "data.train": "images trained on",
    "data.val": "images of the validation split",
    "data.test": "images of the test set",
    "data.validation": "where the validation split came from: a share of the train set, folds, test, own or none",
    "data.image_size": "side, pixels",
    "data.channels": "1 or 3",
    "data.fingerprint": "of the prepared images",
    "model.name": "the choice of model",
    "model.parameters": "how many weights",
    "model.bits": "size of the weights that a prediction needs, bits",
    "model.flops_per_image": "of one image's forward pass; a multiplication and an addition are two",
    "model.sha256": "of the last weights",
    "environment.python": "version",
    "environment.torch": "version",
    "environment.torchvision": "version",
    "environment.lightning": "version",
    "environment.cnnbench": "version",
    "environment.packages": "version of every package that cnnbench requires",
    "environment.device": "torch's name of the device trained on",
    "environment.devices": "how many processes trained it, one a device",
    "environment.gpu": "its name, or null",
    "environment.cpu": "name of the processor",
    "environment.cores": "that the process could use",
    "environment.threads": "of torch",
    "environment.system": "operating system",
    "environment.git": "commit of the code, or null outside a checkout",
    "environment.git_dirty": "whether the code had changes that were not committed",
    "history": "a value an epoch: epoch (from 0; the terminal and TensorBoard count from 1), step, lr (with which the epoch "
    f"ended, before an epoch-wise schedule changes it for the next), and the metrics {METRICS}",
    "metrics": f"after the last epoch, and test/ of the protocol's weights: {METRICS}",
    "best": "the epoch that the objective chose (from 0), and the metrics after it",
    "time.fit_seconds": "from the first epoch to the last, validation and checkpoints included",
    "time.epoch_seconds": "the training part of each epoch",
    "time.images_per_second": "of training",
    "resumed": "the sessions before the last, for a run that was killed and went on: threads, torch, commit, where it was",
    "confusion_matrix": "val and test: rows are the true class, columns the prediction, counts",
    "per_class": "classes, their names in the order of the matrices, and val/recall and test/recall of each",
    "agreement_with_cpu": "of a run on a GPU: how far the same evaluation on the CPU differs; else null",
}


def page() -> str:
    """The page of the record."""
    return document(
        "result.json",
        f"After this page you can read the record that every run leaves (schema {SCHEMA}). It is written whole or not "
        "at all, and what is not a finite number is null. `cnnbench.load_results` makes one table of many.",
        table(("field", "meaning"), [(code(name), plain(meaning)) for name, meaning in FIELDS.items()]),
    )
