"""What the YAMLs call by ``${name:arguments}``."""

import hashlib
import re
from collections import Counter
from textwrap import fill
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnbench.config.groups import groups, plugins
from cnnbench.config.schema import LOWER_IS_BETTER
from cnnbench.utils.environment import runs_at_once


def by_form(published: Any, corrected: Any, *, _root_: DictConfig) -> Any:
    """The one of two values that the form of a study asks for."""
    return corrected if OmegaConf.select(_root_, "study.form") == "corrected" else published


def run_length(interval: str, epochs: int, *, _parent_: DictConfig) -> int | str:
    """The length of a run in a schedule's intervals; the number of steps, and so what a warm-up leaves, is not known before
    the data is there."""
    return "auto" if interval != "epoch" or _parent_.get("warmup") else epochs


def share_or_folds(share: float | str, folds: int | None) -> float | str:
    """What validates unless it is given: one of the folds where there are any."""
    return share if folds is None else "folds"


def of_weights(key: str, default: Any, *, _root_: DictConfig) -> Any:
    """What the weights of model=timm or torchvision with model.pretrained=true were trained with: ``image_size``, ``mean`` or
    ``std``, the mean of its three unless the images are known to be of colour; ``default`` for all other models."""
    target, name, pretrained = (OmegaConf.select(_root_, f"model.{of}") for of in ("_target_", "name", "pretrained"))
    package, _, builder = str(target).rpartition(".")
    if package != "cnnbench.models.by_name" or pretrained is not True:
        return default
    from cnnbench.models.by_name import images_of_weights  # imports torch

    value = images_of_weights(builder, name)[key]
    is_grey = not isinstance(default, list) and OmegaConf.select(_root_, "data.source.channels") != 3
    return sum(value) / len(value) if is_grey and isinstance(value, list) else value


def run_folder(name: str) -> str:
    """A folder name from a run's overrides: no separators, no surprises, at most 120 characters."""
    safe = re.sub(r"[^\w.,=+\-\[\]]+", "-", name).strip("-.") or "run"
    if len(safe) <= 120:
        return safe
    return f"{safe[:105]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def choices() -> str:
    """A line a group, for ``--help``; of the experiments, which are many, how many."""
    lines = []
    for group, names in {**groups(), **plugins()}.items():
        rows = Counter(name.partition("/")[0] for name in names if "/" in name)
        shown = [name for name in names if "/" not in name] + [f"{study}/... ({n})" for study, n in rows.items()]
        lines.append(fill(", ".join(shown), 110, initial_indent=f"  {group:<14} ", subsequent_indent=" " * 17))
    return "\n".join(lines)


def drawn_together(launcher: str, n_jobs: int | None, trials: int) -> int:
    """How many runs of a search are drawn at a time: as many as its launcher runs (``n_jobs``), and where that is a
    cluster's affair a fifth of all, so that most can learn from those before."""
    if n_jobs is not None:
        return n_jobs
    return 1 if not launcher or "BasicLauncher" in launcher else max(trials // 5, 1)


def pruner_for(seeds: int) -> str:
    """The pruner of a search unless one is chosen: by epochs where a trial is one run, by seeds where there are enough."""
    return "median" if seeds == 1 else "wilcoxon" if seeds >= 5 else "none"


def register_resolvers() -> None:
    """Make them known to OmegaConf, and ``${better:METRIC}``, the direction of a metric: min or max."""
    OmegaConf.register_new_resolver("better", lambda m: "min" if m.endswith(LOWER_IS_BETTER) else "max", replace=True)
    names = (run_folder, run_length, share_or_folds, by_form, of_weights, choices,
             runs_at_once, drawn_together, pruner_for)  # fmt: skip
    for function in names:
        OmegaConf.register_new_resolver(function.__name__, function, replace=True)
