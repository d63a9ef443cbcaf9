"""``cnnbench noise [overrides]``: how much a configuration varies with the seed, and which differences that hides."""

from collections.abc import Sequence
from pathlib import Path

from cnnbench.cli.parser import Parser
from cnnbench.cli.reproduce import default_folder
from cnnbench.config.overrides import override_key, parse, parse_override, quoted
from cnnbench.utils.console import print_result
from cnnbench.utils.errors import RequestError

SIDES = (3, 5, 10, 20)  # runs of each of two configurations


def main(arguments: Sequence[str]) -> int:
    """Train a configuration with several seeds, as a sweep, and print their spread; returns as ``launch`` does."""
    parser = Parser(
        "noise",
        "Train one configuration with several seeds, as a sweep in outputs/noise_OVERRIDES/ (or hydra.sweep.dir=DIR) that can "
        "be repeated and resumed, and tell its spread and the smallest difference that n seeds a side would show.",
        "Other arguments are overrides, as in training: model=lenet optimizer=sgd. Or the folder of finished runs: "
        "cnnbench noise outputs/cnnbench/sweep_...",
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs, with seeds 0 to N-1 (5)")
    if len(arguments) == 1 and Path(arguments[0]).is_dir():
        if not _print_noise(Path(arguments[0])):
            raise RequestError(f"{arguments[0]} has no completed run")
        return 0
    options, overrides = parser.parse_with_overrides(arguments)
    if options.seeds < 2:
        raise RequestError(f"--seeds must be at least 2, got {options.seeds}: one run has no spread")
    for text in overrides:
        if override_key(text) == "seed":
            raise RequestError(f"{text}: `cnnbench noise` has --seeds for that")
        if parse(text).is_sweep_override():
            raise RequestError(f"{text} is several values, and noise is of one configuration; sweep with -m for those")
    from cnnbench.sweep.launcher import launch

    named = [value for key, value in map(parse_override, overrides) if key == "hydra.sweep.dir"]
    folder = Path(str(named[-1])) if named else default_folder("noise", overrides, "outputs")
    status = launch(["-m", *overrides, f"hydra.sweep.dir={quoted(folder)}", f"seed=range({options.seeds})"])
    _print_noise(folder)
    return status


def _print_noise(folder: Path) -> bool:
    """Print the spread of each configuration in a folder, and what it hides; returns whether there is one."""
    from cnnbench.analysis.images import correct_answers, split_spread
    from cnnbench.analysis.leaderboard import build
    from cnnbench.analysis.power import smallest_difference
    from cnnbench.analysis.runs import collect
    from cnnbench.analysis.statistics import std_interval
    from cnnbench.analysis.wording import sentences

    board = build(collect([folder]))
    metric = board.test_metric
    for row in board.rows:
        summary, correct = row.value(metric), correct_answers(row.configuration.runs)
        parts = None if correct is None or metric != "test/accuracy" else split_spread(correct)
        std = summary.std if row.splits < 2 else None  # splits share images: their runs are not independent
        hidden = {n: smallest_difference(std, n) for n in SIDES} if std else {}
        limits = std_interval(std, summary.n) if std else None
        print_result("\n" + "\n  ".join(sentences("noise", row, metric, limits, parts, hidden)))
    return bool(board.rows)
