"""The tables of a report, defined once for every format: texts, and the number behind each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnbench.analysis import metric_names as names
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard, LeaderboardRow
from cnnbench.analysis.power import MOST_SEEDS
from cnnbench.analysis.runs import Run
from cnnbench.analysis.sequential import DecidedSweep, read_decided
from cnnbench.analysis.statistics import Summary
from cnnbench.analysis.wording import sentences
from cnnbench.config.settings import short_names, show

if TYPE_CHECKING:
    from cnnbench.analysis.analyse import Analysis, Comparison, Pairs
    from cnnbench.analysis.data_sets import AcrossDataSets
    from cnnbench.analysis.effects import Effects
    from cnnbench.analysis.time_to_target import TimeToTarget

# Layouts of the leaderboard: 0 is that of Markdown, LaTeX and HTML. A terminal takes the first of the others that fits: 2
# leaves out the test set's other metrics, 3 the costs too, 4 the interval too, and 5 has the name in place of the factors.
TERMINAL = range(1, 6)
MOST_DATA_SETS = 8  # with a column each
SHORT_COSTS = {"parameters": "weights", "flops_per_image": "FLOPs/image", "seconds_per_epoch": "s/epoch",
               "images_per_second": "images/s"}  # fmt: skip
EMPTY_ROW = LeaderboardRow(0, Configuration({}, (), ()), Summary(0))  # has the columns of a leaderboard without rows
METHODS = {"paired t": "{} pairs, t", "Welch t": "Welch t", "corrected paired t": "{} splits, corrected t",
           "corrected Welch t": "corrected Welch t", "exact permutation": "exact", "none": names.MISSING}  # fmt: skip


class Cell(NamedTuple):
    """What a table shows, and what it sorts by: None sorts last."""

    text: str
    value: float | str | None


class Table(NamedTuple):
    """A caption, column titles, and rows of as many cells."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers, and so stand to the right."""
        return [not any(isinstance(row[i].value, str) for row in self.rows) for i in range(len(self.headers))]


def leaderboard_entry(board: Leaderboard, row: LeaderboardRow) -> dict[str, Any]:
    """A row's numbers in full, as CSV and JSON have them; None where one is unknown."""
    entry = {
        "place": row.rank, "configuration": row.configuration.label,
        **{factor: _setting(row, factor) for factor in board.grid.factors},
        "n": row.n, "not completed": len(row.configuration.incomplete),
        **({"tries": row.configuration.tries} if board.grid.chosen_over else {}),
    }  # fmt: skip
    for metric in [name for name in dict.fromkeys((*board.metrics, *sorted(board.known))) if name not in names.COSTS]:
        summaries = {f"{metric} best": row.value(metric, Run.best), f"{metric} final": row.value(metric, Run.final)}
        if metric.startswith("test/"):
            summaries = {metric: row.value(metric, Run.final)}
        for key, summary in summaries.items():
            entry |= {f"{key} {part}": getattr(summary, part) for part in ("mean", "std", "low", "high")}
    return {**entry, "best epoch": row.best_epoch, **{name: row.cost(name) for name in names.COSTS}}


def leaderboard_table(board: Leaderboard, layout: int = 0, most: int | None = None) -> Table:
    """The first ``most`` rows in one of the layouts above."""
    rows = [_leaderboard_cells(board, row, layout) for row in board.rows[:most]]
    headers = [header for header, _ in _leaderboard_cells(board, EMPTY_ROW, layout)]
    return Table(board.caption, headers, [[cell for _, cell in row] for row in rows])


