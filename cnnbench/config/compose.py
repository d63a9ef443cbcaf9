"""Compose a configuration with Hydra, say in one line what is wrong with it, resolve it, and fingerprint it."""

import copy
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cnnbench.config.groups import CONFIG_DIR, PLUGINS, config_dirs, groups, plugins, read_yaml
from cnnbench.config.overrides import override_key, parse, without_shorthand
from cnnbench.config.resolvers import register_resolvers
from cnnbench.config.schema import MISSING
from cnnbench.config.settings import NEW_KEYS, changes_result, flatten, version_1_target, with_current_targets
from cnnbench.utils.errors import RequestError, did_you_mean

VERSION_BASE = "1.3"
# what Hydra raises for wrong overrides; ValueError where a list has no such element
COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)

WHOLE = ("hydra", "hydra.searchpath", "hydra.job.env_copy")  # keys that Hydra reads before it is done
# the presets of launchers have the names of the plugins' own, which they replace
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper)/.* is validated against ConfigStore schema")
register_resolvers()


def compose(overrides: Sequence[str], *, hydra: bool = False) -> DictConfig:
    """The configuration that these overrides give; with ``hydra`` its own node too.

    Raises:
        RequestError: an override names no group, choice or key, or cannot be read.
    """
    try:
        cfg = Composer()(without_shorthand(overrides))
    except COMPOSE_ERRORS as error:
        raise RequestError(explain(error, overrides)) from error
    if not hydra:
        with open_dict(cfg):
            del cfg["hydra"]
    return cfg


class Composer:
    """Composes many runs: Hydra composes each choice of groups once in this process, which takes it a tenth of a second, and
    the values are set on copies of that, in Hydra's order. ``compose_whole`` composes overrides by Hydra alone."""

    by_choices: ClassVar[dict[tuple[object, ...], DictConfig]] = {}

    def __init__(self, compose_whole: Callable[[list[str]], DictConfig] | None = None) -> None:
        times = [path.stat().st_mtime_ns for folder in config_dirs() for path in folder.rglob("*.yaml")]
        self.compose_whole, self.yamls = compose_whole or _compose_whole, (config_dirs(), len(times), max(times))

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """As ``compose_whole(overrides)``, and raises what that raises."""
        parsed, known = [parse(text) for text in overrides], groups()
        # what removes a key is left to Hydra, with all that comes before it
        first = 1 + max((i for i, each in enumerate(parsed) if each.is_delete()), default=-1)
        keys = [each for each in parsed[first:] if each.package is None and "/" not in each.key_or_group]
        values = [each for each in keys if each.key_or_group not in (*known, *WHOLE)]
        given = [str(each.input_line) for each in values]
        chosen = [text for i, text in enumerate(overrides) if i < first or text not in given]
        if (key := (*self.yamls, *chosen)) not in self.by_choices:
            if len(self.by_choices) >= 512:  # 0.1 GB
                del self.by_choices[next(iter(self.by_choices))]  # the oldest
            self.by_choices[key] = self.compose_whole(chosen)
        cfg = copy.deepcopy(self.by_choices[key])
        try:
            for each in values:
                name, value, adds = each.key_or_group, each.value(), each.is_add()
                if adds and OmegaConf.select(cfg, name) is not None and not isinstance(value, (dict, list)):
                    return self.compose_whole([*overrides])  # says that it is there
                OmegaConf.update(cfg, name, value, merge=True, force_add=adds or each.is_force_add())
        except COMPOSE_ERRORS:
            return self.compose_whole([*overrides])  # says what is wrong
        own = [each for each in parsed if not each.is_hydra_override()]
        names = cfg.hydra.job.config.override_dirname
        named = sorted(str(each.input_line) for each in own if each.key_or_group not in names.exclude_keys)
        with open_dict(cfg.hydra):
            cfg.hydra.runtime.cwd = str(Path.cwd())
            cfg.hydra.overrides.task = [each.input_line for each in own]
            cfg.hydra.overrides.hydra = [each.input_line for each in parsed if each.is_hydra_override()]
            cfg.hydra.job.override_dirname = names.item_sep.join(named).replace("=", names.kv_sep)
        return cfg


