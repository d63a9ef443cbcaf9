"""The configuration: where it lies, how it is composed and swept, what is wrong with it, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.config.settings import NO_RESULT, flatten, version_1_target, with_current_targets
from cnnbench.utils.environment import runs_at_once
from cnnbench.utils.errors import RequestError, did_you_mean

PACKAGE = Path(__file__).parent.parent
# beside the package in a checkout, inside it in a wheel
CONFIG_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
VERSION_BASE = "1.3"
PLUGINS = ("hydra/launcher", "hydra/sweeper")
BASIC = "One run after the other, all in this process."  # what Hydra's own launcher does, which has no YAML here


# the presets of launchers have the names of the plugins' own, which they replace
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper)/.* is validated against ConfigStore schema")


def register_resolvers() -> None:
    """What the YAMLs call: ``${better:METRIC}`` is min or max, ``${run_folder:NAME}`` a safe folder name,
    ``${by_form:A,B}`` is A as published and B with ``study.form=corrected``, ``${choices:}`` what ``--help`` lists,
    ``${runs_at_once:ACCELERATOR,RUNS_PER_GPU}`` how many runs this machine takes at a time, and
    ``${drawn_together:LAUNCHER,N_JOBS,N_TRIALS}`` how many of a search."""
    OmegaConf.register_new_resolver("better", lambda m: "min" if m.endswith("loss") else "max", replace=True)
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
    OmegaConf.register_new_resolver("by_form", by_form, replace=True)
    OmegaConf.register_new_resolver("choices", choices_told, replace=True)
    OmegaConf.register_new_resolver("runs_at_once", runs_at_once, replace=True)
    OmegaConf.register_new_resolver("drawn_together", drawn_together, replace=True)


def by_form(published: Any, corrected: Any, *, _root_: DictConfig) -> Any:
    """The one of two values that the form of a study asks for."""
    return corrected if OmegaConf.select(_root_, "study.form") == "corrected" else published


def drawn_together(launcher: str, n_jobs: int | None, trials: int) -> int:
    """How many runs of a search are drawn at a time: as many as its launcher runs (``n_jobs``), and where that is a
    cluster's affair a fifth of all, so that most can learn from those before."""
    if n_jobs is not None:
        return n_jobs
    return 1 if not launcher or "BasicLauncher" in launcher else max(trials // 5, 1)


def run_folder(name: str) -> str:
    """A folder name from a run's overrides: no separators, no surprises, at most 120 characters."""
    safe = re.sub(r"[^\w.,=+\-\[\]]+", "-", name).strip("-.") or "run"
    if len(safe) <= 120:
        return safe
    return f"{safe[:105]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def groups() -> dict[str, list[str]]:
    """Every config group and its choices, as they lie on disk; ``study`` is none, for it is not composed."""
    found = {}
    for folder in sorted(
        path for path in CONFIG_DIR.iterdir() if path.is_dir() and path.name not in ("hydra", "study")
    ):
        names = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))
        found[folder.name] = [name for name in names if not name.split("/")[-1].startswith("_")]
    return found


def plugins() -> dict[str, list[str]]:
    """Hydra's launchers and sweepers that a sweep can be run by, as ``groups``."""
    presets = {kind: sorted(path.stem for path in (CONFIG_DIR / kind).glob("*.yaml")) for kind in PLUGINS}
    return {**presets, "hydra/launcher": ["basic", *presets["hydra/launcher"]]}


def choices_told() -> str:
    """A line a group, for ``--help``; of the experiments, which are many, how many."""
    lines = []
    for group, names in {**groups(), **plugins()}.items():
        rows = Counter(name.partition("/")[0] for name in names if "/" in name)
        told = [name for name in names if "/" not in name] + [f"{study}/... ({n})" for study, n in rows.items()]
        lines.append(fill(", ".join(told), 110, initial_indent=f"  {group:<14} ", subsequent_indent=" " * 17))
    return "\n".join(lines)


def compose(overrides: Sequence[str], *, hydra: bool = False) -> DictConfig:
    """The configuration that these overrides give; with ``hydra`` its own node too.

    Raises:
        RequestError: an override names no group, choice or key, or cannot be read.
    """
    register_resolvers()
    if GlobalHydra.instance().is_initialized():  # inside a running job
        GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(CONFIG_DIR)):
            return hydra_compose("config", overrides=list(overrides), return_hydra_config=hydra)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(explain(error, overrides)) from error


def expand_globs(overrides: Sequence[str]) -> list[str]:
    """The same with ``experiment=glob(eq2425/*)`` written out; Hydra's own glob does not look into folders."""
    return [_written_out(text) for text in overrides]


