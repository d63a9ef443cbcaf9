"""``cnnbench list``: the config groups and their choices, a line each, or the commented YAML of a choice."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from omegaconf import OmegaConf

from cnnbench.cli.parser import Parser
from cnnbench.config.compose import compose
from cnnbench.config.groups import groups, plugins, read_yaml
from cnnbench.utils.console import bold, print_result
from cnnbench.utils.errors import RequestError, one_of

IMAGES = ("channels", "image_size", "classes")  # of images that are not on this disk


def main(arguments: Sequence[str]) -> int:
    """Print every group with its choices, the named groups, or the YAML of a choice; returns 0."""
    parser = Parser(
        "list",
        "Every group and its choices, a line each; those of one group; or the commented YAML of one choice.",
        epilog="Examples: cnnbench list; cnnbench list optimizer scheduler; cnnbench list model=alexnet data=cifar10 "
        "(with its weights, and its FLOPs for one image of CIFAR-10, which need not be here); "
        "cnnbench list model=alexnet channels=3 image_size=64 classes=5; cnnbench list hydra/launcher hydra/sweeper",
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP | GROUP=CHOICE", help="all groups, if none is given")
    known = {**groups(), **plugins()}
    requested = parser.parse_args(arguments).groups or list(known)
    chosen = dict(text.split("=", 1) for text in requested if "=" in text)
    images = {key: int(chosen[key]) if chosen[key].isdigit() else 0 for key in IMAGES if key in chosen}
    for key, number in images.items():
        if number < 1:
            raise RequestError(f"{key} must be a whole number of at least 1, got {chosen[key]!r}")
        del chosen[key]
    sections = []
    for text in requested:
        group, _, choice = text.partition("=")
        if group in images:
            continue
        one_of("group", group, known)
        if not choice:
            lines, width = [bold(group)], max(map(len, known[group]))
            for name in known[group]:
                texts = (line for line in read_yaml(group, name).splitlines() if not line.startswith("# @package"))
                lines.append(f"  {name:<{width}}  {next(texts, '').lstrip('# ')}")
            sections.append("\n".join(lines))
            continue
        one_of(group, choice, known[group])
        cost = f"\n\n{_cost({**chosen, group: choice}, images)}" if group == "model" else ""
        sections.append(f"{bold(text)}\n{_with_inherited(group, choice)}{cost}")
    print_result("\n\n".join(sections))
    return 0


def _with_inherited(group: str, choice: str) -> str:
    """The text of a YAML, and of those in the group that it begins with."""
    text = read_yaml(group, choice)
    bases = [name for name in (yaml.safe_load(text) or {}).get("defaults", ()) if isinstance(name, str)]
    return "\n\n".join([text, *(_with_inherited(group, name) for name in bases if name != "_self_")])


def _cost(chosen: Mapping[str, str], images: Mapping[str, int]) -> str:
    """Weights, and FLOPs for one image of the chosen set, or of these channels, size and classes."""
    config = compose([f"{group}={choice}" for group, choice in chosen.items()])
    import torch
    from hydra.utils import instantiate

    from cnnbench.analysis.metric_names import compact
    from cnnbench.models.profile import flops_per_image

    shape = dict(getattr(instantiate(config.data.source), "shape", {}))  # what is known without reading the images
    shape |= {"image_size": config.data.image_size} if config.data.image_size else {}
    shape |= images
    if missing := [f"{key}=..." for key in IMAGES if key not in shape]:
        return f"give {' '.join(missing)} to see its weights and FLOPs"
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    if "weights" in model:
        model["weights"] = None  # they change nothing here, and may have to be downloaded
    channels, side, classes = (shape[key] for key in IMAGES)
    try:
        with torch.device("meta"):
            network = instantiate(model, in_channels=channels, num_classes=classes, image_size=side)
            flops = flops_per_image(network, channels, side)
    except Exception as error:
        raise RequestError(f"model: {' '.join(str(error.__cause__ or error).split())}") from error
    weights = sum(p.numel() for p in network.parameters())
    amount = re.sub(r"([a-zA-Z]?)$", r" \1", compact(flops), count=1)
    return f"{weights:,} weights; {amount}FLOPs for one image of {channels}x{side}x{side}, {classes} classes"
