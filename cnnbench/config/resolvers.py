"""What the YAMLs call by ``${name:arguments}``."""

import hashlib
import re
from collections import Counter
from textwrap import fill
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnbench.config.groups import groups, plugins
from cnnbench.utils.environment import runs_at_once


def register_resolvers() -> None:
    """Make the functions known to OmegaConf by their names, and ``${better:METRIC}``, which is min or max."""
    OmegaConf.register_new_resolver("better", lambda m: "min" if m.endswith("loss") else "max", replace=True)
    for function in (run_folder, by_form, choices, runs_at_once, drawn_together):
        OmegaConf.register_new_resolver(function.__name__, function, replace=True)


def by_form(published: Any, corrected: Any, *, _root_: DictConfig) -> Any:
    """The one of two values that the form of a study asks for."""
    return corrected if OmegaConf.select(_root_, "study.form") == "corrected" else published


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