def _leaderboard_cells(board: Leaderboard, row: LeaderboardRow, layout: int) -> list[tuple[str, Cell]]:
    """A row's cells with their columns' titles."""
    cells = [("#", Cell(str(row.rank), row.rank))]
    for factor, name in short_names(board.grid.factors).items() if layout < 5 else ():
        setting = _setting(row, factor)
        cells.append((name, Cell(names.MISSING if setting is None else show(setting), setting)))
    if layout == 5:
        cells.append(("configuration", _words(row.configuration.short)))
    others = len(row.configuration.incomplete)
    cells.append(("n", Cell(f"{row.n} of {row.n + others}" if others else str(row.n), row.n)))
    if board.grid.chosen_over:
        cells.append(("tries", Cell(str(row.configuration.tries), row.configuration.tries)))
    for metric in board.metrics:
        summary, chosen = row.value(metric), metric == board.objective
        if layout < 2 or metric == "test/accuracy" or names.leaf(metric) == names.leaf(board.objective):
            cells.append((names.label(metric), Cell(names.plus_minus(summary.mean, summary.std, metric), summary.mean)))
        if layout < (4 if chosen else 1) and names.leaf(metric) == names.leaf(board.objective):
            images = row.image_interval(metric)
            span = "none: n = 1" if summary.n == 1 else names.interval(summary.low, summary.high, metric)
            span = f"{names.interval(*images, metric)}*" if images else span
            cells.append(("95% interval", Cell(span, images[0] if images else summary.low)))
        if layout == 0 and chosen and not metric.startswith("test/") and metric not in names.COSTS:
            final = row.value(metric, Run.final)
            cells.append(("at the last epoch", Cell(names.plus_minus(final.mean, final.std, metric), final.mean)))
    if layout == 0:
        cells.append(("best epoch", _number(row.best_epoch, ".3g")))
    for name, heading in SHORT_COSTS.items():
        if layout < (3 if name in ("parameters", "seconds_per_epoch") else 1):
            cells.append((heading, Cell(names.compact(row.cost(name)), row.cost(name))))
    return cells


def _setting(row: LeaderboardRow, factor: str) -> float | str | None:
    setting = row.configuration.values.get(factor)
    is_number = isinstance(setting, (int, float)) and not isinstance(setting, bool)
    return setting if is_number or factor not in row.configuration.values else show(setting)


def _words(text: str) -> Cell:
    return Cell(text, text)


def _number(value: float | None, form: str) -> Cell:
    return Cell(names.MISSING if value is None else format(value, form), value)


def _p(value: float | None) -> Cell:
    return Cell(names.p_value(value), value)


def _difference(value: float | None, low: float | None, high: float | None, metric: str) -> list[Cell]:
    """With its interval."""
    span = names.interval(low, high, metric, sign=True)
    return [Cell(names.number(value, metric, sign=True), value), Cell(span, low)]


def report_tables(analysis: Analysis) -> dict[str, Table]:
    """The leaderboard, and whatever else there is."""
    across, tables = analysis.across, {"leaderboard": leaderboard_table(analysis.board)}
    if analysis.comparisons:
        tables["comparison"] = comparison_table(analysis.comparisons, analysis.reference_name, analysis.metric)
    tables |= {"across": across_table(across, analysis.metric)} if across else {}
    tables |= {"signed_ranks": signed_rank_table(across)} if across and across.pairs else {}
    sweeps = read_decided({run.path.parent for run in analysis.board.grid.runs})
    tables |= {f"decided{number}": decided_table(sweep) for number, sweep in enumerate(sweeps, start=1)}
    tables |= {"pairs": pair_table(analysis.pairs)} if analysis.pairs else {}
    tables |= {"target": target_table(analysis.target)} if analysis.target else {}
    return tables | ({"anova": anova_table(analysis.effects)} if analysis.effects else {})


def comparison_table(comparisons: Sequence[Comparison], reference: str, metric: str) -> Table:
    """Every other configuration against the reference."""
    with_images = any(c.images for c in comparisons)
    rows = [
        [_words(c.configuration.short), *_difference(d.value, d.low, d.high, metric), _number(d.effect, "+.2f"),
         _p(d.p), _p(c.p), _words(c.verdict),
         *([_p(c.images.p_images if c.images else None), _p(c.p_both)] if with_images else []),
         _words(METHODS[d.method].format(d.n)), Cell(sentences("seeds_needed", c, metric, MOST_SEEDS)[0], c.seeds_needed)]
        for c in comparisons for d in [c.difference]
    ]  # fmt: skip
    points = ", points" if names.is_share(metric) else ""
    headers = ["configuration", f"difference{points}", "95% interval", "Hedges' g", "p", "p, Holm", "verdict",
               *(["p, images", "p, both, Holm"] if with_images else []), "test", "seeds needed to show"]  # fmt: skip
    return Table(f"Difference in {names.title(metric)} from {reference}.", headers, rows)


