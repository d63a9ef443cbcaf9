"""What is kept of a run beside its metrics: how it ended, its network and weights, and ``predictions.npz``."""

import hashlib
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnbench.data import ImageDataModule
from cnnbench.data.stream import REMEDY
from cnnbench.models.profile import flops_per_image, size_in_bits
from cnnbench.training.build import cause_of
from cnnbench.training.callbacks.early_stopping import Diverged
from cnnbench.training.distributed import RankFailed
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.record import PREDICTIONS_FILE, Record
from cnnbench.utils.signals import Stopped

COMPARED = 1024  # test images evaluated on the CPU too, where the run was on another device
LARGEST = float(np.finfo(np.float16).max)
MOST_CLASSES = 100  # with more, only probabilities are kept


def describe_end(error: BaseException) -> Record:
    """``status`` and ``error`` of a run that has ended with this error."""
    if isinstance(error, RankFailed):
        return {"status": "failed", "error": error.error}
    cause, trace = cause_of(error), "".join(traceback.format_exception(error))
    message = str(cause).strip()
    if message.startswith("DataLoader worker"):  # torch raises it in whatever this process does when one dies
        message = f"a process that reads images has ended ({message}): {REMEDY}"
    described = {"type": type(cause).__name__, "message": message, "traceback": trace}
    if isinstance(error, Diverged):
        return {"status": "diverged", "error": {**described, "epoch": error.epoch, "step": error.step}}
    was_stopped = isinstance(error, (KeyboardInterrupt, Stopped))
    return {"status": "interrupted" if was_stopped else "failed", "error": described}


def describe_network(network: nn.Module, data: ImageDataModule, name: str) -> dict[str, Any]:
    """The record's ``model``; ``bits`` is the size of what a prediction needs."""
    sizes = {"parameters": sum(p.numel() for p in network.parameters()), "bits": size_in_bits(network)}
    flops = flops_per_image(network, data.prepared.channels, data.prepared.image_size)
    return {"name": name, **sizes, "flops_per_image": flops}


def weights_sha256(classifier: ImageClassifier) -> str:
    """The SHA-256 of all weights and buffers, in the order of their names."""
    total = hashlib.sha256()
    for name, value in sorted(classifier.state_dict().items()):
        total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def agreement_with_cpu(model: ImageClassifier, data: ImageDataModule, device: torch.device) -> dict[str, Any] | None:
    """How far the evaluation on the CPU differs from that on ``device``, on which the run was; None for the CPU."""
    if device.type == "cpu":
        return None
    images = data.batch("test", np.arange(min(COMPARED, data.count("test"))))
    there = model.to(device).predict_logits(images).cpu()
    here = model.to("cpu").predict_logits(images)
    largest, changed = float((here - there).abs().max()), int((here.argmax(dim=1) != there.argmax(dim=1)).sum())
    return {"images": len(images), "largest_logit_difference": largest, "different_predictions": changed}


def save_predictions(folder: Path, logits: Mapping[str, Tensor], data: ImageDataModule) -> None:
    """Write ``predictions.npz``, whole or not at all, from logits (N, classes) by split. For each split it has, all
    (N,) and in the order of the split: ``{split}_row``, the number of the image in the set; ``{split}_true`` and
    ``{split}_predicted``, int32; ``{split}_probability_true`` and ``{split}_probability_predicted``, float32; of image
    files ``{split}_file``, paths below ``data.path``; up to 100 classes ``{split}_logits``, float16 (N, classes)."""
    arrays: dict[str, np.ndarray] = {}
    for split, values in logits.items():
        probabilities = values.double().softmax(dim=1).cpu().numpy()
        classes, rows = {"true": data.labels(split), "predicted": probabilities.argmax(axis=1)}, np.arange(len(values))
        columns = {"row": data.row_numbers(split), **{name: of.astype(np.int32) for name, of in classes.items()}}
        columns |= {f"probability_{name}": probabilities[rows, of].astype(np.float32) for name, of in classes.items()}
        if (files := data.files(split)) is not None:
            columns["file"] = files
        if values.shape[1] <= MOST_CLASSES:
            columns["logits"] = values.cpu().clamp(-LARGEST, LARGEST).numpy().astype(np.float16)
        arrays |= {f"{split}_{name}": column for name, column in columns.items()}
    temporary = folder / f".{PREDICTIONS_FILE}"
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, folder / PREDICTIONS_FILE)
