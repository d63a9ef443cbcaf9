"""The leaderboard: a row for each configuration, best first. ``report.tables`` says how it is written."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from cnnbench.analysis.grouping import Configuration, Grid, cell_of, group
from cnnbench.analysis.images import wilson
from cnnbench.analysis.metric_names import COSTS, check_metric, higher_is_better, leaf, plural, title
from cnnbench.analysis.runs import Run, by_replicate, count_splits, summarise_runs
from cnnbench.analysis.sequential import read_decided
from cnnbench.analysis.statistics import Summary, finite_mean, finite_values, places, summarise
from cnnbench.analysis.wording import sentences
from cnnbench.utils.errors import RequestError, did_you_mean

DEFAULT_OBJECTIVE = "val/accuracy"


@dataclass(frozen=True)
class LeaderboardRow:
    """A configuration's rank on its data set, from 1, and its numbers over seeds and splits."""

    rank: int
    configuration: Configuration
    objective: Summary

    @property
    def n(self) -> int:
        """Seeds, and splits, with a completed run."""
        return len(by_replicate(self.configuration.runs))

    @property
    def splits(self) -> int:
        """On how many splits of the train set these are."""
        return count_splits(self.configuration.runs)

    @property
    def best_epoch(self) -> float | None:
        """Mean of the epochs that the runs' objective chose, counted from 1."""
        epochs = finite_values(run.part("best").get("epoch") for run in self.configuration.runs)
        return finite_mean(epoch + 1 for epoch in epochs)

    def value(self, metric: str, of: Callable[[Run, str], float | None] = Run.value) -> Summary:
        """A metric of the weights that each run stands for, or with ``of`` as ``Run.best`` or ``Run.final`` has it."""
        return summarise_runs(self.configuration.runs, lambda run: of(run, metric))

    def image_interval(self, metric: str) -> tuple[float, float] | None:
        """Of a single run's accuracy the interval from the number of images alone; None of anything else."""
        split, _, leaf = metric.partition("/")
        images = self.configuration.runs[0].part("data").get(split) if self.n == 1 else None
        accuracy = self.value(metric).mean if leaf == "accuracy" else None
        if not isinstance(images, int) or images < 1 or accuracy is None or not 0 <= accuracy <= 1:
            return None
        return wilson(round(accuracy * images), images)

    def cost(self, name: str) -> float | None:
        """Mean of one of ``COSTS``; None where no record has it."""
        return finite_mean(run.cost(name) for run in self.configuration.runs)


@dataclass(frozen=True)
class Leaderboard:
    """The configurations with a completed run, by data set the best first, and what to know about them."""

    grid: Grid
    metrics: list[str]  # the objective, which orders the rows, then the test metrics that are shown beside it
    rows: list[LeaderboardRow]
    notes: list[str]
    known: set[str]  # every metric and cost that a completed run has

    @property
    def objective(self) -> str:
        return self.metrics[0]

    @property
    def splits(self) -> tuple[int, int]:
        """The smallest and the largest number of splits that a row has."""
        counts = [row.splits for row in self.rows] or [0]
        return min(counts), max(counts)

    @property
    def test_metric(self) -> str:
        """The test set's metric of the objective's kind, or else the objective."""
        tested = f"test/{leaf(self.objective)}"
        return tested if tested in self.known else self.objective

    @property
    def data_sets(self) -> list[str]:
        """Which data sets its rows are of, in their order."""
        return list(dict.fromkeys(row.configuration.data_set for row in self.rows))

    def of(self, data_set: str) -> "Leaderboard":
        """The rows of one data set."""
        return replace(self, rows=[row for row in self.rows if row.configuration.data_set == data_set])

    @property
    def caption(self) -> str:
        """What orders the rows and what ± is."""
        way = "highest" if higher_is_better(self.objective) else "lowest"
        single = any(row.image_interval(metric) for row in self.rows for metric in self.metrics)
        images = "; *: of one seed, over other images (Wilson)" if single else ""
        within = " within each data set" if len(self.data_sets) > 1 else ""
        over, corrected = "seeds", ""
        if self.splits[1] > 1:
            over, corrected = "seeds and splits (n: runs)", ", corrected for images that splits share"
        return (f"Ordered{within} by {title(self.objective)}, {way} first; mean ± standard deviation over {over}, "
                f"95% Student-t interval of the mean{corrected}{images}.")  # fmt: skip

    @property
    def trouble(self) -> list[str]:
        """A line for each run that did not complete: how it ended, what it was, why."""
        names = ((", ".join(filter(None, (c.short, run.replicate))), run) for c, run in self.grid.incomplete)
        return [f"{run.status}: {name}: {run.reason} ({run.path.name})" for name, run in names]


