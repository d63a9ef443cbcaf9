"""Pictures of a study: curves over the epochs, and what one run drew of itself."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.metric_names import is_share, scale, title
from cnnbench.analysis.report.figures.curves import band, curve
from cnnbench.analysis.report.figures.style import COLOURS, whole_epochs
from cnnbench.analysis.studies.study import Runs, Study

LOG_RATIO = 5  # losses so far apart are drawn on a logarithmic axis
OF_A_RUN = {
    "predictions": "the first test images with prediction and confidence; wrong ones are framed",
    "mistakes": "its wrong predictions of the highest confidence",
    "confusion_test": "its confusion matrix on the test set, in counts and by true class",
    "per_class": "its recall by class",
    "kernels": "the kernels of its first convolution",
}


def draw(study: Study, completed: Sequence[str], runs: Runs, folder: Path) -> list[tuple[Path, str]]:
    """Write the pictures of the rows with completed runs into ``folder``; returns the files with what each shows."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[Path, str]] = []
    runs = {row: [run for run in of_row if run.status in ("completed", "diverged")] for row, of_row in runs.items()}
    kinds = {column.metric.rpartition("/")[2].removeprefix("batch_") for column in study.columns}
    share = "recall" if "recall" in kinds and "accuracy" not in kinds else "accuracy"
    for what, group in study.curves.items():
        names = [name for name in group if name in completed][: len(COLOURS)]
        if len(names) < min(len(group), 2):  # no comparison of what was run
            continue
        rows = {name: Configuration({}, tuple(runs[name]), ()) for name in names}
        for leaf in (share, "loss"):
            if (figure := over_epochs(rows, [f"train/{leaf}", f"val/{leaf}"])) is not None:
                path = folder / f"curves_{what.replace(' ', '_')}_{leaf}.png"
                figure.savefig(path, dpi=110)
                drawn.append((path, f"{what}: {leaf} over the epochs, mean ± standard deviation over seeds"))

    # what the first run of the row with the highest test accuracy drew of itself
    best = max(completed, key=lambda name: mean([run.final("test/accuracy") or 0.0 for run in runs[name]]), default="")
    run = next((run for run in runs.get(best, ()) if run.completed), None)
    for picture, text in OF_A_RUN.items() if run else ():
        if run and (source := run.path / "figures" / f"{picture}.png").is_file():
            shutil.copyfile(source, folder / f"{picture}.png")
            drawn.append((folder / f"{picture}.png", f"Row {best}, seed {run.seed}: {text}"))
    return drawn


def over_epochs(rows: Mapping[str, Configuration], metrics: Sequence[str]) -> Figure | None:
    """A panel a metric, a line a row: mean over seeds with a band of one standard deviation."""
    if not any(curve(row, metric) for row in rows.values() for metric in metrics):
        return None
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    panels = figure.subplots(1, len(metrics))
    for metric, axes in zip(metrics, panels, strict=True):
        lines = {name: line for name, row in rows.items() if (line := curve(row, metric)) is not None}
        for colour, (name, line) in zip(COLOURS, lines.items(), strict=False):
            centre = [scale(metric) * value for value in line.centre]
            axes.fill_between(line.epochs, *band(line, metric), color=colour, alpha=0.18, linewidth=0)
            axes.plot(line.epochs, centre, color=colour, linewidth=1.5, label=name, marker="." * (len(centre) < 4))
        axes.set(title=title(metric), xlabel="epoch", ylabel="%" if is_share(metric) else "")
        values = [value for line in lines.values() for value in line.centre]
        if not is_share(metric) and values and 0 < LOG_RATIO * min(values) < max(values):
            axes.set_yscale("log")  # so that the band of a small loss is seen beside a large one
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        whole_epochs(axes)
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    # one legend for both, where no curve can cross it
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    return figure