def across_table(across: AcrossDataSets, metric: str) -> Table:
    """Mean rank, mean on each data set, and interquartile mean of each setting."""
    rows = []
    for at, (setting, rank) in enumerate(zip(across.settings, across.ranks, strict=True)):
        cells = [_words(setting), _number(rank, ".2f")]
        cells += [Cell(names.number(mean, metric), mean) for mean in across.means[at][:MOST_DATA_SETS]]
        for value, low, high in across.middle[at : at + 1]:
            cells += [Cell(names.number(value, metric), value), Cell(names.interval(low, high, metric), low)]
        rows.append(cells)
    headers = ["configuration", "mean rank", *across.short_names[:MOST_DATA_SETS]]
    headers += ["interquartile mean", "95% interval"] if across.middle else []
    return Table(f"{names.label(metric).capitalize()}: mean over seeds on each data set.", headers, rows)


def signed_rank_table(across: AcrossDataSets) -> Table:
    """Wilcoxon's test of each pair of settings."""
    rows = [
        [_words(pair.setting), _words(pair.other), Cell(f"{pair.better_on} to {pair.worse_on}", pair.better_on),
         _p(pair.p), _p(pair.p_holm), _words(pair.verdict)]
        for pair in across.pairs
    ]  # fmt: skip
    caption = f"Wilcoxon's signed-rank test over {len(across.data_sets)} data sets."
    return Table(caption, ["configuration", "against", "better to worse on", "p", "p, Holm", "verdict"], rows)


def decided_table(sweep: DecidedSweep) -> Table:
    """Every pair that a sweep with ``sweep.until=decided`` was asked for, but for those of what was dropped."""
    metric = sweep.metric
    rows = [
        [_words(one), _words(other), *_difference(it.difference, it.low, it.high, metric), _number(it.n, "d"),
         _words(it.decision)]
        for one, other, it in sweep.pairs
    ]  # fmt: skip
    points = ", points" if names.is_share(metric) else ""
    headers = ["configuration", "against", f"difference{points}", "interval", "seeds", "decision"]
    return Table(sweep.caption, headers, rows)


def pair_table(pairs: Pairs) -> Table:
    """Row minus column, marked where the two differ."""
    every = range(len(pairs.configurations))

    def cell(row: int, column: int) -> Cell:
        if row == column:
            return Cell("", None)
        value = pairs.value(row, column)
        return Cell(names.number(value, pairs.metric, sign=True) + pairs.sign(row, column), value)

    rows = [[_number(row + 1, "d"), _words(pairs.configurations[row].short), *(cell(row, c) for c in every)]
            for row in every]  # fmt: skip
    return Table(sentences("pairs_caption", pairs)[0], ["#", "configuration", *(str(c + 1) for c in every)], rows)


def target_table(times: TimeToTarget) -> Table:
    """Epochs and seconds that training takes to reach a value."""
    rows = []
    for row in times.rows:
        done = [time.epochs for time in row.times if time.reached]
        longest = [f"> {names.compact(max(of))}" for of in [*zip(*row.times, strict=True)][:2]] or [names.MISSING] * 2
        epochs, seconds = map(names.compact, (row.epochs, row.seconds)) if row.epochs else longest
        span = Cell(f"{min(done)} to {max(done)}" if done else names.MISSING, min(done, default=None))
        reached = Cell(f"{len(done)} of {len(row.times)}", len(done))
        rows.append([_words(row.configuration.short), reached, Cell(epochs, row.epochs), span,
                     Cell(seconds, row.seconds), _p(row.p), _words(row.verdict)])  # fmt: skip
    headers = ["configuration", "reached by", "epochs, median", "range", "seconds, median", "p, Holm", "verdict"]
    return Table(sentences("target_caption", times)[0], headers, rows)


def anova_table(effects: Effects) -> Table:
    """Analysis of variance, type 2."""
    rows = [
        [_words(" × ".join(effects.short[factor] for factor in line.term)), _number(line.sum_of_squares, ".3e"),  # noqa: RUF001
         _number(line.df, "d"), _number(line.f, ".2f"), _p(line.p_raw), _p(line.p), _number(line.partial_eta_squared, ".3f")]
        for line in effects.table.rows
    ]  # fmt: skip
    rest = effects.table.full
    rows.append([_words("residual"), _number(rest.residual, ".3e"), _number(rest.df, "d"), *[Cell("", None)] * 4])
    headers = ["term", "sum of squares", "df", "F", "p", "p, Holm", "partial η²"]
    return Table(f"Analysis of variance of {names.title(effects.metric)}, type 2.", headers, rows)
