"""What a run would take, from some steps of it: how long, and with which batch size it fits in memory."""

import os
import time
import traceback
from collections.abc import Callable

import torch

from cnnbench.data import ImageDataModule
from cnnbench.models.profile import eval_mode
from cnnbench.training.build import Config, build_data, build_network
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.environment import GPU_ACCELERATORS
from cnnbench.utils.memory import is_out_of_memory

STEPS = 5  # at least so many are measured
SECONDS = 0.5  # and for at least so long, where a step is short


def busy_note() -> str:
    """That other processes keep the cores busy, for then measured steps are slow; empty where they do not."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load <= cores / 2:
        return ""
    return f"this machine is busy (load {load:.1f} on {cores} cores): idle it would take less time than this"


def run_seconds(config: Config) -> float:
    """Estimated seconds of training and evaluation of one run."""
    data = build_data(config)
    gpu = torch.cuda.is_available() and config["trainer"]["accelerator"] in GPU_ACCELERATORS
    device = torch.device("cuda" if gpu else "cpu")
    classifier = ImageClassifier(config, build_network(config, data), len(data.classes)).to(device)
    classifier.build_optimizer(steps=1000)
    images, labels = (tensor.to(device) for tensor in next(iter(next(iter(data.train_dataloader())))))

    with torch.no_grad():
        evaluation = _mean_seconds(lambda: classifier.network(images), device)
    evaluated = data.count("val") + (data.count("train") if classifier.quirks.train_in_eval_mode else 0)
    epoch = (
        data.steps_per_epoch * data.accumulate * _mean_seconds(lambda: classifier.train_step(images, labels), device)
    )
    return (epoch + evaluated / len(images) * evaluation) * config["trainer"]["max_epochs"]


def _mean_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Mean seconds of a call, after one that is not counted."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    call()
    wait()
    start, calls = time.perf_counter(), 0
    while calls < STEPS or time.perf_counter() - start < SECONDS:
        call()
        calls += 1
    wait()
    return (time.perf_counter() - start) / calls


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