def _written_out(text: str) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob

    key, _, value = text.partition("=")
    if not value.startswith("glob(") or key not in groups():
        return text
    try:
        pattern = OverridesParser.create().parse_override(text).value()
    except HydraException as error:
        raise RequestError(explain(error)) from error
    assert isinstance(pattern, Glob)
    choices = groups()[key]
    chosen = [
        name
        for name in choices
        if any(fnmatchcase(name, wanted) for wanted in pattern.include)
        and not any(fnmatchcase(name, unwanted) for unwanted in pattern.exclude)
    ]
    if not chosen:
        raise RequestError(f"{text} matches none of {', '.join(choices)}")
    return f"{key}={','.join(chosen)}"


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every run of a grid, in the order in which Hydra's basic sweeper runs them.

    Raises:
        RequestError: an override cannot be read, or is no grid (an interval).
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    values: dict[str, list[str]] = {}
    try:
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            key = override.get_key_element()
            if override.is_interval_sweep():
                raise RequestError("an interval is for a search: add hydra/sweeper=optuna")
            found = override.sweep_string_iterator() if override.is_sweep_override() else None
            values[key] = [f"{key}={text}" for text in found or [override.get_value_element_as_str()]]
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(explain(error)) from error
    return [list(run) for run in product(*values.values())]


def explain(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """One line for an error of Hydra or OmegaConf: what is wrong, and the nearest right name.

    Args:
        overrides: that were given; those that choose from groups decide which keys there are.
    """
    chosen = [text for text in overrides if text.partition("=")[0] in (*groups(), *PLUGINS)]
    choices_made = [re.sub(r",.*", "", text) for text in chosen]  # of several values the first
    told, link = [], error
    while link is not None:  # Hydra often says the what, and its cause the why
        told.append(" ".join(str(link).split()))
        link = link.__cause__  # type: ignore[assignment]
    text = " ".join(told)
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, choice = match.groups()
        choices = plugins().get(group) or groups().get(group.split("/")[0], [])
        return f"{group}={choice} is not a choice of {group}: {', '.join(choices)}{did_you_mean(choice, choices)}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match[1], choices_made)
    if match := re.search(r"Key '([^']+)' is not in struct.*?full_key: ([\w.]+)", text):
        return unknown_key(match[2], choices_made)
    if match := re.search(r"Missing mandatory value: .*?full_key: ([\w.]+)", text):
        return f"{match[1]} has no default: give {match[1]}=..."
    if match := re.search(r"Interpolation key '([^']+)' not found.*?full_key: ([\w.]+)", text):
        return f"{match[2]} refers to ${{{match[1]}}}, which is not a key of the configuration"
    return text


def unknown_key(key: str, choices_made: Sequence[str] = ()) -> str:
    """One line for a key that the configuration with these choices does not have, with the nearest that it has."""
    parent, _, leaf = key.rpartition(".")
    try:
        whole = compose(choices_made, hydra=key.startswith("hydra."))
        node = OmegaConf.select(whole, parent) if parent else whole
        names = [str(name) for name in node if name != "_target_"] if isinstance(node, DictConfig) else []
    except RequestError:
        names = []
    if not parent:
        return f"{key} is not a key of the configuration{did_you_mean(leaf, names)} (+{key}=... adds a new one)"
    near = did_you_mean(leaf, names).replace("'", f"'{parent}.", 1)
    if not near and (having := _having(parent.replace(".", "/", 1), leaf)):
        return f"{key} is a key of what has not been chosen: add {' or '.join(having)}"
    where = f"{parent} has {', '.join(names)}" if names else f"there is no {parent}"
    return f"{key} is not a key of the configuration{near or f'; {where}'} (+{key}=... adds a new one)"


def _having(group: str, key: str) -> list[str]:
    """The launchers or sweepers that have this key, as overrides."""
    choices = [choice for choice in plugins().get(group, ()) if choice != "basic"]
    return [f"{group}={choice}" for choice in choices if key in OmegaConf.load(CONFIG_DIR / group / f"{choice}.yaml")]


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain Python, every interpolation replaced.

    Raises:
        RequestError: an interpolation points nowhere.
    """
    try:
        own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        plain = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise RequestError(explain(error)) from error
    assert isinstance(plain, dict)
    return with_current_targets({str(key): value for key, value in plain.items()})


def fingerprint(config: dict[str, Any]) -> str:
    """16 hexadecimal digits that differ where anything that can change the result differs, the seed included."""
    kept = {
        key: version_1_target(value) if key.endswith("_target_") and isinstance(value, str) else value
        for key, value in flatten(config).items()
        if not any(key == name or key.startswith(f"{name}.") for name in NO_RESULT)
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]
