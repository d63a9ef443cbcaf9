"""A study's runs beside its report: evaluated, as text for a terminal, and as the page ``templates/reproduction.md``."""

import re
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.metric_names import COSTS, TIMES, compact, is_share, number, plus_minus, unit
from cnnbench.analysis.report.text import text_table
from cnnbench.analysis.runs import Run, collect
from cnnbench.analysis.statistics import Summary, summarise, t_quantile
from cnnbench.analysis.studies.budget import budget, is_short, overrides
from cnnbench.analysis.studies.claims import Judgement, judge, read
from cnnbench.analysis.studies.study import Reported, Row, Runs, Study, load_row, measure
from cnnbench.analysis.studies.verdicts import NO_VERDICT, RELATIVE
from cnnbench.analysis.wording import environment
from cnnbench.config.settings import Settings, find_factors, show
from cnnbench.utils.console import duration
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import write_atomically

PAGE = "reproduction.md"
ENVIRONMENT = ("device", "threads", "python", "torch", "torchvision", "lightning")
OF_A_RUN = {
    "predictions": "the first test images with prediction and confidence; wrong ones are framed",
    "mistakes": "its wrong predictions of the highest confidence",
    "confusion_test": "its confusion matrix on the test set, in counts and by true class",
    "per_class": "its recall by class",
    "kernels": "the kernels of its first convolution",
}


class TableCell(NamedTuple):
    """One number of the table."""

    metric: str  # says how it is written
    reported: Reported | None
    ours: Summary
    gap: float | None  # ours minus the report's
    fit: str  # "match", "differs", NO_VERDICT or ""

    @property
    def reported_text(self) -> str:
        """``60.65``, ``28.00 to 30.00``, or a dash."""
        numbers = self.reported if isinstance(self.reported, tuple) else (self.reported,)
        return " to ".join(number(value, self.metric) for value in numbers)

    def ours_text(self, n: int) -> str:
        """``61.20 ± 0.41``, a count in few characters, or a dash; with its own n where not all ``n`` runs have it."""
        if self.metric in COSTS:
            return compact(self.ours.mean)
        text = plus_minus(self.ours.mean, self.ours.std, self.metric)
        return f"{text} (n = {self.ours.n})" if 0 < self.ours.n < n else text

    @property
    def gap_text(self) -> str:
        """``+0.55 (match)``, in points where it is a share, or a dash; without a verdict the number alone."""
        return number(self.gap, self.metric, sign=True) + (f" ({self.fit})" if self.fit not in ("", NO_VERDICT) else "")


class TableRow(NamedTuple):
    """One row of the table: means of ``n`` completed runs."""

    row: Row
    cells: tuple[TableCell, ...]
    n: int
    lost: Mapping[str, int]  # runs that did not complete, by how they ended

    @property
    def count_text(self) -> str:
        """``3``, or ``2, and 1 diverged``, or ``not run``."""
        lost = "".join(f", and {count} {how}" for how, count in self.lost.items())
        return f"{self.n}{lost}" if self.n or self.lost else "not run"


def build_table(study: Study, rows: Sequence[Row], runs: Runs, short: Collection[str] = ()) -> list[TableRow]:
    """The table of a study; no number is judged of the rows in ``short``, which had less than the report's budget."""
    table = []
    for row in rows:
        completed, cells = [run for run in runs.get(row.name, ()) if run.completed], []
        for column in study.columns:
            ours = summarise(measure(run, column.measure) for run in completed)
            cell = compared(row.reported.get(column.key), ours, column.metric, study.tolerance)
            cells.append(cell._replace(fit=NO_VERDICT) if row.name in short and cell.fit else cell)
        lost = Counter(run.status for run in runs.get(row.name, ()) if not run.completed)
        table.append(TableRow(row, tuple(cells), len(completed), lost))
    return table


