"""``cnnbench resume DIR``: go on with a stopped run or sweep."""

from collections.abc import Sequence

import yaml

from cnnbench.cli.parser import Parser, existing_folder
from cnnbench.config.overrides import quoted
from cnnbench.config.settings import changes_result
from cnnbench.utils.errors import RequestError


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
    options, more = parser.parse_with_overrides(arguments)
    from cnnbench.config.trusted_targets import check_overrides
    from cnnbench.sweep.launcher import launch
    from cnnbench.sweep.plan import FILE, read_plan

    folder = options.folder
    for text in more:
        key = text.partition("=")[0].lstrip("+~")
        if not text.startswith("hydra") and changes_result(key):
            raise RequestError(f"{text} changes the result: a run goes on as it began (start a new one instead)")
    if (folder / FILE).exists():
        commands = read_plan(folder)["commands"]
        for command in commands:
            check_overrides(command, str(folder / FILE))
        return launch(["-m", *commands[-1], *more, "sweep.earlier=true", f"hydra.sweep.dir={quoted(folder)}"])
    kept = folder / ".hydra" / "overrides.yaml"
    if not kept.exists():
        raise RequestError(f"{folder} is neither the folder of a run (.hydra/overrides.yaml) nor of a sweep ({FILE})")
    overrides = [str(text) for text in yaml.safe_load(kept.read_text(encoding="utf-8")) or ()]
    check_overrides(overrides, str(kept))
    own = [text for text in overrides if not text.startswith("sweep.trial=")]  # its search goes on by its own folder
    return launch([*own, *more, f"hydra.run.dir={quoted(folder)}"])
