"""How long a run would take, from a few measured steps of it."""

import os
import time
from collections.abc import Callable

import torch

from cnnbench.training.build import Config, build_classifier, build_data, build_network
from cnnbench.utils.environment import GPU_ACCELERATORS

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
    classifier = build_classifier(config, build_network(config, data), data).to(device)
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