def compared(reported: Reported | None, ours: Summary, metric: str, tolerance: float) -> TableCell:
    """A reported number, of one run, beside ours. It is a match where it lies within ``tolerance`` of our mean (of a share;
    a tenth of any other number), or within the interval in which one more run of ours would lie with a probability of 95%
    (mean ± t s sqrt(1 + 1/n); Hahn & Meeker 1991), for which it takes three runs."""
    if reported is None or ours.mean is None or metric in TIMES:  # other machines make other times
        return TableCell(metric, reported, ours, None, "")
    low, high = reported if isinstance(reported, tuple) else (reported, reported)
    gap = ours.mean - min(max(ours.mean, low), high)
    allowed = tolerance if is_share(metric) else RELATIVE * abs(high)
    if ours.std is not None and ours.n > 2:
        allowed = max(allowed, t_quantile(ours.n - 1) * ours.std * (1 + 1 / ours.n) ** 0.5)
    return TableCell(metric, reported, ours, gap, "match" if abs(gap) <= allowed else "differs")


class Part(NamedTuple):
    """One form of a study, evaluated."""

    study: Study
    rows: Sequence[Row]
    runs: Runs
    table: Sequence[TableRow]
    judgements: Sequence[Judgement]
    pictures: Sequence[tuple[Path, str]]  # files and what they show
    refusals: Sequence[str] = ()  # which rows could not be run, and why

    @property
    def other_budget(self) -> str:
        """How the budget differs from the published one, if it does."""
        return budget(self.rows, self.runs)

    @property
    def title(self) -> str:
        """The heading of the table."""
        return f"{self.study.name}, {self.study.form}" + (f" ({self.other_budget})" if self.other_budget else "")

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """The headings of the table with their units, and whether the report has a number there."""
        headings = [f"{c.heading}{unit(c.metric)}" for c in self.study.columns]
        return [(text, any(row.cells[i].reported is not None for row in self.table)) for i, text in enumerate(headings)]

    @property
    def budgets(self) -> dict[str, str]:
        """How the budget of each row differs; empty where that of all rows with runs is the same."""
        differing = {row.name: budget([row], self.runs).partition(": ")[2] for row in self.rows}
        return differing if len({differing[name] for name in differing if name in self.runs}) > 1 else {}


def draw(study: Study, completed: Sequence[str], runs: Runs, folder: Path) -> list[tuple[Path, str]]:
    """Write the pictures of the rows with completed runs into ``folder``; returns the files with what each shows."""
    from cnnbench.analysis.report.figures.curves import over_epochs
    from cnnbench.analysis.report.figures.style import COLOURS

    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[Path, str]] = []
    seen: list[list[str]] = []
    runs = {row: [run for run in of_row if run.status in ("completed", "diverged")] for row, of_row in runs.items()}
    kinds = {column.metric.rpartition("/")[2].removeprefix("batch_") for column in study.columns}
    share = "recall" if "recall" in kinds and "accuracy" not in kinds else "accuracy"
    for what, group in study.curves.items():
        names = [name for name in group if name in completed][: len(COLOURS)]
        if len(names) < min(len(group), 2, len(completed)) or names in seen:  # no comparison of what was run
            continue
        seen.append(names)
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


def load_runs(study: Study, folder: Path, planned: Mapping[str, Settings] | None = None) -> Runs:
    """The runs in ``folder`` by row, in the order of their seeds. Raises RequestError where the folder is not there or has
    no runs, and where those of a row, or the ``planned`` ones with these settings, differ in more than their seed."""
    by_row: dict[str, list[Run]] = {row: [] for row in study.rows}
    for run in sorted(collect([folder]), key=lambda run: run.seed or 0):
        row = run.part("config", "study").get("row") or str(run.settings.get("experiment", "")).partition("/")[2]
        by_row.get(row, []).append(run)
    for row, of_row in by_row.items():
        settings = [run.settings for run in of_row]
        settings += [own for name, own in (planned or {}).items() if name == row and of_row]
        for key in find_factors(settings, (), ()):
            values = " and ".join(dict.fromkeys(show(own[key]) for own in settings if key in own))
            raise RequestError(
                f"{folder}: runs of row {row} with {key} {values} would be pooled; use a --folder for each"
            )
    return {row: of_row for row, of_row in by_row.items() if of_row}


