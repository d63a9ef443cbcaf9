"""What a reproduction would take: each row's time from a few measured steps."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import torch

from cnnbench.analysis.metric_names import plural
from cnnbench.analysis.studies.study import Study
from cnnbench.config.compose import compose, resolved
from cnnbench.config.schema import check_values
from cnnbench.training.build import Config, build_classifier, build_data, build_network
from cnnbench.training.optimizers import build_optimizer
from cnnbench.training.preflight import check, silence_libraries
from cnnbench.utils.errors import RequestError
from cnnbench.utils.memory import keep_freed_memory

STEPS = 5  # at least so many are measured
SECONDS = 1.0  # and for at least so long, where a step is short


def estimate(study: Study, rows: Sequence[str], forms: Sequence[str], seeds: int, overrides: Sequence[str]) -> int:
    """Print each run and its estimated time, and the sum; returns 0, or 1 when there are rows that cannot be run here.

    Raises:
        RequestError: an override is wrong, or no row can be run.
    """
    silence_libraries()
    keep_freed_memory()
    told_if_busy()
    total, count = 0.0, 0
    refused: list[RequestError] = []
    for form in forms:
        for row in rows:
            asked = [f"experiment={study.name}/{row}", f"study.form={form}", *overrides]
            config = resolved(compose(asked))
            check_values(config)
            try:
                check(config)
            except RequestError as error:
                refused.append(error)
                print(f"{form:<10} {row:<24} cannot be run: {error}", flush=True)
                continue
            seconds = run_seconds(config)
            total, count = total + seeds * seconds, count + seeds
            print(f"{form:<10} {row:<24} {seeds} x {_duration(seconds)}", flush=True)
    if not count:
        raise refused[0]
    print(
        f"{count} runs, {_duration(total)} one after the other on this machine, with {torch.get_num_threads()} threads"
    )
    return 1 if refused else 0


def told_if_busy() -> None:
    """Say so where other processes keep the cores busy, for then the steps that are measured are slow."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        print(
            f"this machine is busy (load {load:.1f} on {plural(cores, 'core')}): idle it would take less time than this"
        )


def run_seconds(config: Config) -> float:
    """Estimated seconds of training and evaluation of one run, from a few steps of it."""
    data = build_data(config)
    device = torch.device("cuda" if torch.cuda.is_available() and config["trainer"]["accelerator"] != "cpu" else "cpu")
    classifier = build_classifier(config, build_network(config, data), data).to(device)
    optimizer = build_optimizer(classifier.make_optimizer, classifier.network.parameters(), total_steps=1000)
    batches = iter(next(iter(data.train_dataloader())))
    images, labels = (tensor.to(device) for tensor in next(batches))

    def step() -> None:
        classifier.train_loss(classifier.network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    def evaluate() -> None:
        with torch.no_grad():
            classifier.network(images)

    a_step, an_evaluation = _seconds_of(step, device), _seconds_of(evaluate, device)
    evaluated = data.count("val") + (data.count("train") if classifier.quirks.train_in_eval_mode else 0)
    epoch = data.steps_per_epoch * data.accumulate * a_step + evaluated / len(images) * an_evaluation
    return epoch * config["trainer"]["max_epochs"]


def _seconds_of(do: object, device: torch.device) -> float:
    """Seconds of one call, after one that is not counted."""
    assert callable(do)
    do()
    _wait(device)
    start, calls = time.perf_counter(), 0
    while calls < STEPS or time.perf_counter() - start < SECONDS / 2:
        do()
        calls += 1
        if calls >= STEPS and time.perf_counter() - start > SECONDS / 2:
            break
    _wait(device)
    return (time.perf_counter() - start) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _duration(seconds: float) -> str:
    """``42 s``, ``3 min`` or ``2.1 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
