"""``cnnbench find-lr [overrides]``: a learning-rate range test, its plot, and a suggestion with its reason."""

from collections.abc import Sequence
from pathlib import Path

from cnnbench.cli.parser import Parser


def main(arguments: Sequence[str]) -> int:
    """Print and draw the suggestion; returns 0. A plot that cannot be written raises after the suggestion."""
    parser = Parser(
        "find-lr",
        "Raise the learning rate from step to step and see where the loss falls, and where it explodes "
        "(in 32 bits, a batch a step, whatever trainer.precision and accumulate_grad_batches are).",
        "Other arguments are overrides, as in training: model=lenet optimizer=sgd data=mnist.",
    )
    parser.add_argument("--low", type=float, default=1e-6, metavar="LR", help="first learning rate (1e-6)")
    parser.add_argument("--high", type=float, default=10.0, metavar="LR", help="last learning rate (10)")
    parser.add_argument("--steps", type=int, default=120, metavar="N", help="steps between them (120)")
    parser.add_argument("--plot", type=Path, default=Path("find-lr.png"), metavar="FILE", help="(find-lr.png)")
    options, overrides = parser.parse_with_overrides(arguments)
    from cnnbench.config.compose import compose, resolved
    from cnnbench.config.schema import check_values

    config = resolved(compose(overrides))
    check_values(config)
    from cnnbench.training.lr_finder import plot, range_test
    from cnnbench.training.preflight import check
    from cnnbench.utils.memory import keep_freed_memory

    check(config)
    keep_freed_memory()
    found = range_test(config, options.low, options.high, options.steps)
    inner = [f"{name}." for name in ("first", "base_optimizer") if name in config["optimizer"]]  # of switch, and of SAM
    key = f"optimizer.{''.join(inner)}lr"
    print(f"{key}={found.suggestion:g}\n  {found.reason}", flush=True)
    if not found.exploded:
        print(f"  the loss did not explode up to {found.lrs[-1]:.1e}; --high {10 * found.lrs[-1]:g} looks further")
    plot(found, options.plot)
    print(f"  plot  {options.plot}")
    return 0