def build(
    runs: Sequence[Run], objective: str | None = None, ignore: Collection[str] = (), best_over: Sequence[str] = ()
) -> Leaderboard:
    """The leaderboard of ``runs``, of any status; the options are those of ``analyse``. Raises RequestError where no finished
    run has the objective, or no such factor varies."""
    grid = group(runs, ignore)
    known = {name for run in grid.runs for name in run.metrics()}
    if objective is not None and grid.runs:
        check_metric("objective", objective, known)
    own = list(dict.fromkeys(run.objective for run in grid.runs if run.objective))
    chosen = objective or next(iter(own), DEFAULT_OBJECTIVE)
    if best_over:
        metric = validation_metric([chosen, *own], known, "--best-over") if known else chosen
        grid = choose_best(grid, best_over, metric)
    notes = list(grid.notes)
    if len(own) > 1:
        notes.append(f"The runs chose their best epochs by different objectives ({', '.join(own)}).")
    if chosen.startswith("test/"):
        notes.append("Ordered by a test metric: the first was chosen on the test set, so its value is optimistic.")
    if unfinished := sum(not c.runs for c in (*grid.configurations, *grid.set_aside)):
        notes.append(f"{plural(unfinished, 'configuration')} without a completed run; listed below, not ranked.")
    notes += [note for sweep in read_decided({run.path.parent for run in runs}) for note in sweep.notes]
    lists = (run.part("config").get("metrics") for run in grid.runs)
    asked = [name for of in lists if isinstance(of, list) for name in of]
    tests = dict.fromkeys(f"test/{name}" for name in ("accuracy", "recall", leaf(chosen), *asked))
    metrics = [chosen, *(name for name in tests if name in known and name != chosen)]
    summaries = [(c, summarise_runs(c.runs, lambda run: run.value(chosen))) for c in grid.configurations if c.runs]
    sets = {c.data_set: at for at, c in reversed([*enumerate(grid.configurations)])}  # where each is met first
    place = places((summary.mean for _, summary in summaries), higher_is_better(chosen))
    summaries.sort(key=lambda item: (sets[item[0].data_set], place[item[1].mean], item[0].label))
    by_set = groupby(summaries, key=lambda item: item[0].data_set)
    rows = [LeaderboardRow(rank, *item) for _, items in by_set for rank, item in enumerate(items, start=1)]
    return Leaderboard(grid, metrics, rows, notes, known)


def validation_metric(objectives: Sequence[str], known: Collection[str], why: str) -> str:
    """The first validation metric among ``objectives`` and their kinds; RequestError, for option ``why``, if none."""
    wanted = (name for objective in objectives for name in (objective, f"val/{leaf(objective)}"))
    for name in wanted:
        if name in known and name not in COSTS and not name.startswith("test/"):
            return name
    raise RequestError(f"{why} needs a validation metric, and the runs have none (data.validation=0.1 holds one out)")


def choose_best(grid: Grid, names: Iterable[str], metric: str) -> Grid:
    """Of the configurations that differ in some factors alone, keep the one with the best mean of ``metric``, no test metric:
    tuned is compared with tuned. Raises RequestError where one of ``names``, of the factors, in full or short (``lr``),
    also several with commas, is of nothing that varies, or nothing else varies."""
    keys = tuple(dict.fromkeys(grid.full_names.get(name, name) for text in names for name in text.split(",")))
    for key in keys:
        if key not in grid.factors:
            near = did_you_mean(key, [*grid.factors, *grid.full_names])
            raise RequestError(f"--best-over {key}: it does not vary between runs that are alike in the rest{near}")
    if not (others := [factor for factor in grid.factors if factor not in keys]):
        raise RequestError(f"--best-over {','.join(keys)}: nothing else varies, so that nothing is left to compare; "
                           "without it the leaderboard names the best")  # fmt: skip
    groups: dict[tuple[str | None, ...], list[Configuration]] = {}
    for c in grid.configurations:
        groups.setdefault(cell_of(c.values, others), []).append(c)
    means = {id(c): summarise(run.value(metric) for run in c.runs).mean for c in grid.configurations}
    place = places(means.values(), higher_is_better(metric))
    ordered = [sorted(tries, key=lambda c: (place[means[id(c)]], c.label)) for tries in groups.values()]
    best = [replace(tries[0], tries=len(tries)) for tries in ordered]
    set_aside = tuple(c for tries in ordered for c in tries[1:])
    notes = (*grid.notes, *sentences("tuned", [c for c in best if c.runs], keys, metric))
    return replace(grid, configurations=tuple(best), notes=notes, chosen_over=keys, chosen_by=metric,
                   set_aside=set_aside)  # fmt: skip
