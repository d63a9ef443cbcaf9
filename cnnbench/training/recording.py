"""What a record says of how its run ended, of its network and of its weights."""

import hashlib
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from torch import nn

from cnnbench.data import ImageDataModule
from cnnbench.models.profile import flops_per_image, size_in_bits
from cnnbench.training.callbacks.early_stopping import Diverged
from cnnbench.training.distributed import RankFailed
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.record import Record
from cnnbench.utils.signals import Stopped

COMPARED = 1024  # test images evaluated on the CPU too, where the run was on another device


def record_end(record: Record, run: Callable[[], None]) -> Exception | None:
    """Do ``run``; how it ends goes into ``status`` and ``error`` of the record. Returns what it failed with."""
    try:
        run()
    except Diverged as error:
        record.update(status="diverged", error={**_describe(error), "epoch": error.epoch, "step": error.step})
    except (KeyboardInterrupt, Stopped) as error:
        record.update(status="interrupted", error=_describe(error))
    except RankFailed as error:
        record.update(status="failed", error=error.error)
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else None
        failure = cause if isinstance(cause, Exception) else error
        record.update(
            status="failed", error={**_describe(error), "type": type(failure).__name__, "message": str(failure)}
        )
        return failure
    return None


def _describe(error: BaseException) -> dict[str, str]:
    """The record's ``error``."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def weights_sha256(classifier: ImageClassifier) -> str:
    """The SHA-256 of all weights and buffers, in the order of their names."""
    total = hashlib.sha256()
    for name, value in sorted(classifier.state_dict().items()):
        total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def describe_network(network: nn.Module, data: ImageDataModule, name: str) -> dict[str, Any]:
    """The record's ``model``; ``bits`` is the size of what a prediction needs."""
    return {
        "name": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "bits": size_in_bits(network),
        "flops_per_image": flops_per_image(network, data.prepared.channels, data.prepared.image_size),
    }


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
