"""``cnnbench resume DIR``: go on with a stopped run or sweep."""

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from cnnbench.cli.parser import Parser, existing_folder
from cnnbench.config.overrides import override_key, quoted
from cnnbench.config.settings import changes_result
from cnnbench.utils.errors import RequestError, refuse
from cnnbench.utils.record import read_yaml_file


def main(arguments: Sequence[str]) -> int:
    """Go on with a stopped run or sweep; returns and raises as ``launch`` does."""
    parser = Parser(
        "resume",
        "Go on with a stopped run or sweep: what has finished is kept, what was interrupted goes on from its newest "
        "checkpoint, and what has not begun is run. Overrides may change how it goes on, not what comes out.",
        "Examples: cnnbench resume outputs/cnnbench/sweep_...; "
        "cnnbench resume outputs/cnnbench/sweep_... sweep.repeat_failed=true",
    )
    parser.usage = "%(prog)s DIR [OVERRIDE ...]"
    parser.add_argument("folder", metavar="DIR", type=existing_folder, help="folder of a run or a sweep")
    parser.add_trust()
    options, more = parser.parse_with_overrides(arguments)
    from cnnbench.config.trusted_targets import repeatable, trust
    from cnnbench.sweep.launcher import launch
    from cnnbench.sweep.plan import FILE, read_plan

    folder, plan, kept = options.folder, options.folder / FILE, options.folder / ".hydra" / "overrides.yaml"
    refuse_changes(more)
    refuse_links(folder)
    trust(options.trust)
    if plan.exists():
        command = (read_plan(folder)["commands"] or [[]])[-1]
        own = ["-m", *repeatable(command, str(plan), more), *more, "sweep.earlier=true"]
        return launch([*own, f"hydra.sweep.dir={quoted(folder)}"])
    if not kept.exists():
        raise RequestError(f"{folder} is neither the folder of a run (.hydra/overrides.yaml) nor of a sweep ({FILE})")
    with refuse(f"{kept} cannot be read", ValueError, TypeError, RecursionError, yaml.YAMLError):
        overrides = [str(text) for text in read_yaml_file(kept) or ()]
    return launch([*repeatable(overrides, str(kept), more), *more, f"hydra.run.dir={quoted(folder)}"])


def refuse_links(folder: Path) -> None:
    """Raise RequestError where what is written into the folder would go elsewhere, or be waited for."""
    for path in folder.rglob("*"):
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(folder.resolve()):  # even of a circle
            raise RequestError(f"{path} is a link out of {folder}, and nothing is written there")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise RequestError(f"{path} is neither a file nor a folder, and no run has such things")


def refuse_changes(overrides: Sequence[str]) -> None:
    """Raise RequestError where one of them changes the result."""
    for text in overrides:
        if not text.startswith("hydra") and changes_result(override_key(text)):
            raise RequestError(f"{text} changes the result: a run goes on as it began (start a new one instead)")
