"""Compose a configuration with Hydra, say in one line what is wrong with it, resolve it, and fingerprint it."""

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.config.groups import CONFIG_DIR, PLUGINS, groups, plugins, read_yaml
from cnnbench.config.overrides import without_shorthand
from cnnbench.config.resolvers import register_resolvers
from cnnbench.config.settings import changes_result, flatten, version_1_target, with_current_targets
from cnnbench.utils.errors import RequestError, did_you_mean

VERSION_BASE = "1.3"

# the presets of launchers have the names of the plugins' own, which they replace
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper)/.* is validated against ConfigStore schema")


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
            return hydra_compose("config", overrides=without_shorthand(overrides), return_hydra_config=hydra)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(explain(error, overrides)) from error


def explain(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """One line for an error of Hydra or OmegaConf: what is wrong, and the nearest right name.

    Args:
        overrides: that were given; those that choose from groups decide which keys there are.
    """
    choices_made = [text.partition(",")[0] for text in overrides if text.partition("=")[0] in (*groups(), *PLUGINS)]
    text, link = " ".join(str(error).split()), error.__cause__
    while link is not None:  # Hydra often says what is wrong, and its cause why
        text, link = f"{text} {' '.join(str(link).split())}", link.__cause__
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
    group = parent.replace(".", "/", 1)
    having = [choice for choice in plugins().get(group, ()) if leaf in OmegaConf.create(read_yaml(group, choice))]
    if having and not near:
        return f"{key} is a key of what has not been chosen: add {' or '.join(f'{group}={name}' for name in having)}"
    where = f"{parent} has {', '.join(names)}" if names else f"there is no {parent}"
    return f"{key} is not a key of the configuration{near or f'; {where}'} (+{key}=... adds a new one)"


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration without Hydra's own node, as plain Python, every interpolation replaced.

    Raises:
        RequestError: an interpolation points nowhere.
    """
    try:
        own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        plain: Any = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise RequestError(explain(error)) from error
    return with_current_targets(plain)


def fingerprint(config: dict[str, Any]) -> str:
    """16 hexadecimal digits that differ where anything that can change the result differs, the seed included."""
    kept = {key: value for key, value in flatten(config).items() if changes_result(key)}
    kept |= {
        key: version_1_target(value)
        for key, value in kept.items()
        if key.endswith("_target_") and isinstance(value, str)
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]
