"""What a run was set to, as one flat mapping, and which of these settings vary over a collection of runs.

A Hydra group's choice stands under the group's name (``optimizer: adam``), every leaf of the resolved configuration
under its dotted key (``optimizer.lr: 0.001``).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from cnnbench.config.overrides import GLOBAL, parse_override

Settings = Mapping[str, Any]
SEED = "seed"  # the replicate, never a factor
SPLIT = ("data.split_seed", "data.fold")  # part of it where they decide what is trained on

# Settings that change where things lie, how they are shown or how fast they go, but not what is learnt.
NO_RESULT = (
    "name", "threads", "keep_predictions", "metrics", "steps_per_execution", "cuda_graph", "hydra", "logger", "paths", "output_dir",
    "checkpoint", "sweep", "study.name", "study.form", "study.change", "study.reported",
    "callbacks.progress", "callbacks.figures",
    "data.cache", "data.root", "data.storage", "data.memory_share", "data.workers", "data.worker_seconds", "data.eval_batch_size",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
    "trainer.default_root_dir", "trainer.logger", "trainer.callbacks", "trainer.profiler",
)  # fmt: skip
# Keys that version 1 did not have, with the values at which they change nothing: fingerprints outlive new keys.
NEW_KEYS = {"data.splits": None, "data.source.splits": None, "data.duplicates": "warn", "data.value_range": None,
            "data.folds": None, "data.fold": None, "average._target_": None, "scheduler.warmup": 0.0,
            "fine_tune.layer_decay": 1.0, "test_time_augmentation": "none", "data.sampling": "uniform", "loss._target_": "cnnbench.training.quirks.CrossEntropy",
            **dict.fromkeys((f"augment.{name}" for name in ("resized_crop", "rotate", "brightness", "contrast", "saturation",
                                                            "erase", "mixup", "cutmix")), 0.0),
            "augment.policy": "none", "augment.rand_operations": 2, "augment.rand_magnitude": 9}  # fmt: skip
# Groups whose choice is only a bundle of keys: the keys count, the bundle's name does not.
BUNDLES = ("trainer", "logger")
# Where classes that a `_target_` of version 1 names are now: old records, their fingerprints and users' YAMLs stay valid.
VERSION_1_TARGETS = {
    "cnnbench.augment.": "cnnbench.data.augment.",
    "cnnbench.callbacks.": "cnnbench.training.callbacks.",
    "cnnbench.optim.Switch": "cnnbench.training.optimizers.SwitchOptimizer",
    "cnnbench.schedulers.": "cnnbench.training.schedulers.",
}


def changes_result(key: str) -> bool:
    """Whether runs that differ in ``key`` may have different results."""
    return not any(key == name or key.startswith(f"{name}.") for name in NO_RESULT)


def ignored(key: str) -> bool:
    """Whether ``key`` is never a factor: it has no bearing on the result, or is the seed."""
    return key == SEED or not changes_result(key)


def current_target(target: str, moved: Iterable[tuple[str, str]] = tuple(VERSION_1_TARGETS.items())) -> str:
    """``_target_`` as this version has it: ``cnnbench.optim.Switch`` is ``cnnbench.training.optimizers.SwitchOptimizer``."""
    return next((new + target.removeprefix(old) for old, new in moved if target.startswith(old)), target)


def version_1_target(target: str) -> str:
    """The inverse of ``current_target``, for fingerprints, which outlive a move of the code."""
    return current_target(target, [(new, old) for old, new in VERSION_1_TARGETS.items()])


def with_current_targets(node: Any) -> Any:
    """A copy of a configuration in which every ``_target_`` is as this version has it."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        own = {"_target_": current_target(target)} if isinstance(target, str) else {}
        return {key: with_current_targets(value) for key, value in node.items()} | own
    return [with_current_targets(value) for value in node] if isinstance(node, (list, tuple)) else node


