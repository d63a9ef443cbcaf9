"""The reproduction of a study as Markdown: tables, claims, what the forms mean, pictures, and the command."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench.analysis.metric_names import difference, is_share, plural, unit
from cnnbench.analysis.metric_names import title as title_of
from cnnbench.analysis.runs import Run
from cnnbench.analysis.studies.budget import budget, overrides
from cnnbench.analysis.studies.claims import Judgement
from cnnbench.analysis.studies.study import Row, Study
from cnnbench.analysis.studies.tables import RELATIVE, WIDE, Line, count_text, gap_text, ours_text, reported_text
from cnnbench.analysis.studies.verdicts import NO_VERDICT

FORM_TEXT = {
    "published": "as published, with the report's own protocol and its quirks",
    "corrected": "corrected: the quirks off, the epoch chosen on a validation split, the test set used once",
}


@dataclass(frozen=True)
class Part:
    """One form of a study, evaluated."""

    form: str
    rows: Sequence[Row]
    runs: Mapping[str, Sequence[Run]]
    table: Sequence[Line]
    judgements: Sequence[Judgement]
    pictures: Sequence[tuple[Path, str]]  # files and what they show


def title(study: Study, part: Part) -> str:
    """What stands over a table; a budget other than the published one is in it."""
    other = budget(part.rows, part.runs)
    return f"{study.name}, {part.form}" + (f" ({other})" if other else "")


def render(study: Study, parts: Sequence[Part], command: str, folder: Path, note: str | None = None) -> str:
    """The page; pictures are linked relative to ``folder``, and ``note`` stands under the title."""
    lines = [
        f"# {study.title}",
        "",
        f"Study `{study.name}`. Report: {study.report}.",
        "",
        *([note, ""] if note else []),
    ]
    for part in parts:
        lines += _part(study, part, folder)
    if study.notes:
        lines += ["## Notes", ""]
        for name, text in study.notes.items():
            lines += [f"- **{name[0].upper()}{name[1:]}.** {' '.join(text.split())}"]
        lines += [""]
    lines += ["## How this was made", "", "```sh", command, "```", "", _environment(parts)]
    return "\n".join(lines).rstrip() + "\n"


def _part(study: Study, part: Part, folder: Path) -> list[str]:
    lines = [f"## {title(study, part)}", "", f"{FORM_TEXT[part.form].capitalize()}.", ""]
    if other := overrides(part.runs):
        lines += [f"Run with {', '.join(f'`{text}`' for text in other)}.", ""]
    lines += [*_markdown_table(study, part), "", _legend(study, part), ""]
    if any(cell.fit == NO_VERDICT for line in part.table for cell in line.cells) or any(
        j.verdict == NO_VERDICT for j in part.judgements
    ):
        lines += [_rule(study), ""]
    lines += [text for line in part.table if line.refused for text in (f"Not run here: {refusal(line)}.", "")]
    if part.judgements:
        lines += ["### Claims", "", "| the report says | verdict | evidence |", "|---|---|---|"]
        lines += [
            f"| {_cell(j.claim.says)} | **{j.verdict}** | `{j.claim.holds}`: {_cell(j.evidence)} |"
            for j in part.judgements
        ]
        if others := len(study.claims) - len(part.judgements):
            lines += [
                "",
                f"{plural(others, 'claim')} of rows that were not asked for {'is' if others == 1 else 'are'} left out.",
            ]
        if told := budget(part.rows, part.runs):
            lines += ["", f"These verdicts are of {told}. They say little about the report's budget."]
        lines += [
            "",
            "Intervals are of one comparison each, paired by seed; they are not corrected for the number of claims.",
            "",
        ]
    for path, told in part.pictures:
        lines += [f"![{told}]({path.relative_to(folder).as_posix()})", "", f"*{told}*", ""]
    return lines


def refusal(line: Line) -> str:
    """Which row could not be run, and why, in a line."""
    return f"`{line.row.name}` ({' '.join(line.refused.split()).rstrip('.')})"


def _markdown_table(study: Study, part: Part) -> list[str]:
    heads, rule = ["row", "change"], ["---", "---"]
    reported = [any(line.cells[p].reported is not None for line in part.table) for p in range(len(study.columns))]
    wide = sum(reported) > WIDE
    for place, column in enumerate(study.columns):
        metric = part.table[0].cells[place].metric if part.table else ""
        name = f"{column.heading}{unit(metric)}"
        given = reported[place]
        if given and wide:
            heads += [f"{name}: reported / ours (difference)"]
        else:
            heads += [f"{name}: reported", "ours", "difference"] if given else [f"{name}: ours"]
        rule += ["---:"] * (3 if given and not wide else 1)
    budgets = {row.name: budget([row], part.runs).partition(": ")[2] for row in part.rows}
    mixed = (
        len({budgets[name] for name in budgets if name in part.runs}) > 1
    )  # a row's change may say what it did not have
    ends, sides = (["budget", "n"], ["---", "---:"]) if mixed else (["n"], ["---:"])
    table = [f"| {' | '.join([*heads, *ends])} |", f"|{'|'.join([*rule, *sides])}|"]
    for line in part.table:
        cells = [f"`{line.row.name}`", _cell(line.row.change)]
        for place in range(len(study.columns)):
            cell = line.cells[place]
            if not reported[place]:
                cells += [ours_text(cell, line.n)]
            elif wide:
                cells += [
                    f"{reported_text(cell)} / {ours_text(cell, line.n)}"
                    + (f" ({NO_VERDICT if cell.fit == NO_VERDICT else gap_text(cell)})" if cell.fit else "")
                ]
            else:
                cells += [reported_text(cell), ours_text(cell, line.n), f"{gap_text(cell)} {MARKS[cell.fit]}".strip()]
        if mixed:
            cells += [(budgets[line.row.name] or "the report's") if line.n or line.lost else ""]
        cells += [count_text(line)]
        table.append(f"| {' | '.join(cells)} |")
    return table


MARKS = {"match": "(match)", "differs": "(differs)", NO_VERDICT: f"({NO_VERDICT})", "": ""}


def _rule(study: Study) -> str:
    return (
        f"No verdict at this budget: with less than the report's budget, a row has one only where it has learned "
        f"({title_of(study.learned.measure)} of at least {study.learned.times_chance:g} times guessing), a claim of a size "
        "has none, and a curve has one only where it is long enough."
    )


def _legend(study: Study, part: Part) -> str:
    shares = any(is_share(cell.metric) for line in part.table for cell in line.cells)
    within = f"{difference(study.tolerance, 'recall').lstrip('+')}" if shares else f"{RELATIVE:.0%}"
    loss = f" ({RELATIVE:.0%} of what is not a share)" if shares else ""
    return (
        f"Ours is the mean ± standard deviation over the n seeds that completed. A difference is a match within {within}{loss}, or where "
        "the reported number lies in the interval in which one more run of ours would lie with a probability of 95% (from three seeds on)."
    )


def _environment(parts: Sequence[Part]) -> str:
    runs = [run for part in parts for of_row in part.runs.values() for run in of_row]
    known = [run.part("environment") for run in runs if run.part("environment")]
    if not known:
        return "No run has finished."
    seconds = sum(run.cost("fit_seconds") or 0.0 for run in runs)
    first = known[0]
    names = ("device", "threads", "python", "torch", "torchvision", "lightning")
    told = ", ".join(f"{name} {first[name]}" for name in names if first.get(name) is not None)
    return f"{plural(len(runs), 'run')}, {seconds / 3600:.1f} hours of training in all; {told}."


def _cell(text: str) -> str:
    """Text within a Markdown table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
