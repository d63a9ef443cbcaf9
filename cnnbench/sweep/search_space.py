"""The search space: the axes that a sweep's overrides name, in Hydra's syntax.

``optimizer=sgd,adam`` and ``choice(...)`` are choices, ``range(1,5)`` is its whole numbers, ``interval(0,0.5)`` a real
number, ``int(interval(1,64))`` a whole one, and ``tag(log,interval(1e-4,1))`` is drawn uniformly in the logarithm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from cnnbench.config.overrides import parse as parse_override
from cnnbench.utils.errors import RequestError


@dataclass(frozen=True)
class Axis:
    """One thing that varies: among ``choices`` (as they stand on a command line), or from ``low`` to ``high``."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def text(self, value: Any) -> str:
        """A value as it stands on a command line: a real number with six significant digits."""
        if self.choices:
            return str(value)
        return str(int(value)) if self.whole else f"{value:.6g}"


def parse(overrides: Sequence[str]) -> tuple[list[str], list[Axis]]:
    """The overrides that all runs share, and the axes.

    Raises:
        RequestError: one cannot be read, or its ends are not in order.
    """
    fixed, axes = [], []
    for text in overrides:
        override = parse_override(text)
        key, sweep = override.get_key_element(), cast(Any, override.value())
        if not override.is_sweep_override():
            fixed.append(text)
        elif not override.is_interval_sweep():
            axes.append(Axis(key, tuple(str(value) for value in override.sweep_string_iterator())))
        else:
            low, high, log = sweep.start, sweep.end, "log" in sweep.tags
            if unknown := sweep.tags - {"log"}:
                raise RequestError(f"{text}: the tag is {', '.join(sorted(unknown))}; there is log alone")
            if not low < high or (log and low <= 0):
                raise RequestError(
                    f"{text}: an interval goes from a smaller to a larger number{', both above 0' * log}"
                )
            whole = isinstance(low, int) and isinstance(high, int) and "int(" in text
            axes.append(Axis(key, (), float(low), float(high), log, whole))
    return fixed, axes


def corners(overrides: Sequence[str]) -> list[list[str]]:
    """Runs that have every choice and both ends of each interval in them, each at least once."""
    fixed, axes = parse(overrides)
    ends = {axis.key: axis.choices or (axis.text(axis.low), axis.text(axis.high)) for axis in axes}
    most = max(map(len, ends.values()), default=1)
    return [
        [*fixed, *(f"{key}={values[min(number, len(values) - 1)]}" for key, values in ends.items())]
        for number in range(most)
    ]
