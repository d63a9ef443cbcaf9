"""Each configuration at its best value of what is tuned, chosen by validation: tuned is compared with tuned."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cnnbench.analysis.grouping import Configuration, Grid
from cnnbench.analysis.metric_names import COSTS, higher_is_better, leaf
from cnnbench.analysis.statistics import summarise, to_number
from cnnbench.analysis.wording import sentences
from cnnbench.config.settings import canonical, short_names
from cnnbench.utils.errors import RequestError, did_you_mean


def validation_metric(objectives: Sequence[str], known: Iterable[str], why: str) -> str:
    """The first of ``objectives``, or of their kinds on the validation set, that is no test metric, no cost and known.

    Raises RequestError, that the option ``why`` needs one, where there is none.
    """
    usable = {name for name in known if name not in COSTS and not name.startswith("test/")}
    for name in (name for objective in objectives for name in (objective, f"val/{leaf(objective)}")):
        if name in usable:
            return name
    raise RequestError(f"{why} needs a validation metric, and the runs have none (data.validation=0.1 holds one out)")


def choose_best(grid: Grid, names: Iterable[str], metric: str) -> Grid:
    """Of the configurations that differ in some factors alone, keep the one with the best mean of ``metric``.

    Args:
        names: of these factors, in full or short (``lr``), also several with commas.
        metric: not a test metric.

    Raises:
        RequestError: a name is of nothing that varies, or nothing else varies.
    """
    full_names = {name: key for key, name in short_names(grid.factors).items()}
    keys = tuple(dict.fromkeys(full_names.get(name, name) for text in names for name in text.split(",")))
    for key in keys:
        if key not in grid.factors:
            near = did_you_mean(key, [*grid.factors, *full_names])
            raise RequestError(f"--best-over {key}: it does not vary between runs that are alike in the rest{near}")
    if not (others := [factor for factor in grid.factors if factor not in keys]):
        raise RequestError(f"--best-over {','.join(keys)}: nothing else varies, so that nothing is left to compare; "
                           "without it the leaderboard names the best")  # fmt: skip
    groups: dict[tuple[str | None, ...], list[Configuration]] = {}
    for c in grid.configurations:
        groups.setdefault(tuple(canonical(c.values[f]) if f in c.values else None for f in others), []).append(c)
    sign = -1 if higher_is_better(metric) else 1

    def order(configuration: Configuration) -> tuple[bool, float]:
        mean = summarise(run.value(metric) for run in configuration.runs).mean
        return mean is None, sign * (mean or 0.0)

    ordered = [sorted(tries, key=order) for tries in groups.values()]
    best = [replace(tries[0], tries=len(tries)) for tries in ordered]
    edges = [tries[0] for tries in ordered if any(_is_at_edge(tries, key) for key in keys)]
    set_aside = tuple(c for tries in ordered for c in tries[1:])
    notes = (*grid.notes, *sentences("tuned", [c for c in best if c.runs], keys, metric, edges))
    return replace(
        grid, configurations=tuple(best), notes=notes, chosen_over=keys, chosen_by=metric, set_aside=set_aside
    )


def _is_at_edge(tries: Sequence[Configuration], key: str) -> bool:
    """Whether the value of ``key`` in the first of ``tries`` is the smallest or the largest of several numbers."""
    tried = [number for c in tries if (number := to_number(c.values.get(key))) is not None]
    return len(set(tried)) > 1 and tries[0].values.get(key) in (min(tried), max(tried))
