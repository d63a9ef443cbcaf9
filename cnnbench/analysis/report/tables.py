"""The tables of a report: texts, and the number behind each. The other formats only lay them out.

The leaderboard's columns are defined once for every format: CSV and JSON, Markdown, LaTeX, HTML and the terminal, whose
aligned text is made here too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnbench.analysis import metric_names as names
from cnnbench.analysis.decided import DecidedSweep
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard, LeaderboardRow
from cnnbench.analysis.statistics import Summary
from cnnbench.analysis.wording import sentences
from cnnbench.config.settings import short_names, show

if TYPE_CHECKING:
    from cnnbench.analysis.analyse import Analysis, Comparison
    from cnnbench.analysis.data_sets import AcrossDataSets
    from cnnbench.analysis.effects import Effects
    from cnnbench.analysis.pairs import Pairs
    from cnnbench.analysis.time_to_target import TimeToTarget

# Layout 0 is that of Markdown, LaTeX and HTML. A terminal takes the first of the others that fits: 2 leaves out the
# test set's other metrics, 3 the costs too, 4 the interval too, and 5 has the configuration's name in place of its factors.
TERMINAL = range(1, 6)
MOST_ROWS = 40  # in a terminal
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
        "place": row.rank,
        "configuration": row.configuration.label,
        **{factor: _setting(row, factor) for factor in board.grid.factors},
        "n": row.n,
        "not completed": len(row.configuration.incomplete),
        **({"tries": row.configuration.tries} if board.grid.chosen_over else {}),
    }
    for metric in dict.fromkeys((*board.metrics, *sorted(board.known.difference(names.COSTS)))):
        summaries = {f"{metric} best": row.best(metric), f"{metric} final": row.final(metric)}
        if metric.startswith("test/"):
            summaries = {metric: row.final(metric)}
        for key, summary in summaries.items() if metric not in names.COSTS else ():
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
            final = row.final(metric)
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


def report_tables(analysis: Analysis) -> dict[str, Table]:
    """The leaderboard, and the comparisons, the times to a target and the analysis of variance where there are any."""
    tables = {"leaderboard": leaderboard_table(analysis.board)}
    if analysis.comparisons:
        tables["comparison"] = comparison_table(analysis.comparisons, analysis.reference_name, analysis.metric)
    if across := analysis.across:
        tables["across"] = across_table(across, analysis.metric)
        if across.pairs:
            tables["signed_ranks"] = signed_rank_table(across)
    for number, sweep in enumerate(analysis.decided, start=1):
        tables[f"decided{number}"] = decided_table(sweep)
    tables |= {"pairs": pair_table(analysis.pairs)} if analysis.pairs else {}
    tables |= {"target": target_table(analysis.target)} if analysis.target else {}
    if analysis.effects:
        tables["anova"] = anova_table(analysis.effects)
    return tables


def comparison_table(comparisons: Sequence[Comparison], reference: str, metric: str) -> Table:
    """Every other configuration against the reference."""
    rows = []
    with_images = any(c.images for c in comparisons)
    for c in comparisons:
        d = c.difference
        images = [c.images.p_images if c.images else None, c.p_both] if with_images else []
        rows.append([
            _words(c.configuration.short), Cell(names.number(d.value, metric, sign=True), d.value),
            Cell(names.interval(d.low, d.high, metric, sign=True), d.low), _number(d.effect, "+.2f"),
            Cell(names.p_value(d.p), d.p), Cell(names.p_value(c.p), c.p), _words(c.verdict),
            *(Cell(names.p_value(p), p) for p in images),
            _words(METHODS[d.method].format(d.n)), Cell(c.describe_seeds_needed(metric), c.seeds_needed),
        ])  # fmt: skip
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
         Cell(names.p_value(pair.p), pair.p), Cell(names.p_value(pair.p_holm), pair.p_holm), _words(pair.verdict)]
        for pair in across.pairs
    ]  # fmt: skip
    caption = f"Wilcoxon's signed-rank test over {len(across.data_sets)} data sets."
    return Table(caption, ["configuration", "against", "better to worse on", "p", "p, Holm", "verdict"], rows)


def decided_table(sweep: DecidedSweep) -> Table:
    """Every pair that a sweep with ``sweep.until=decided`` was asked for, but for those of what was dropped."""
    metric = sweep.rule["metric"]
    rows = [
        [_words(one), _words(other), Cell(names.number(it.difference, metric, sign=True), it.difference),
         Cell(names.interval(it.low, it.high, metric, sign=True), it.low), Cell(str(it.n), it.n), _words(it.decision)]
        for one, other, it in sweep.pairs
    ]  # fmt: skip
    points = ", points" if names.is_share(metric) else ""
    headers = ["configuration", "against", f"difference{points}", "interval", "seeds", "decision"]
    return Table(sweep.caption, headers, rows)


def pair_table(pairs: Pairs) -> Table:
    """Row minus column, marked where the two differ."""
    every = range(len(pairs.configurations))

    def cell(row: int, column: int) -> Cell:
        value = pairs.value(row, column) if row != column else None
        return Cell(
            names.number(value, pairs.metric, sign=True) + pairs.sign(row, column) if row != column else "", value
        )

    rows = [[Cell(str(row + 1), row + 1), _words(pairs.configurations[row].short), *(cell(row, c) for c in every)]
            for row in every]  # fmt: skip
    return Table(sentences("pairs_caption", pairs)[0], ["#", "configuration", *(str(c + 1) for c in every)], rows)


def target_table(times: TimeToTarget) -> Table:
    """Epochs and seconds that training takes to reach a value."""
    rows = []
    for row in times.rows:
        done = [time.epochs for time in row.times if time.reached]
        epochs, seconds = (max((t[at] for t in row.times), default=None) for at in (0, 1))
        rows.append([
            _words(row.configuration.short), Cell(f"{len(done)} of {len(row.times)}", len(done)),
            Cell(names.compact(row.epochs) if row.epochs else f"> {epochs}", row.epochs),
            Cell(f"{min(done)} to {max(done)}" if done else names.MISSING, min(done, default=None)),
            Cell(names.compact(row.seconds) if row.epochs else f"> {names.compact(seconds)}", row.seconds),
            Cell(names.p_value(row.p_raw), row.p_raw), Cell(names.p_value(row.p), row.p), _words(row.verdict),
        ])  # fmt: skip
    headers = ["configuration", "reached by", "epochs, median", "range", "seconds, median", "p", "p, Holm", "verdict"]
    return Table(sentences("target_caption", times)[0], headers, rows)


def anova_table(effects: Effects) -> Table:
    """Analysis of variance, type 2."""
    rows = [
        [_words(" × ".join(effects.short[factor] for factor in line.term)), _number(line.sum_of_squares, ".3e"),  # noqa: RUF001
         _number(line.df, "d"), _number(line.f, ".2f"), Cell(names.p_value(line.p_raw), line.p_raw), Cell(names.p_value(line.p), line.p),
         _number(line.partial_eta_squared, ".3f")]
        for line in effects.table.rows
    ]  # fmt: skip
    rest = effects.table.full
    rows.append([_words("residual"), _number(rest.residual, ".3e"), _number(rest.df, "d"), *[Cell("", None)] * 4])
    headers = ["term", "sum of squares", "df", "F", "p", "p, Holm", "partial η²"]
    return Table(f"Analysis of variance of {names.title(effects.metric)}, type 2.", headers, rows)


def text_table(headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool] = ()) -> str:
    """A table of aligned columns, the ``numeric`` ones to the right, with a rule below the headers."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    right = numeric or [False] * len(widths)
    lines = [
        "  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in zip(texts, widths, right, strict=True)).rstrip()
        for texts in (headers, *rows)
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def decided_text(sweep: DecidedSweep, width: int = 100) -> str:
    """The pairs, for a terminal."""
    table = decided_table(sweep)
    rows = [[cell.text for cell in row] for row in table.rows]
    return f"{textwrap.fill(table.caption, width)}\n{text_table(table.headers, rows, table.numeric)}\n"


def leaderboard_text(board: Leaderboard, width: int = 100) -> str:
    """A table of at most ``width`` columns, best first, then what did not complete, and why."""

    def wrapped(text: str, indent: str = "") -> str:
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent="      ", break_on_hyphens=False)

    parts = [wrapped(board.caption)]
    if board.rows:
        parts.append(_fitting_table(board, width))
    if len(board.rows) > MOST_ROWS:
        parts.append(f"... and {names.plural(len(board.rows) - MOST_ROWS, 'more configuration')} in the files")
    parts += [wrapped(f"note: {note}") for note in board.notes]
    if lines := board.trouble:
        shown = [textwrap.shorten(line, 3 * width, placeholder=" ...") for line in lines[:MOST_ROWS]]
        parts += ["not completed:", *(wrapped(line, "  ") for line in shown)]
        if len(lines) > MOST_ROWS:
            parts.append(f"  ... and {len(lines) - MOST_ROWS} more")
    return "\n".join(parts) + "\n"


def _fitting_table(board: Leaderboard, width: int) -> str:
    """The fullest layout that fits; in the last one the configuration's name gives way."""
    for layout in TERMINAL:
        table = leaderboard_table(board, layout, MOST_ROWS)
        headers = [
            header.replace("validation", "val").replace("accuracy", "acc.").replace(", %", " %")
            for header in table.headers
        ]
        rows = [[cell.text for cell in row] for row in table.rows]
        text = text_table(headers, rows, table.numeric)
        excess = max(map(len, text.splitlines())) - width
        if excess <= 0:
            return text
    most = max(12, max(len(row[1]) for row in rows) - excess)
    for row in rows:
        row[1] = row[1] if len(row[1]) <= most else "..." + row[1][3 - most :]
    return text_table(headers, rows, table.numeric)
