"""Which values the keys of the configuration may have, checked before any work starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnbench.utils.errors import RequestError, did_you_mean

Check = tuple[Callable[[Any], bool], str]
MISSING = object()


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _whole(least: int, *words: str | None) -> Check:
    shown = "".join(f" or {'null' if word is None else word}" for word in words)
    return lambda v: _is_whole(v, least) or _in(v, words), f"a whole number of at least {least}{shown}"


def _in(value: Any, words: tuple[str | None, ...]) -> bool:
    return (value is None or isinstance(value, str)) and value in words


def _one_of(*words: str) -> Check:
    return lambda v: _in(v, words), " or ".join(words)


def _or_null(check: Check) -> Check:
    right, text = check
    return lambda v: v is None or right(v), f"{text}, or null"


def _per_channel(check: Check) -> Check:
    right, text = check
    return (
        lambda v: all(map(right, v)) and len(v) > 0 if isinstance(v, list) else right(v),
        f"{text}, or a list of one for each channel",
    )


NUMBER: Check = (_number, "a number")
POSITIVE: Check = (lambda v: _number(v) and v > 0, "a number above 0")
NOT_NEGATIVE: Check = (lambda v: _number(v) and v >= 0, "a number, 0 or above")
SHARE: Check = (lambda v: _number(v) and 0 <= v < 1, "a number from 0 to below 1")
BETWEEN: Check = (lambda v: _number(v) and 0 < v < 1, "a number between 0 and 1")
FACTOR: Check = (lambda v: _number(v) and 0 < v <= 1, "a number above 0, at most 1")
AT_LEAST_1: Check = (lambda v: _number(v) and v >= 1, "a number of at least 1")
TRUTH: Check = (lambda v: isinstance(v, bool), "true or false")
TEXT: Check = (lambda v: isinstance(v, str), "text")
PATH: Check = (lambda v: isinstance(v, str) and v != "", "the path of a file")
BETAS: Check = (
    lambda v: isinstance(v, list) and len(v) == 2 and all(_number(b) and 0 <= b < 1 for b in v),
    "two numbers from 0 to below 1, such as [0.9, 0.999]",
)
EPOCHS: Check = (
    lambda v: v == "auto" or (isinstance(v, list) and all(_is_whole(epoch, 1) for epoch in v)),
    "a list of whole numbers of at least 1, or auto",
)
DEVICES: Check = (
    lambda v: (
        _is_whole(v, 1) or _in(v, ("auto",)) or (isinstance(v, list) and bool(v) and all(_is_whole(d, 0) for d in v))
    ),
    "how many, or auto, or a list of their numbers",
)
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
OPTIMIZER: dict[str, Check] = {
    "lr": POSITIVE,
    "momentum": SHARE,
    "weight_decay": NOT_NEGATIVE,
    "betas": BETAS,
    "eps": NOT_NEGATIVE,
    "alpha": SHARE,
    "rho": SHARE,
    "nesterov": TRUTH,
    "fused": _or_null(TRUTH),
    "foreach": _or_null(TRUTH),
}
# Torch and Lightning do not check these, or late, or in words that a user cannot place. The layers of a network, the
# augmentations, the ways to validate and the objective have checks that need more than the value (where they are used).
# What others are computed from comes first, so that it is what is named.
VALUES: dict[str, Check] = {
    "name": TEXT,
    "seed": _whole(0),
    "steps_per_execution": _whole(1, "auto"),
    "threads": _whole(1, None),
    "label_smoothing": SHARE,
    "decay_norm_and_bias": TRUTH,
    "cuda_graph": TRUTH,
    "compile": TRUTH,
    "test_with": _one_of("best", "last"),
    "init_from": _or_null(PATH),
    "quirks.softmax_before_loss": TRUTH,
    "quirks.dropout_in_evaluation": TRUTH,
    "quirks.batch_recall": TRUTH,
    "quirks.train_in_eval_mode": TRUTH,
    "study.form": _one_of("published", "corrected"),
    "checkpoint.minutes": _or_null(NOT_NEGATIVE),
    "checkpoint.steps": _whole(1, None),
    "divergence.above": _or_null((lambda v: _number(v) and v > 1, "a number above 1")),
    "divergence.epochs": _whole(1),
    "divergence.at_chance": TRUTH,
    "sweep.isolate": TRUTH,
    "sweep.timeout": _or_null(POSITIVE),
    "sweep.retries": _whole(0),
    "sweep.runs_per_gpu": _whole(1),
    "sweep.repeat_failed": TRUTH,
    "sweep.earlier": TRUTH,
    "data.seed": _whole(0),
    "data.path": TEXT,
    "data.root": TEXT,
    "data.cache": TEXT,
    "data.batch_size": _whole(1),
    "data.eval_batch_size": _whole(1),
    "data.image_size": _whole(1, None),
    "data.limit_train": _whole(1, None),
    "data.split_seed": _whole(0),
    "data.shuffle": TRUTH,
    "data.mean": _per_channel(NUMBER),
    "data.std": _per_channel(POSITIVE),
    "data.storage": _one_of("auto", "memory", "stream"),
    "data.workers": _whole(0),
    "data.memory_share": FACTOR,
    **{f"optimizer.{part}{key}": check for part in ("", "first.", "then.") for key, check in OPTIMIZER.items()},
    "optimizer.lr": (lambda v: (_number(v) and v > 0) or _in(v, ("auto",)), "a number above 0, or auto"),
    "optimizer.switch_at": BETWEEN,
    "fine_tune.frozen_epochs": _whole(0),
    "fine_tune.backbone_lr_factor": POSITIVE,
    "trainer.max_epochs": _whole(1),
    "trainer.devices": DEVICES,
    "trainer.num_nodes": _whole(1),
    "trainer.strategy": _one_of("auto", "ddp"),
    "trainer.sync_batchnorm": TRUTH,
    "trainer.precision": _one_of(*PRECISIONS),
    "trainer.deterministic": (lambda v: isinstance(v, bool) or _in(v, ("warn",)), "true or false or warn"),
    "trainer.accumulate_grad_batches": _whole(1),
    "trainer.gradient_clip_val": _or_null(POSITIVE),
    "scheduler.T_max": _whole(1),
    "scheduler.eta_min": NOT_NEGATIVE,
    "scheduler.gamma": FACTOR,
    "scheduler.step_size": _whole(1),
    "scheduler.factor": BETWEEN,
    "scheduler.patience": _whole(0),
    "scheduler.threshold": NOT_NEGATIVE,
    "scheduler.pct_start": BETWEEN,
    "scheduler.div_factor": AT_LEAST_1,
    "scheduler.final_div_factor": AT_LEAST_1,
    "scheduler.anneal_strategy": _one_of("cos", "linear"),
    "callbacks.progress.seconds": NOT_NEGATIVE,
    "callbacks.progress.minutes": _or_null(NOT_NEGATIVE),
    "callbacks.figures.every_n_epochs": _whole(0),
    "callbacks.figures.at_epochs": EPOCHS,
    "callbacks.figures.pictures": TRUTH,
    "callbacks.early_stopping.patience": _whole(0),
    "callbacks.early_stopping.min_delta": NOT_NEGATIVE,
    "logger.name": TEXT,
    "logger.version": TEXT,
    "logger.default_hp_metric": TRUTH,
}

JOBS: Check = (
    lambda v: isinstance(v, int) and not isinstance(v, bool) and v != 0,
    "a whole number of at least 1, or -1 for a run a core, -2 for one less",
)
# Of Hydra's own node: options of launchers and sweepers, where the chosen ones have them.
OF_HYDRA: dict[str, Check] = {
    "hydra.launcher.n_jobs": JOBS,
    "hydra.sweeper.dry_run": TRUTH,
    "hydra.sweeper.n_trials": _whole(1),
    "hydra.sweeper.at_a_time": JOBS,  # as launcher.n_jobs says, unless it is given
    "hydra.sweeper.sampler": _one_of("tpe", "random", "qmc"),
    "hydra.sweeper.pruner": _one_of("median", "halving", "none"),
    "hydra.sweeper.startup_trials": _whole(0),
    "hydra.sweeper.seed": _whole(0),
}


def check_values(config: Mapping[str, Any]) -> None:
    """Check types and ranges of the keys that ``VALUES`` names, where the resolved configuration has them.

    Raises:
        RequestError: naming the first wrong key, its value, and what would be right.
    """
    for key, check in VALUES.items():
        _check(key, _select(config, key), check)


def check_plugin_values(hydra: DictConfig) -> None:
    """Likewise those keys of Hydra's own node that ``OF_HYDRA`` names."""
    for key, check in OF_HYDRA.items():
        _check(key, OmegaConf.select(hydra, key.removeprefix("hydra."), default=MISSING), check)


def _check(key: str, value: Any, check: Check) -> None:
    right, text = check
    if value is not MISSING and not right(value):
        near = did_you_mean(value, text.split(" or ")) if isinstance(value, str) else ""
        raise RequestError(f"{key} must be {text}, got {value!r}{near}")


def _select(config: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return MISSING
        config = config[name]
    return config
