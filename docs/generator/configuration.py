"""A page for each config group, with every choice and every key, and one for the keys that stand in no group."""

from __future__ import annotations

import torch
from hydra.utils import instantiate

from cnnbench.config.compose import compose, resolved
from cnnbench.config.groups import CONFIG_DIR, groups
from generator.commented import Commented, Key, read
from generator.text import code, document, plain, table

SIZES = ((1, 28), (3, 32))  # channels and side of the images for which weights are counted: MNIST's and CIFAR's


def groups_shown() -> list[str]:
    """The groups that have a page here; rows of studies are on the page of the studies."""
    return [group for group in groups() if group != "experiment"]


def overview() -> str:
    """The page about keys that are in no group, and which choice each group begins with."""
    config = read(CONFIG_DIR / "config.yaml")
    starts = dict(text.partition(": ")[::2] for text in config.inherits)
    rows = [
        (f"[{group}]({group}.md)", f"[{starts[group]}]({group}.md#{anchor(starts[group])})", str(len(groups()[group])))
        for group in groups_shown()
        if group in starts
    ]
    return document(
        "Configuration",
        "After this page you know every setting that a run has outside the groups, and where the others stand. Each is "
        "changed on the command line: `cnnbench seed=1 model=lenet model.filters=[8,16]`. `cnnbench --cfg job` prints "
        "the whole configuration, and `cnnbench list GROUP=CHOICE` the file that a section here is made from.",
        "## Groups",
        table(("group", "unless another is chosen", "choices"), rows),
        "The rows of published studies are choices of the group `experiment`: see [studies](../studies.md).",
        "## Keys outside the groups",
        key_table(config.keys),
    )


def page(group: str) -> str:
    """The page of one group."""
    folder = CONFIG_DIR / group
    parts = [f"Chosen with `{group}=NAME`. After this page you know each choice of it and each key that it has."]
    shared = sorted(path for path in folder.glob("_*.yaml"))
    for path in shared:
        found = read(path)
        parts += [f"## {HEADING}", plain(found.headline), key_table(found.keys, group)]
    for choice in groups()[group]:
        found = read(folder / f"{choice}.yaml")
        parts += [f"## {choice}", plain(found.headline), built(found), weights(choice) if group == "model" else ""]
        parts += [inherited(found, {path.stem for path in shared}), key_table(found.keys, group)]
    return document(group, *parts)


HEADING = "Keys of every choice"


def anchor(heading: str) -> str:
    """As MkDocs names the place of a heading."""
    return heading.lower().replace(" ", "-")


def key_table(keys: tuple[Key, ...], group: str = "") -> str:
    """Key, default, meaning; empty without keys."""
    prefix = f"{group}." if group else ""
    rows = [
        (code(prefix + key.name), "*to be given*" if key.default == "???" else code(key.default), plain(key.comment))
        for key in keys
    ]
    return table(("key", "default", "meaning"), rows) if rows else ""


def built(found: Commented) -> str:
    """What the choice builds."""
    return f"Builds {code(found.target)}." if found.target else ""


def inherited(found: Commented, shared: set[str]) -> str:
    """Where the keys stand that the choice has from other files."""
    told = []
    for text in found.inherits:
        place, _, choice = text.partition(": ")
        if choice:  # /optimizer@first: adam
            group, _, key = place.lstrip("/").partition("@")
            told.append(f"`{key}` is a choice of {group}, at first [{choice}](#{anchor(choice)})")
        elif text in shared:
            told.append(f"[{HEADING.lower()}](#{anchor(HEADING)})")
        else:
            told.append(f"the keys of [{text}](#{anchor(text)})")
    return f"Has also, unless they are given here: {'; '.join(told)}." if told else ""


def weights(model: str) -> str:
    """How many weights a model has, as it stands."""
    counts = []
    node = resolved(compose([f"model={model}"]))["model"]
    for channels, size in SIZES:
        with torch.device("meta"):
            network = instantiate(node, in_channels=channels, num_classes=10, image_size=size)
        counts.append(f"{sum(p.numel() for p in network.parameters()):,} on {channels}x{size}x{size}")
    return f"Weights, with 10 classes: {', '.join(counts)}."
