"""Pictures of a study: reported against ours for every row, curves over the epochs, and what one run drew of itself."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.metric_names import is_share, scale, title, unit
from cnnbench.analysis.report.figures.curves import Curve, band, curve
from cnnbench.analysis.report.figures.style import BLUE, COLOURS, ORANGE, whole_epochs
from cnnbench.analysis.runs import Run
from cnnbench.analysis.studies.measure import metric_of
from cnnbench.analysis.studies.study import Study
from cnnbench.analysis.studies.tables import TIMES, WIDE, Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY_TIMES = 5  # the smallest: losses so far apart are drawn on a logarithmic axis
OF_A_RUN = {
    "predictions": "the first test images with prediction and confidence; wrong ones are framed",
    "mistakes": "the wrong predictions that it is surest of",
    "confusion_test": "its confusion matrix on the test set, in counts and by true class",
    "per_class": "its recall by class",
    "kernels": "the kernels of its first convolution",
}


def draw(
    study: Study, table: Sequence[Line], runs: Mapping[str, Sequence[Run]], form: str, folder: Path
) -> list[tuple[Path, str]]:
    """Write the pictures into ``folder``; returns the files with a line each on what they show."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[Path, str]] = []
    # where a table has a column a class, its first is the one over all
    with_reports = [
        p
        for p, column in enumerate(study.columns)
        if column.measures[form] not in TIMES and any(line.cells[p].reported is not None for line in table)
    ]
    for place in with_reports if len(with_reports) <= WIDE else with_reports[:1]:
        column = study.columns[place]
        figure = against_report(table, place, column.heading)
        if figure is not None and sum(line.cells[place].reported is not None for line in table) > 1:
            told = f"{column.heading}: the report's number (orange) and ours (blue, mean ± standard deviation)"
            drawn.append((_save(figure, folder / f"reported_{column.key}.png"), told))
    counted = [line.row.name for line in table if line.n]
    groups = {
        compared: [name for name in names if name in counted][: len(COLOURS)]
        for compared, names in study.curves.items()
    }
    most = max(map(len, groups.values()), default=0)
    for compared, names in groups.items():
        rows = {name: Configuration({}, tuple(runs[name]), ()) for name in names}
        for name, metrics in _curves(study, form).items():
            if len(rows) >= min(most, 2) and (figure := over_epochs(rows, metrics)) is not None:
                told = f"{compared}: {name} over the epochs, mean ± standard deviation over seeds"
                drawn.append((_save(figure, folder / f"curves_{compared.replace(' ', '_')}_{name}.png"), told))
    return drawn + _of_one_run(study, table, runs, folder)


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=110)
    return path


def against_report(table: Sequence[Line], place: int, heading: str) -> Figure | None:
    """A row a line: the reported number, or their range, and ours with its standard deviation."""
    from matplotlib.figure import Figure

    lines = [
        line for line in table if line.cells[place].ours.mean is not None or line.cells[place].reported is not None
    ]
    if not lines:
        return None
    metric = lines[0].cells[place].metric
    by = scale(metric)
    figure = Figure(figsize=(6.6, 0.34 * len(lines) + 1.2), layout="constrained")
    axes = figure.subplots()
    for y, line in enumerate(lines):
        cell = line.cells[place]
        if cell.reported is not None:
            numbers = cell.reported if isinstance(cell.reported, tuple) else (cell.reported,)
            axes.plot([by * n for n in numbers], [y] * len(numbers), "D-", color=ORANGE, markersize=6, label="reported")
        if cell.ours.mean is not None:
            axes.errorbar(
                by * cell.ours.mean, y, xerr=by * (cell.ours.std or 0.0), fmt="o", color=BLUE, capsize=3, label="ours"
            )
    axes.set_yticks(range(len(lines)), [line.row.name for line in lines], size=9)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel(f"{heading}{',' if unit(metric) else ''}{unit(metric)}")
    axes.grid(axis="x", alpha=0.25)
    _plain(axes)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(
        handles.values(), handles.keys(), fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False
    )
    return figure


def _curves(study: Study, form: str) -> dict[str, list[str]]:
    """The figures of curves by name, each with its metrics: a panel each."""
    kinds = {metric_of(column.measures[form]).rpartition("/")[2].removeprefix("batch_") for column in study.columns}
    leaf = "recall" if "recall" in kinds and "accuracy" not in kinds else "accuracy"
    return {leaf: [f"train/{leaf}", f"val/{leaf}"], "loss": ["train/loss", "val/loss"]}


def over_epochs(rows: Mapping[str, Configuration], metrics: Sequence[str]) -> Figure | None:
    """A panel a metric, a line a row: mean over seeds with a band of one standard deviation."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    found = {name: [curve(row, metric) for metric in metrics] for name, row in rows.items()}
    if not any(line for lines in found.values() for line in lines):
        return None
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    for place, (metric, axes) in enumerate(zip(metrics, figure.subplots(1, len(metrics)), strict=True)):
        for colour, (name, lines) in zip(COLOURS, found.items(), strict=False):
            if (line := lines[place]) is not None:
                _band(axes, line, metric, colour, name)
        axes.set(title=title(metric), xlabel="epoch", ylabel="%" if is_share(metric) else "")
        values = [value for lines in found.values() if (line := lines[place]) is not None for value in line.centre]
        if not is_share(metric) and values and 0 < MANY_TIMES * min(values) < max(values):
            axes.set_yscale("log")  # so that the band of a small loss is seen beside a large one
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        whole_epochs(axes)
        axes.grid(alpha=0.2)
        _plain(axes)
        if place == 0:  # one for both, where no curve can cross it
            figure.legend(
                *axes.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8, frameon=False
            )
    return figure


def _band(axes: Axes, line: Curve, metric: str, colour: str, name: str) -> None:
    by = scale(metric)
    axes.fill_between(line.epochs, *band(line, metric), color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        line.epochs,
        [by * c for c in line.centre],
        color=colour,
        linewidth=1.5,
        label=name,
        marker="." if len(line.epochs) < 4 else "",
    )


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _of_one_run(
    study: Study, table: Sequence[Line], runs: Mapping[str, Sequence[Run]], folder: Path
) -> list[tuple[Path, str]]:
    """What the first run of the best row drew of itself."""
    scores = {
        line.row.name: mean([run.final("test/accuracy") or 0.0 for run in runs[line.row.name]])
        for line in table
        if line.n
    }
    if not scores:
        return []
    name = max(scores, key=lambda row: scores[row])
    run = next((run for run in runs[name] if run.completed), None)
    drawn = []
    for picture, told in OF_A_RUN.items():
        source = run.path / "figures" / f"{picture}.png" if run else None
        if source is not None and source.is_file():
            shutil.copyfile(source, folder / f"{picture}.png")
            drawn.append((folder / f"{picture}.png", f"Row {name}, seed {run.seed if run else 0}: {told}"))
    return drawn
