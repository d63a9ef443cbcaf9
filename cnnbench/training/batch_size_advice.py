"""Which batch size fits, where a run has found no room in memory: tried, not estimated."""

import traceback
from collections.abc import Callable

import torch

from cnnbench.data import ImageDataModule
from cnnbench.models.profile import eval_mode
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.memory import is_out_of_memory


def suggest_batch_size(error: BaseException, classifier: ImageClassifier, data: ImageDataModule) -> str:
    """Which batch size fits, in words; the run is over, and its network is used for trying.

    Args:
        error: that training ended with; what its frames hold is let go of first.
    """
    traceback.clear_frames(error.__traceback__)
    network, store = classifier.network, data.prepared
    device = next(network.parameters()).device
    if device.type == "cuda":
        torch.cuda.empty_cache()

    def images(size: int) -> torch.Tensor:
        shape = size, store.channels, store.image_size, store.image_size
        return torch.zeros(shape, device=device).contiguous(memory_format=torch.channels_last)

    def train(size: int) -> None:
        network.train()
        labels = torch.zeros(size, dtype=torch.int64, device=device)
        classifier.train_loss(network(images(size)), labels).backward()
        network.zero_grad()

    def evaluate(size: int) -> None:
        with eval_mode(network):
            network(images(size))

    attempts = (("batch_size", data.batch_size, train), ("eval_batch_size", data.eval_batch_size, evaluate))
    for key, size, attempt in attempts:
        fits = size
        while fits and not _fits(attempt, fits):
            fits //= 2
        if not fits:
            return f"not even data.{key}=1 fits; a smaller network or data.image_size may"
        if fits < size:
            return f"data.{key}={size} is too much; data.{key}={fits} fits"
    return "a step fits by itself, so something else takes the memory"


def _fits(attempt: Callable[[int], None], size: int) -> bool:
    try:
        attempt(size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