def flatten(config: Settings, prefix: str = "") -> dict[str, Any]:
    """Every leaf of a nested mapping under its dotted key; lists are leaves, unresolved interpolations are left out."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{key}."))
        elif not (isinstance(value, str) and "${" in value):
            flat[key] = current_target(value) if name == "_target_" and isinstance(value, str) else value
    return flat


def canonical(value: Any) -> str:
    """Text that is the same for equal settings: ``1`` and ``1.0`` are equal, ``1`` and ``true`` are not."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    return _canonical(value) if isinstance(value, (str, int, float)) else json.dumps(value, sort_keys=True, default=str)


@lru_cache(2**14, typed=True)  # thousands of runs share a few values
def _canonical(value: str | float) -> str:
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def show(value: Any) -> str:
    """``value`` as one would write it on the command line."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(show(item) for item in value) + "]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings_of(config: Settings, choices: Settings, overrides: Iterable[str]) -> dict[str, Any]:
    """One flat mapping of a run's settings. Where there is no configuration, what the overrides say."""
    settings = flatten(config)
    settings.update({group: choice for group, choice in choices.items() if not group.startswith("hydra")})
    for key, value in map(parse_override, overrides):
        is_group = isinstance(config.get(key), Mapping)
        if key not in (choices if is_group else settings):  # a record may lack its choices, or its configuration
            settings[key] = value
    for key in ("scheduler.T_max", "scheduler.total_iters"):
        if settings.get(key) == "auto":  # with a warm-up, else the epochs: the whole run in either case
            settings[key] = settings.get("trainer.max_epochs")
    return settings


def find_factors(settings: Sequence[Settings], groups: Iterable[str], overridden: Sequence[str]) -> tuple[str, ...]:
    """The keys that tell these runs apart, in the order of ``overridden``, which the runs' overrides name, then others.

    A key below a group whose choice varies (``optimizer.lr`` where ``optimizer`` does) is a factor only if it varies
    within one choice. A key that no override names and that always equals another (``scheduler.T_max`` and
    ``trainer.max_epochs``) follows from it and is none. ``groups`` are names of config groups among the keys.
    """
    order = {key: rank for rank, key in enumerate(dict.fromkeys(overridden))}
    candidates = [key for key in {k: None for s in settings for k in s} if not ignored(key) and key not in BUNDLES]
    varying = [key for key in candidates if _varies(key, settings, key in order)]
    varying.sort(key=lambda key: (order.get(key, len(order)), key.count("."), key))
    prefixes = {key: f"{key.replace('/', '.')}." for key in varying if key in set(groups)}
    factors: list[str] = []
    for key in varying:
        governors = [g for g, prefix in prefixes.items() if g != key and (g == GLOBAL or key.startswith(prefix))]
        cells = defaultdict[tuple[str, ...], list[Settings]](list)  # of runs in which the same governs the key
        for run in settings:
            cells[tuple(canonical(run.get(g)) for g in governors)].append(run)
        pairs = [(run, canonical(run[key])) for run in settings if key in run]
        equal = (all(of in run and value == canonical(run[of]) for run, value in pairs) for of in (SEED, *factors))
        follows = key not in order and any(equal)
        if not follows and any(_varies(key, cell, key in order) for cell in cells.values()):
            factors.append(key)
    return tuple(factors)


def _varies(key: str, settings: Iterable[Settings], overridden: bool) -> bool:
    """Whether ``key`` has two values; being absent is one only for a key that overrides name (``+key=value``)."""
    values = {canonical(s[key]) if key in s else None for s in settings}
    return len(values if overridden else values - {None}) > 1


def short_names(factors: Sequence[str]) -> dict[str, str]:
    """A factor's last part (``norm`` for ``model.norm``) where that is enough to tell it from the others."""
    leaves = [factor.rsplit(".", 1)[-1] for factor in factors]
    return {f: name if leaves.count(name) == 1 else f for f, name in zip(factors, leaves, strict=True)}
