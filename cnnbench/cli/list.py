"""``cnnbench list``: the config groups and their choices, a line each, or every key of a choice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnbench.config.compose import BASIC, CONFIG_DIR, PLUGINS, compose, groups, plugins
from cnnbench.config.settings import flatten, show
from cnnbench.utils.errors import RequestError, one_of

BOLD, DIM, PLAIN = "\033[1m", "\033[2m", "\033[0m"
HIDDEN = ("_target_", "_partial_")  # not for a person to change
BY_HAND = ("channels", "image_size", "classes")  # of images that are not on this disk
USAGE = """usage: cnnbench list [GROUP | GROUP=CHOICE]...

Every group and its choices, a line each; those of one group; or every key of one choice, with its value and comment.

  cnnbench list                                  all groups
  cnnbench list optimizer scheduler              two of them
  cnnbench list model=alexnet                    its keys, its weights, its FLOPs for one image of the digits
  cnnbench list model=alexnet data=cifar10       for one image of CIFAR-10, which need not be here
  cnnbench list model=alexnet channels=3 image_size=64 classes=5
  cnnbench list hydra/launcher hydra/sweeper     what runs a sweep: several runs at a time, a cluster, a search
"""


def listing(asked: Sequence[str] = (), colour: bool = False) -> str:
    """A text with every group, or those asked for; ``group=choice`` shows every key with its comment.

    Raises:
        RequestError: there is no such group or choice.
    """
    if {"--help", "-h"} & {*asked}:
        return USAGE.rstrip()
    known = {**groups(), **plugins()}
    given = dict(text.split("=", 1) for text in asked if "=" in text)
    by_hand = {key: _count(key, given.pop(key)) for key in BY_HAND if key in given}
    chosen = [f"{group}={choice}" for group, choice in given.items()]
    parts = []
    for name in [text for text in asked if text.partition("=")[0] not in by_hand] or known:
        group, _, choice = name.partition("=")
        one_of("group", group, known)
        if choice:
            one_of(group, choice, known[group])
        if choice == "basic":
            parts.append(f"{_painted(name, BOLD, colour)}\n  {BASIC}")
        elif choice:
            parts.append(_choice(group, choice, chosen, by_hand, colour))
        else:
            width = max(map(len, known[group]))
            lines = (f"  {c:<{width}}  {_painted(headline(group, c), DIM, colour)}" for c in known[group])
            parts.append("\n".join([_painted(group, BOLD, colour), *lines]))
    return "\n\n".join(parts)


def headline(group: str, choice: str) -> str:
    """The first comment of a choice's YAML, after what is addressed to Hydra."""
    if choice == "basic":
        return BASIC
    with (CONFIG_DIR / group / f"{choice}.yaml").open(encoding="utf-8") as file:
        return next((line.lstrip("# ").strip() for line in file if not line.startswith("# @package")), "")


def _choice(group: str, choice: str, chosen: Sequence[str], by_hand: Mapping[str, int], colour: bool) -> str:
    path = CONFIG_DIR / group / f"{choice}.yaml"
    text = path.read_text(encoding="utf-8").rstrip()
    if "# @package _global_" in text:  # it sets keys of other groups: its text says which
        return text
    place = group.replace("/", ".")
    whole = compose([item for item in chosen if not item.startswith("experiment=")], hydra=group in PLUGINS)
    node = OmegaConf.select(whole, place)
    # what others are computed from is in the whole; what must be given stays ???
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else {}
    said = comments(path)
    keys = {key: value for key, value in flatten(plain).items() if key.rpartition(".")[2] not in HIDDEN}
    special = {"???": "(must be given)", "": "''"}
    values = {key: show(value) for key, value in keys.items()}
    shown = {key: f"{place}.{key}={special.get(value, value)}" for key, value in values.items()}
    width = min(max(map(len, shown.values()), default=0), 48)
    lines = [f"  {entry:<{width}}  {_painted(said.get(key, ''), DIM, colour)}".rstrip() for key, entry in shown.items()]
    head = [line.lstrip("# ") for line in text.splitlines()[: _heading(text)]]
    title = f"{_painted(f'{group}={choice}', BOLD, colour)}  {plain.get('_target_') or ''}".rstrip()
    parts = [title, *(f"  {line}" for line in head), *([""] if lines else []), *lines]
    if group == "model":
        parts += ["", f"  {_cost(whole, by_hand)}"]
    return "\n".join(parts)


