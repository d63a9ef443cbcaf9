"""What a search draws from: the axes that the sweep's overrides name, in Hydra's syntax.

``optimizer=sgd,adam`` and ``choice(...)`` are choices, ``range(1,5)`` is its whole numbers, ``interval(0,0.5)`` a real
number, ``int(interval(1,64))`` a whole one, and ``tag(log,interval(1e-4,1))`` is drawn uniformly in the logarithm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

    @property
    def ends(self) -> tuple[str, ...]:
        """Values that stand for all: every choice, or both ends."""
        return self.choices or (self.text(self.low), self.text(self.high))

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
        key, sweep = override.get_key_element(), override.value()
        if not override.is_sweep_override():
            fixed.append(text)
        elif override.is_interval_sweep():
            axes.append(_interval(text, key, sweep))
        else:
            axes.append(Axis(key, tuple(str(value) for value in override.sweep_string_iterator())))
    return fixed, axes


def _interval(text: str, key: str, sweep: Any) -> Axis:
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if sweep.tags - {"log"}:
        raise RequestError(f"{text}: the tag is {', '.join(sorted(sweep.tags - {'log'}))}; there is log alone")
    if not low < high or (log and low <= 0):
        raise RequestError(f"{text}: an interval goes from a smaller to a larger number{', both above 0' * log}")
    return Axis(
        key, (), float(low), float(high), log, isinstance(low, int) and isinstance(high, int) and "int(" in text
    )


def corners(overrides: Sequence[str]) -> list[list[str]]:
    """Runs that have every choice and every end of an interval in them, each at least once."""
    fixed, axes = parse(overrides)
    most = max((len(axis.ends) for axis in axes), default=1)
    return [
        [*fixed, *(f"{axis.key}={axis.ends[min(number, len(axis.ends) - 1)]}" for axis in axes)]
        for number in range(most)
    ]
