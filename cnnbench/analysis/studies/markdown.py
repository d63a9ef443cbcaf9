"""The reproduction of a study as Markdown, from ``templates/reproduction.md``, and as text for a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.analysis.metric_names import difference, is_share, plural, unit
from cnnbench.analysis.metric_names import title as title_of
from cnnbench.analysis.report.text import text_table
from cnnbench.analysis.runs import Run
from cnnbench.analysis.studies.budget import budget, overrides
from cnnbench.analysis.studies.claims import Judgement
from cnnbench.analysis.studies.study import Row, Study
from cnnbench.analysis.studies.tables import TableRow, count_text, gap_text, ours_text, reported_text
from cnnbench.analysis.studies.verdicts import NO_VERDICT, RELATIVE

WIDE = 4  # reported columns from which on a table has one cell for all that it says of a number
FORM_TEXT = {
    "published": "As published, with the report's own protocol and its quirks.",
    "corrected": "Corrected: the quirks off, the epoch chosen on a validation split, the test set used once.",
}


@dataclass(frozen=True)
class Part:
    """One form of a study, evaluated."""

    form: str
    rows: Sequence[Row]
    runs: Mapping[str, Sequence[Run]]
    table: Sequence[TableRow]
    judgements: Sequence[Judgement]
    pictures: Sequence[tuple[Path, str]]  # files and what they show


def title(study: Study, part: Part) -> str:
    """The heading of a table; a budget other than the published one is in it."""
    other = budget(part.rows, part.runs)
    return f"{study.name}, {part.form}" + (f" ({other})" if other else "")


def render(study: Study, parts: Sequence[Part], command: str, folder: Path, note: str | None = None) -> str:
    """The page; pictures are linked relative to ``folder``, and ``note`` stands under the title."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    environment.globals.update(refusal=refusal, FORM_TEXT=FORM_TEXT)
    text = environment.get_template("reproduction.md").render(
        study=study, parts=[_view(study, part) for part in parts], command=command, folder=folder, note=note,
        learned=title_of(study.learned.measure), environment=_environment(parts),
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _view(study: Study, part: Part) -> dict[str, Any]:
    """What the template shows of a part, beside the part itself."""
    shares = any(is_share(cell.metric) for row in part.table for cell in row.cells)
    fits = {cell.fit for row in part.table for cell in row.cells} | {j.verdict for j in part.judgements}
    others = len(study.claims) - len(part.judgements)
    points = difference(study.tolerance, "recall").lstrip("+")
    return {
        **vars(part),
        "title": title(study, part),
        "overrides": ", ".join(f"`{text}`" for text in overrides(part.runs)),
        "markdown_table": _markdown_table(study, part),
        "within": f"{points} ({RELATIVE:.0%} of what is not a share)" if shares else f"{RELATIVE:.0%}",
        "has_no_verdict": NO_VERDICT in fits,
        "left_out": plural(others, "claim") if others else "",
        "budget": budget(part.rows, part.runs),
    }


def refusal(row: TableRow) -> str:
    """Which row could not be run, and why, in a line."""
    return f"`{row.row.name}` ({' '.join(row.refused.split()).rstrip('.')})"


def _markdown_table(study: Study, part: Part) -> str:
    reported = [any(row.cells[i].reported is not None for row in part.table) for i in range(len(study.columns))]
    wide = sum(reported) > WIDE
    budgets = {row.name: budget([row], part.runs).partition(": ")[2] for row in part.rows}
    mixed = len({budgets[name] for name in budgets if name in part.runs}) > 1
    heads = ["row", "change"]
    for i, column in enumerate(study.columns):
        name = f"{column.heading}{unit(part.table[0].cells[i].metric) if part.table else ''}"
        if not reported[i]:
            heads += [f"{name}: ours"]
        else:
            heads += [f"{name}: reported / ours (difference)"] if wide else [f"{name}: reported", "ours", "difference"]
    heads += ["budget", "n"] if mixed else ["n"]
    lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)]]
    for row in part.table:
        cells = [f"`{row.row.name}`", _cell(row.row.change)]
        for given, cell in zip(reported, row.cells, strict=True):
            ours = ours_text(cell, row.n)
            if not given:
                cells += [ours]
            elif wide:
                verdict = NO_VERDICT if cell.fit == NO_VERDICT else gap_text(cell).partition(" (")[0]
                cells += [f"{reported_text(cell)} / {ours}" + (f" ({verdict})" if cell.fit else "")]
            else:
                cells += [reported_text(cell), ours, gap_text(cell)]
        cells += [(budgets[row.row.name] or "the report's") if row.n or row.lost else ""] if mixed else []
        lines.append([*cells, count_text(row)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines).replace("| --- | --- |", "|---|---|", 1)


def terminal_text(study: Study, part: Part) -> str:
    """The table and the verdicts as text."""
    heads = ["row", *(name for column in study.columns for name in (column.heading, "ours", "")), "n"]
    body = [
        [
            row.row.name,
            *(text for cell in row.cells for text in (reported_text(cell), ours_text(cell, row.n), gap_text(cell))),
            count_text(row),
        ]
        for row in part.table
    ]
    keep = [i for i in range(len(heads)) if any(row[i].strip("–") for row in body)]  # noqa: RUF001
    table = text_table([heads[i] for i in keep], [[row[i] for i in keep] for row in body])
    verdicts = [f"{j.verdict:<{len(NO_VERDICT)}} {j.claim.says}  {j.evidence}" for j in part.judgements]
    refused = [f"not run here: {refusal(row)}" for row in part.table if row.refused]
    return "\n".join([title(study, part), "", table, "", *refused, *verdicts])


def _environment(parts: Sequence[Part]) -> str:
    runs = [run for part in parts for of_row in part.runs.values() for run in of_row]
    known = [run.part("environment") for run in runs if run.part("environment")]
    if not known:
        return "No run has finished."
    seconds = sum(run.cost("fit_seconds") or 0.0 for run in runs)
    names = ("device", "threads", "python", "torch", "torchvision", "lightning")
    versions = ", ".join(f"{name} {known[0][name]}" for name in names if known[0].get(name) is not None)
    return f"{plural(len(runs), 'run')}, {seconds / 3600:.1f} hours of training in all; {versions}."


def _cell(text: str) -> str:
    """Text within a Markdown table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