def evaluate(study: Study, names: Sequence[str], folder: Path, refused: Mapping[str, str]) -> Part:
    """Compare the runs in ``folder`` with the report, and draw pictures there; ``refused`` says which rows cannot be run.
    Raises RequestError as ``load_runs`` does."""
    runs = load_runs(study, folder)
    rows = [load_row(study.name, name, study.form) for name in names]
    short = [row for row in runs if is_short(load_row(study.name, row, study.form), runs[row])]
    table = build_table(study, rows, runs, short)
    known = {*names, *runs}  # claims of other rows are left out
    claims = [claim for claim in study.claims if known.issuperset(read(claim, study)[2])]
    judgements = [judge(claim, study, runs, short) for claim in claims]
    pictures = draw(study, [row.row.name for row in table if row.n], runs, folder / "pictures")
    refusals = [f"`{row}` ({' '.join(reason.split()).rstrip('.')})" for row, reason in refused.items()]
    return Part(study, rows, runs, table, judgements, pictures, refusals)


def terminal_text(part: Part) -> str:
    """The table and the verdicts as text."""
    heads = ["row", *(head for name, known in part.columns for head in (name, "ours" if known else name, "")), "n"]
    body = []
    for row in part.table:
        texts = [text for cell in row.cells for text in (cell.reported_text, cell.ours_text(row.n), cell.gap_text)]
        body.append([row.row.name, *texts, row.count_text])
    keep = [i for i in range(len(heads)) if any(row[i].strip("–") for row in body)]  # noqa: RUF001
    table = text_table([heads[i] for i in keep], [[row[i] for i in keep] for row in body])
    verdicts = [f"{j.verdict:<{len(NO_VERDICT)}} {j.claim.says}  {j.evidence}" for j in part.judgements]
    refused = [f"not run here: {text}" for text in part.refusals]
    return "\n".join([part.title, "", table, "", *refused, *verdicts])


def render(parts: Sequence[Part], command: str, folder: Path, note: str | None = None) -> str:
    """The page; pictures are linked relative to ``folder``, and ``note`` stands under the title."""
    runs = [run for part in parts for of_row in part.runs.values() for run in of_row]
    environments = [run.part("environment") for run in runs]
    used = {
        name: dict.fromkeys(str(of[name]) for of in environments if of.get(name) is not None) for name in ENVIRONMENT
    }
    text = environment().get_template("reproduction.md").render(
        study=parts[0].study, parts=parts, command=command, folder=folder, note=note, overrides=overrides, runs=runs,
        environment={name: " or ".join(values) for name, values in used.items() if values},
        training=duration(sum(run.cost("fit_seconds") or 0.0 for run in runs)), NO_VERDICT=NO_VERDICT, tenth=f"{RELATIVE:.0%}",
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def write(parts: Sequence[Part], command: str, folder: Path, out: Path | None, note: str | None = None) -> list[Path]:
    """Write the page beside the runs and, with ``out``, which is a page (``.md``) or the folder of one with the study's
    name, there too with copies of its pictures; returns the pages."""
    pages = {folder / PAGE: render(parts, command, folder, note)}
    if out is not None:
        out, name = (out.parent, out.stem) if out.suffix == ".md" else (out, parts[0].study.name)
        moved = []
        for part in parts:
            copies = [(out / name / f"{part.study.form}_{path.name}", text) for path, text in part.pictures]
            for (source, _), (target, _) in zip(part.pictures, copies, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            moved.append(part._replace(pictures=copies))
        pages[out / f"{name}.md"] = render(moved, command, out, note)
    for path, text in pages.items():
        write_atomically(path, text)
    return list(pages)
