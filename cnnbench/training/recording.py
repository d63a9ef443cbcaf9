"""What a record says of how its run ended, of its network and of its weights."""

import hashlib
import traceback
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnbench.data import ImageDataModule
from cnnbench.data.loader import REMEDY
from cnnbench.models.profile import flops_per_image, size_in_bits
from cnnbench.training.build import cause_of
from cnnbench.training.callbacks.early_stopping import Diverged
from cnnbench.training.distributed import RankFailed
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.record import Record
from cnnbench.utils.signals import Stopped

COMPARED = 1024  # test images evaluated on the CPU too, where the run was on another device


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
    return {
        "name": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "bits": size_in_bits(network),
        "flops_per_image": flops_per_image(network, data.prepared.channels, data.prepared.image_size),
    }


def weights_sha256(classifier: ImageClassifier) -> str:
    """The SHA-256 of all weights and buffers, in the order of their names."""
    total = hashlib.sha256()
    for name, value in sorted(classifier.state_dict().items()):
        total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def agreement_with_cpu(
    classifier: ImageClassifier, data: ImageDataModule, device: torch.device
) -> dict[str, float | int] | None:
    """How far the evaluation on the CPU differs from that on ``device``, on which the run was; None for the CPU."""
    if device.type == "cpu":
        return None
    images = data.batch("test", np.arange(min(COMPARED, data.count("test"))))
    there = classifier.to(device).predict_logits(images).cpu()
    here = classifier.to("cpu").predict_logits(images)
    return {
        "images": len(images),
        "largest_logit_difference": float((here - there).abs().max()),
        "different_predictions": int((here.argmax(dim=1) != there.argmax(dim=1)).sum()),
    }
