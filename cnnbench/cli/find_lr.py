"""``cnnbench find-lr [overrides]``: a learning-rate range test, its plot, and a suggestion with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.cli.parser import Parser
from cnnbench.utils.errors import RequestError

if TYPE_CHECKING:
    from cnnbench.training.lr_finder import RangeTest


def _parser() -> Parser:
    parser = Parser(
        "find-lr",
        description="Raise the learning rate from step to step and see where the loss falls, and where it explodes "
        "(in 32 bits, a batch a step, whatever trainer.precision and accumulate_grad_batches are).",
        epilog="Other arguments are overrides, as in training: model=lenet optimizer=sgd data=mnist.",
    )
    parser.add_argument("--low", type=float, default=1e-6, metavar="LR", help="first learning rate (1e-6)")
    parser.add_argument("--high", type=float, default=10.0, metavar="LR", help="last learning rate (10)")
    parser.add_argument("--steps", type=int, default=120, metavar="N", help="steps between them (120)")
    parser.add_argument("--plot", type=Path, default=Path("find-lr.png"), metavar="FILE", help="(find-lr.png)")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line; returns 0.

    Raises:
        RequestError: what was asked for is wrong.
    """
    asked, overrides = _parser().parse_known_args(list(argv))
    flags = [text for text in overrides if text.startswith("-") or "=" not in text]
    if flags:
        raise RequestError(f"{flags[0]!r} is neither an option nor an override (cnnbench find-lr --help)")
    from cnnbench.config.compose import compose, resolved
    from cnnbench.config.schema import check_values

    config = resolved(compose(overrides))
    check_values(config)
    from cnnbench.training.lr_finder import range_test
    from cnnbench.training.preflight import check
    from cnnbench.utils.memory import keep_freed_memory

    check(config)
    keep_freed_memory()
    found = range_test(config, asked.low, asked.high, asked.steps)
    plot(found, asked.plot)
    key = "optimizer.first.lr" if "first" in config["optimizer"] else "optimizer.lr"  # the one that switch begins with
    print(f"{key}={found.suggestion:g}\n  {found.reason}\n  plot  {asked.plot}")
    if not found.exploded:
        print(f"  the loss did not explode up to {found.lrs[-1]:.1e}; --high {10 * found.lrs[-1]:g} looks further")
    return 0


def plot(found: RangeTest, path: Path) -> None:
    """Draw the learning rate, on a log axis, against the loss.

    Raises:
        RequestError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot(found.lrs, found.losses, color="#56B4E9", alpha=0.5, linewidth=1, label="loss of the batch")
    axes.plot(found.lrs, found.smoothed, color="#0072B2", linewidth=2, label="smoothed")
    for lr, colour, name in (
        (found.steepest, "#009E73", "falls fastest"),
        (found.lowest, "#D55E00", "lowest"),
        (found.suggestion, "black", "suggested"),
    ):
        axes.axvline(lr, color=colour, linestyle="--", linewidth=1, label=f"{name}: {lr:.1e}")
    axes.set_xscale("log")
    top = max(found.smoothed[:3])
    axes.set_ylim(0.9 * min(found.smoothed), 1.5 * top)
    axes.set(xlabel="learning rate", ylabel="training loss", title="Learning-rate range test")
    axes.legend(fontsize=8, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"--plot {path} cannot be written ({error})") from error
