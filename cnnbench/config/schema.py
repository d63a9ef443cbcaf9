"""Which values the keys of the configuration may have, checked before any work starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from cnnbench.utils.errors import RequestError, did_you_mean

MISSING = object()
SAMPLERS = ("tpe", "random", "qmc")  # of a search
PRUNERS = ("median", "halving", "none")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")


class Check(NamedTuple):
    """Which values are right, and how to say it."""

    holds: Callable[[Any], bool]
    text: str


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_in(value: Any, words: tuple[str | None, ...]) -> bool:
    return (value is None or isinstance(value, str)) and value in words


def _number(text: str, holds: Callable[[float], bool]) -> Check:
    return Check(lambda v: _is_number(v) and holds(v), text)


def _whole(least: int, *words: str | None) -> Check:
    others = "".join(f" or {'null' if word is None else word}" for word in words)
    return Check(lambda v: _is_whole(v, least) or _is_in(v, words), f"a whole number of at least {least}{others}")


def _one_of(*words: str) -> Check:
    return Check(lambda v: _is_in(v, words), " or ".join(words))


def _or_null(check: Check) -> Check:
    return Check(lambda v: v is None or check.holds(v), f"{check.text}, or null")


def _per_channel(check: Check) -> Check:
    return Check(
        lambda v: all(map(check.holds, v)) and len(v) > 0 if isinstance(v, list) else check.holds(v),
        f"{check.text}, or a list of one for each channel",
    )


NUMBER = _number("a number", lambda v: True)
POSITIVE = _number("a number above 0", lambda v: v > 0)
NOT_NEGATIVE = _number("a number, 0 or above", lambda v: v >= 0)
SHARE = _number("a number from 0 to below 1", lambda v: 0 <= v < 1)
BETWEEN = _number("a number between 0 and 1", lambda v: 0 < v < 1)
FACTOR = _number("a number above 0, at most 1", lambda v: 0 < v <= 1)
ABOVE_1 = _number("a number above 1", lambda v: v > 1)
AT_LEAST_1 = _number("a number of at least 1", lambda v: v >= 1)
TRUTH = Check(lambda v: isinstance(v, bool), "true or false")
TEXT = Check(lambda v: isinstance(v, str), "text")
PATH = Check(lambda v: isinstance(v, str) and v != "", "the path of a file")
TRIAL = Check(
    lambda v: (
        isinstance(v, dict)
        and v.keys() == {"number", "storage", "pruner", "startup_trials"}
        and _is_whole(v["number"], 0)
        and isinstance(v["storage"], str)
        and v["pruner"] in PRUNERS
        and _is_whole(v["startup_trials"], 0)
    ),
    "number, storage, pruner and startup_trials of a search",
)
DETERMINISTIC = Check(lambda v: isinstance(v, bool) or _is_in(v, ("warn",)), "true or false or warn")
BETAS = Check(
    lambda v: isinstance(v, list) and len(v) == 2 and all(map(SHARE.holds, v)),
    "two numbers from 0 to below 1, such as [0.9, 0.999]",
)
EPOCHS = Check(
    lambda v: v == "auto" or (isinstance(v, list) and all(_is_whole(epoch, 1) for epoch in v)),
    "a list of whole numbers of at least 1, or auto",
)
DEVICES = Check(
    lambda v: (
        _is_whole(v, 1) or _is_in(v, ("auto",)) or (isinstance(v, list) and bool(v) and all(_is_whole(d, 0) for d in v))
    ),
    "how many, or auto, or a list of their numbers",
)
JOBS = Check(
    lambda v: isinstance(v, int) and not isinstance(v, bool) and v != 0,
    "a whole number of at least 1, or -1 for a run a core, -2 for one less",
)

# Torch and Lightning do not check these, or late, or in words that a user cannot place. The layers of a network, the
# augmentations, the ways to validate and the objective have checks that need more than the value (where they are used).
# A key that others are computed from comes before them, so that it is what is named.
KEYS: tuple[tuple[Check, str], ...] = (
    (TEXT, "name data.path data.root data.cache logger.name logger.version"),
    (_whole(0), "seed data.seed data.split_seed data.workers sweep.retries fine_tune.frozen_epochs scheduler.patience "
                "callbacks.figures.every_n_epochs callbacks.early_stopping.patience"),
    (_whole(1), "trainer.max_epochs trainer.num_nodes trainer.accumulate_grad_batches scheduler.T_max data.batch_size "
                "data.eval_batch_size scheduler.step_size divergence.epochs sweep.runs_per_gpu"),
    (_whole(1, "auto"), "steps_per_execution"),
    (_whole(1, None), "threads checkpoint.steps data.image_size data.limit_train"),
    (TRUTH, "decay_norm_and_bias cuda_graph compile quirks.softmax_before_loss quirks.dropout_in_evaluation "
            "quirks.batch_recall quirks.train_in_eval_mode divergence.at_chance sweep.isolate sweep.repeat_failed sweep.earlier "
            "data.shuffle trainer.sync_batchnorm callbacks.figures.pictures logger.default_hp_metric"),
    (NOT_NEGATIVE, "scheduler.eta_min scheduler.threshold callbacks.progress.seconds "
                   "callbacks.early_stopping.min_delta"),
    (_or_null(NOT_NEGATIVE), "checkpoint.minutes callbacks.progress.minutes"),
    (POSITIVE, "fine_tune.backbone_lr_factor"),
    (_or_null(TRIAL), "sweep.trial"),
    (_or_null(POSITIVE), "sweep.timeout trainer.gradient_clip_val"),
    (_or_null(ABOVE_1), "divergence.above"),
    (AT_LEAST_1, "scheduler.div_factor scheduler.final_div_factor"),
    (SHARE, "label_smoothing"),
    (FACTOR, "data.memory_share scheduler.gamma"),
    (BETWEEN, "optimizer.switch_at scheduler.factor scheduler.pct_start"),
    (_or_null(PATH), "init_from"),
    (_per_channel(NUMBER), "data.mean"),
    (_per_channel(POSITIVE), "data.std"),
    (_one_of("best", "last"), "test_with"),
    (_one_of("published", "corrected"), "study.form"),
    (_one_of("auto", "memory", "stream"), "data.storage"),
    (_one_of("auto", "ddp"), "trainer.strategy"),
    (_one_of(*PRECISIONS), "trainer.precision"),
    (_one_of("cos", "linear"), "scheduler.anneal_strategy"),
    (DEVICES, "trainer.devices"),
    (DETERMINISTIC, "trainer.deterministic"),
    (EPOCHS, "callbacks.figures.at_epochs"),
)  # fmt: skip
# Of an optimizer, and of each of the two of optimizer=switch.
OPTIMIZER_KEYS: tuple[tuple[Check, str], ...] = (
    (POSITIVE, "lr"),
    (SHARE, "momentum alpha rho"),
    (NOT_NEGATIVE, "weight_decay eps"),
    (BETAS, "betas"),
    (TRUTH, "nesterov"),
    (_or_null(TRUTH), "fused foreach"),
)
PLACES = ("optimizer", "optimizer.first", "optimizer.then")
VALUES = {key: check for check, keys in KEYS for key in keys.split()}
VALUES |= {f"{place}.{key}": check for place in PLACES for check, keys in OPTIMIZER_KEYS for key in keys.split()}
VALUES["optimizer.lr"] = Check(lambda v: POSITIVE.holds(v) or _is_in(v, ("auto",)), "a number above 0, or auto")
# Options of launchers and sweepers, where the chosen ones have them.
PLUGIN_VALUES = {
    "hydra.launcher.n_jobs": JOBS,
    "hydra.sweeper.dry_run": TRUTH,
    "hydra.sweeper.n_trials": _whole(1),
    "hydra.sweeper.at_a_time": JOBS,  # as launcher.n_jobs says, unless it is given
    "hydra.sweeper.sampler": _one_of(*SAMPLERS),
    "hydra.sweeper.pruner": _one_of(*PRUNERS),
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
    """Likewise those keys of Hydra's own node that ``PLUGIN_VALUES`` names."""
    for key, check in PLUGIN_VALUES.items():
        _check(key, OmegaConf.select(hydra, key.removeprefix("hydra."), default=MISSING), check)


def _check(key: str, value: Any, check: Check) -> None:
    if value is not MISSING and not check.holds(value):
        near = did_you_mean(value, check.text.split(" or ")) if isinstance(value, str) else ""
        raise RequestError(f"{key} must be {check.text}, got {value!r}{near}")


def _select(config: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return MISSING
        config = config[name]
    return config
