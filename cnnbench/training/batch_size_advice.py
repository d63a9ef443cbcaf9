"""What would fit, where a run has found no room in memory: tried, not estimated."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from cnnbench.models.profile import eval_mode
from cnnbench.utils.memory import is_out_of_memory

if TYPE_CHECKING:
    from cnnbench.data import ImageDataModule
    from cnnbench.training.module import ImageClassifier


def suggest_batch_size(error: BaseException, classifier: ImageClassifier, data: ImageDataModule) -> str:
    """Which batch size fits, in words; the run is over, and its network is used for trying.

    Args:
        error: that training ended with; what its frames hold is let go of first.
    """
    traceback.clear_frames(error.__traceback__)
    device = next(classifier.network.parameters()).device
    if device.type == "cuda":
        torch.cuda.empty_cache()
    store = data.prepared

    def images(size: int) -> torch.Tensor:
        shape = size, store.channels, store.image_size, store.image_size
        return torch.zeros(shape, device=device).contiguous(memory_format=torch.channels_last)

    def learn(size: int) -> None:
        classifier.network.train()
        labels = torch.zeros(size, dtype=torch.int64, device=device)
        classifier.train_loss(classifier.network(images(size)), labels).backward()
        classifier.network.zero_grad()

    def look(size: int) -> None:
        with eval_mode(classifier.network):
            classifier.network(images(size))

    for key, size, attempt in (("batch_size", data.batch_size, learn), ("eval_batch_size", data.eval_batch_size, look)):
        if _fits(attempt, size):
            continue
        smaller = largest_that_fits(attempt, size)
        if smaller is None:
            return f"not even data.{key}=1 fits; a smaller network or data.image_size may"
        return f"data.{key}={size} is too much; data.{key}={smaller} fits"
    return "a step fits by itself, so something else takes the memory"


def largest_that_fits(attempt: Callable[[int], None], size: int) -> int | None:
    """The largest of ``size // 2``, ``size // 4``, ... for which ``attempt`` finds room; None where 1 does not."""
    while size > 1:
        size //= 2
        if _fits(attempt, size):
            return size
    return None


def _fits(attempt: Callable[[int], None], size: int) -> bool:
    try:
        attempt(size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
