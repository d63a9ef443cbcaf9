"""What a search draws from, as overrides in Hydra's syntax.

``optimizer=sgd,adam`` and ``choice(...)`` are choices, ``range(1,5)`` is its whole numbers, ``interval(0,0.5)`` a real
number, ``int(interval(1,64))`` a whole one, and ``tag(log,interval(1e-4,1))`` is drawn uniformly in the logarithm.
"""

from collections.abc import Sequence
from typing import Any, cast

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from cnnbench.config.overrides import parse as parse_override
from cnnbench.config.overrides import swept
from cnnbench.utils.errors import RequestError


def parse(overrides: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """The overrides that all runs share, and what each other key is drawn from; raises RequestError for a wrong one."""
    parsed = {text: parse_override(text) for text in overrides}
    space: dict[str, BaseDistribution] = {}
    for text, one in parsed.items():
        if one.is_interval_sweep():
            space[one.get_key_element()] = _interval(text, cast(Any, one.value()))
        elif one.is_sweep_override():
            space[one.get_key_element()] = CategoricalDistribution(swept(one))
    return [text for text in overrides if not parsed[text].is_sweep_override()], space


def _interval(text: str, sweep: Any) -> IntDistribution | FloatDistribution:
    if unknown := sweep.tags - {"log"}:
        raise RequestError(f"{text}: the tag is {', '.join(sorted(unknown))}; there is log alone")
    whole = isinstance(sweep.start, int) and isinstance(sweep.end, int) and "int(" in text
    try:
        return (IntDistribution if whole else FloatDistribution)(sweep.start, sweep.end, log="log" in sweep.tags)
    except ValueError as error:
        raise RequestError(f"{text}: {error}") from error


def override(key: str, distribution: BaseDistribution, value: Any) -> str:
    """A drawn value as it stands on a command line: a real number with six significant digits."""
    if not isinstance(distribution, CategoricalDistribution):
        value = int(value) if isinstance(distribution, IntDistribution) else f"{float(value):.6g}"
    elif value not in distribution.choices:  # a journal may come from anywhere
        choices = ", ".join(map(str, distribution.choices))
        raise RequestError(f"the search has drawn {value!r} for {key}, which is none of {choices}")
    return f"{key}={value}"


def corners(overrides: Sequence[str]) -> list[list[str]]:
    """Runs that have every choice and both ends of each interval in them, each at least once."""
    fixed, space = parse(overrides)
    ends = []
    for key, of in cast(dict[str, Any], space).items():
        ends.append([override(key, of, value) for value in getattr(of, "choices", None) or (of.low, of.high)])
    most = max(map(len, ends), default=1)
    return [[*fixed, *(texts[min(number, len(texts) - 1)] for texts in ends)] for number in range(most)]
