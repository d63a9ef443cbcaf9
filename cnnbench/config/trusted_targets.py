"""What a saved run may make this program do: only what this installation does by itself.

A record, and the overrides that a folder keeps, may come from anywhere, while Hydra calls whatever ``_target_`` names, at
any depth, and OmegaConf computes ``${...}``. So what is received is taken as data:

- none of it is an interpolation;
- of Hydra's keywords (``_target_``, ``_partial_``, ``_args_``, ...) it repeats what a YAML of this installation, or of the
  user's --config-dir, says at the same key, or names an optimizer or a schedule of ``torch.optim`` where those are, or what a package defines that the
  user trusts; all else are plain values, which the classes' signatures and ``check_values`` hold to their kinds;
- of groups it chooses what is there, and of ``hydra`` the launcher, the sweeper and their numbers.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import yaml

from cnnbench.config.compose import compose, resolved
from cnnbench.config.groups import CONFIG_DIR, config_dirs, groups, plugins
from cnnbench.config.overrides import expand, override_key, parse
from cnnbench.config.settings import current_target
from cnnbench.utils.errors import RequestError, refuse

ALLOW = "CNNBENCH_TRUST"  # an environment variable: packages that are trusted, separated by commas
# OmegaConf computes ${...} and misses ???; a launcher writes names into scripts
COMPUTED = re.compile(r"\$\{|[\x00-\x1f\x7f]|=\?\?\?$")
KEYWORD = re.compile(r"(^|\.)_\w*_(\.|$)")
TORCH = "torch.optim."
TORCH_KINDS = {"optimizer._target_": f"{TORCH}Optimizer", "scheduler._target_": f"{TORCH}lr_scheduler.LRScheduler"}
# Folders that images are put into, each with what is there once they have been.
FOLDERS = {
    "data.cache": ("*/meta.json",),
    "data.root": ("*/raw", "cifar-10-batches-py", "cifar-100-python", "*_32x32.mat", "stl10_binary", "*mnist*.npz"),
}
# Whom a logger sends a run to.
SERVICE = r"logger\.(\w+\.)*(?!name|version|sub_dir|default_hp_metric|offline|flush)\w+$"
SET_ANEW = ("hydra.run.dir", "hydra.sweep.dir", "sweep.trial")  # by whoever repeats overrides
HYDRA = re.compile(
    r"hydra\.mode=\w+|hydra\.sweeper\.(sampler|pruner)=\w+|hydra\.(launcher|sweeper)(\.[a-z]\w*)+=(-?\d+(\.\d+)?(e[-+]?\d+)?|True|False|None)"
    r"|hydra\.launcher\.(partition|account|qos|constraint|gres)=[\w:.-]+"
)


def check_config(config: Any, where: str, trusted: Iterable[str] = ()) -> None:
    """Check a configuration as it was saved.

    Args:
        where: it comes from, for the message.
        trusted: packages and modules that are trusted, beside those of the environment variable.

    Raises:
        RequestError: something in it would be computed, or would build what this installation does not.
    """
    for key, value in _leaves(config):
        _check(key, value, where, trusted)


def repeatable(overrides: Iterable[str], where: str, anew: Sequence[str] = ()) -> list[str]:
    """The overrides that were kept, but for those whose keys are given ``anew``; raises as ``check_config`` does."""
    given = {*map(override_key, anew), *SET_ANEW}
    kept = [text for text in overrides if override_key(text) not in given]
    for text in kept:
        for (single,) in [[text]] if parse(text).is_interval_sweep() else expand([text]):
            _check_override(single, where)
    return kept


def trust(packages: Iterable[str]) -> None:
    """Trust these packages too, in this process and those that it starts."""
    os.environ[ALLOW] = ",".join([os.environ.get(ALLOW, ""), *packages])


def without_foreign_folders(data: Mapping[str, Any]) -> dict[str, Any]:
    """The node ``data`` of a saved configuration, in which folders to write to, but for those of such data, are this
    installation's own."""
    own = resolved(compose(["data=mnist"]))["data"]
    return {key: value if _is_folder_of_data(f"data.{key}", value) else own[key] for key, value in data.items()}


def _is_folder_of_data(key: str, folder: Any) -> bool:
    """Whether ``folder`` holds what has been written by the key that names it; any other key's value is none to write to."""
    return key not in FOLDERS or any(any(Path(str(folder)).expanduser().glob(name)) for name in FOLDERS[key])