def _compose_whole(overrides: list[str]) -> DictConfig:
    GlobalHydra.instance().clear()  # there is one inside a running job
    with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(CONFIG_DIR)):
        return hydra_compose("config", overrides=overrides, return_hydra_config=True)


def explain(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """One line for an error of Hydra or OmegaConf: what is wrong, and the nearest right name.

    Args:
        overrides: that were given; those that choose from groups decide which keys there are.
    """
    choices_made = [text.partition(",")[0] for text in overrides if text.partition("=")[0] in (*groups(), *PLUGINS)]
    choices_made = choices_made[: len(overrides) - 1]  # where there is nothing else, one of them may be what is wrong
    text, link = " ".join(str(error).split()), error.__cause__
    while link is not None:  # Hydra often says what is wrong, and its cause why
        text, link = f"{text} {' '.join(str(link).split())}", link.__cause__
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, choice = match.groups()
        choices = plugins().get(group) or groups().get(group.split("/")[0], [])
        return f"{group}={choice} is not a choice of {group}: {', '.join(choices)}{did_you_mean(choice, choices)}"
    if match := re.search(r"Could not override '([^']+)'|Key '[^']+' is not in struct.*?full_key: ([\w.]+)", text):
        return unknown_key(match[1] or match[2], choices_made)
    if match := re.search(r"Ambiguous value for argument '([^=]+)=(.*?)' 1\.", text):
        return f"{match[1]}={match[2]} is several values, which `cnnbench -m` sweeps over ({match[1]}=[{match[2]}] is one list)"
    if match := re.search(r"Missing mandatory value: .*?full_key: ([\w.]+)", text):
        return f"{match[1]} has no default: give {match[1]}=..."
    if match := re.search(r"RequestError raised while resolving interpolation: (.*?) full_key:", text):
        return match[1]
    if match := re.search(r"Interpolation key '([^']+)' not found.*?full_key: ([\w.]+)", text):
        return f"{match[2]} refers to ${{{match[1]}}}, which is not a key of the configuration"
    if match := re.search(r"base 10: '(\w+)'|list index out of range full_key: \S+\[(\d+)\]", text):
        wrong = [given for given in overrides if override_key(given).endswith(f".{match[1] or match[2]}")]
        return f"{' '.join(wrong)}: the list has no such element; give it whole, as in model.filters=[16,32]"
    return text


def unknown_key(key: str, choices_made: Sequence[str] = ()) -> str:
    """One line for a key that the configuration with these choices does not have, with the nearest that it has."""
    parent, _, leaf = key.rpartition(".")
    node = None
    try:
        whole = compose(choices_made, hydra=key.startswith("hydra."))
        node = OmegaConf.select(whole, parent) if parent else whole
        names = [str(name) for name in node if name != "_target_"] if isinstance(node, DictConfig) else []
    except RequestError:
        names = []
    if not parent:
        keys = {str(of): f"{group}.{of}" for group in groups() if group in names for of in whole[group] or ()}
        keys |= {name: name for name in names}
        near = re.sub(r"'(\w+)'", lambda found: f"'{keys[found[1]]}'", did_you_mean(leaf, keys))
        return f"{key} is not a key of the configuration{near} (+{key}=... adds a new one)"
    near = did_you_mean(leaf, names).replace("'", f"'{parent}.", 1)
    group = parent.replace(".", "/", 1)
    having = [choice for choice in plugins().get(group, ()) if leaf in OmegaConf.create(read_yaml(group, choice))]
    if having and not near:
        return f"{key} is a key of what has not been chosen: add {' or '.join(f'{group}={name}' for name in having)}"
    where = f"there is no {parent}" if node is None else f"{parent} has {', '.join(names) or 'no keys'}"
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
    kept = {}
    for key, value in flatten(config).items():
        if value != NEW_KEYS.get(key, MISSING) and changes_result(key):
            is_target = key.endswith("_target_") and isinstance(value, str)
            kept[key] = version_1_target(value) if is_target else value
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]