def _heading(text: str) -> int:
    """How many lines of comments a YAML begins with."""
    lines = text.splitlines()
    return next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))


def comments(path: Path) -> dict[str, str]:
    """The comment behind each key of a YAML and of those that its defaults list names, by dotted key."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []  # (indentation, key) of the mappings around a line
    text = path.read_text(encoding="utf-8")
    for entry in _defaults(text):
        base, _, choice = entry.rpartition(": ") if ": " in entry else ("", "", entry)
        group, _, place = base.lstrip("/").partition("@")
        below = comments((CONFIG_DIR / group if group else path.parent) / f"{choice}.yaml")
        found |= {f"{place}.{key}" if place else key: comment for key, comment in below.items()}
    for line in text.splitlines():
        match = re.match(r"( *)([\w.]+):(?: +(.*?))??(?:\s+# (.*))?$", line)
        if not match:
            continue
        deep, key = len(match[1]), match[2]
        above = [item for item in above if item[0] < deep]
        if match[4]:
            found[".".join([*(name for _, name in above), key])] = match[4]
        above.append((deep, key))
    return found


def _defaults(text: str) -> list[str]:
    """The entries of a YAML's defaults list but ``_self_``, as ``choice`` or ``/group@place: choice``."""
    import yaml

    listed = (yaml.safe_load(text) or {}).get("defaults", [])
    entries = [next(f"{k}: {v}" for k, v in item.items()) if isinstance(item, dict) else item for item in listed]
    return [entry for entry in entries if entry != "_self_"]


def _cost(config: DictConfig, by_hand: Mapping[str, int]) -> str:
    """What the network has and does, in one line: built where no memory is needed."""
    import torch
    from hydra.utils import instantiate

    from cnnbench.analysis.metric_names import compact
    from cnnbench.training.build import flops_per_image

    shape = {**_shape(config.data), **by_hand}
    missing = [key for key in BY_HAND if key not in shape]
    if missing:
        return f"give {' '.join(f'{key}=...' for key in missing)} to see its weights and FLOPs"
    settings: Any = OmegaConf.to_container(config.model, resolve=True)
    if "weights" in settings:
        settings["weights"] = None  # they change nothing here, and may have to be downloaded
    channels, side, classes = (shape[key] for key in BY_HAND)
    try:
        with torch.device("meta"):
            network = instantiate(settings, in_channels=channels, num_classes=classes, image_size=side)
            flops = flops_per_image(network, channels, side)
    except Exception as error:
        raise RequestError(f"model: {' '.join(str(error.__cause__ or error).split())}") from error
    weights = sum(p.numel() for p in network.parameters())
    amount = re.sub(r"([a-zA-Z]?)$", r" \1", compact(flops), count=1)
    return f"{weights:,} weights; {amount}FLOPs for one image of {channels}x{side}x{side}, {classes} classes"


def _shape(data: DictConfig) -> dict[str, int]:
    """What is known of a set's images without reading them."""
    from hydra.utils import instantiate

    known: dict[str, int] = getattr(instantiate(data.source), "shape", {})
    size = data.image_size
    return known if size is None else {**known, "image_size": int(size)}


def _count(key: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise RequestError(f"{key} must be a whole number of at least 1, got {text!r}")
    return int(text)


def _painted(text: str, style: str, colour: bool) -> str:
    return f"{style}{text}{PLAIN}" if colour and text else text