def _check_override(text: str, where: str) -> None:
    override = parse(text)
    name, value = override.get_key_element().lstrip("+~"), override.value()
    chosen = {**groups(), **plugins()}
    chosen |= {f"optimizer@optimizer.{part}": chosen["optimizer"] for part in ("first", "then", "base_optimizer")}
    if not isinstance(value, dict) and (re.search("[/@]", name) or (CONFIG_DIR / name).is_dir()):
        names = value if isinstance(value, list) else [value]
        if not all(one is None or str(one) in chosen.get(name, ()) for one in names):
            wrong = "which is no choice of a group that is repeated; --config-dir brings in your own"
            raise RequestError(f"{where} has {text!r}, {wrong}")
        return
    for key, leaf in _leaves(value, name):
        _check(key, leaf, where)
        is_ours = re.fullmatch(rf"(?!sweep\.trial|hydra|{SERVICE})[\w.]+", key) and _is_folder_of_data(key, leaf)
        if not is_ours and not HYDRA.fullmatch(f"{key}={leaf}"):
            raise RequestError(f"{where} has {text!r}, which is not repeated; give {key}=... again, if you want it")


def _check(key: str, value: Any, where: str, trusted: Iterable[str] = ()) -> None:
    shown = repr(f"{key}={value}"[:200])
    if COMPUTED.search(f"{key}={value}"):
        wrong = "and nothing in a saved run is computed, or missing, or a control character"
        raise RequestError(f"{where} has {shown}, {wrong}")
    if KEYWORD.search(key) and not _is_known(key, value, where, trusted):
        package = str(value).split(".")[0]
        hint = f"; --trust {package}, or {ALLOW}={package} in the environment, trusts what {package} defines"
        wanted = "which is not what this installation has there"
        raise RequestError(f"{where} has {shown}, {wanted}{hint if package.isidentifier() else ''}")


def _is_known(key: str, value: Any, where: str, trusted: Iterable[str]) -> bool:
    pattern = re.sub(r"^optimizer\.(first|then|base_optimizer)\.", "optimizer.", _key_pattern(key))
    target = current_target(value) if isinstance(value, str) else value
    if repr(target) in known_keywords(config_dirs()).get(pattern, ()):
        return True
    packages = [*map(str.strip, os.environ.get(ALLOW, "").split(",")), *trusted]
    own = tuple(f"{package}." for package in packages if package)
    kind = TORCH_KINDS.get(pattern, "")
    may_be = (*own, TORCH) if kind else own
    if not isinstance(target, str) or not key.endswith("_target_") or not target.startswith(may_be):
        return False  # nothing else is even imported
    with refuse(f"{where} names {target}, which is not there", Exception):
        found = resolve_name(target)
    module = f"{getattr(found, '__module__', None)}."
    is_torchs = bool(kind) and module.startswith(TORCH) and isinstance(found, type)
    return module.startswith(own) or (is_torchs and issubclass(found, resolve_name(kind)))


def computes_as_here(config: Any) -> bool:
    """Whether every ``${...}`` in the configuration that Hydra wrote when a run began is one of this installation's."""
    computed = {value for _, value in _leaves(config) if isinstance(value, str) and "${" in value}
    return not computed or computed <= known_interpolations(config_dirs())


@cache
def known_interpolations(folders: tuple[Path, ...]) -> set[str]:
    """What the YAMLs in these folders compute."""
    files = [yaml.safe_load(path.read_text("utf-8")) for folder in folders for path in folder.rglob("*.yaml")]
    return {value for _, value in _leaves(files) if isinstance(value, str) and "${" in value}


def _key_pattern(key: str) -> str:
    """The key, alike for all callbacks, and for a logger alone or among others."""
    key = re.sub(r"^logger\.(tensorboard|csv|wandb|mlflow)\.", "logger.", key)
    return re.sub(r"^callbacks\.[^.]+\.", "callbacks.*.", key)


@cache
def known_keywords(folders: tuple[Path, ...]) -> dict[str, set[str]]:
    """What the YAMLs in these folders say of Hydra's keywords: ``{"model._target_": {"'cnnbench.models.MLP'", ...}, ...}``."""
    known: dict[str, set[str]] = {}
    for folder, path in ((base, path) for base in folders for path in base.rglob("*.yaml")):
        group, text = path.relative_to(folder).parts[0], path.read_text(encoding="utf-8")
        if "_:" in text and group not in ("hydra", "study"):
            for key, value in _leaves(yaml.safe_load(text), "" if "@package _global_" in text else group):
                if KEYWORD.search(key):
                    known.setdefault(_key_pattern(key), set()).add(repr(value))
    return known


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in mappings and lists, at any depth, with its dotted key."""
    if not isinstance(node, (Mapping, list, tuple)) or not node:
        yield path, node
        return
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        yield from _leaves(value, f"{path}.{key}" if path else str(key))
