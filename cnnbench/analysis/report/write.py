"""The report of finished, unfinished and failed runs as HTML, JSON, CSV, Markdown or LaTeX, and the leaderboard's files."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.report import tables
from cnnbench.analysis.runs import collect
from cnnbench.analysis.wording import sentences
from cnnbench.config.settings import show
from cnnbench.utils.console import cell, escape
from cnnbench.utils.environment import packages
from cnnbench.utils.errors import one_of
from cnnbench.utils.record import finite_or_none, write_atomically

if TYPE_CHECKING:
    from cnnbench.analysis.analyse import Analysis

FORMATS = {"html": "html", "json": "json", "csv": "csv", "md": "md", "latex": "tex"}  # name: suffix


class Report(NamedTuple):
    """A report in one of ``FORMATS``, and the leaderboard that it is about."""

    text: str
    board: Leaderboard
    fmt: str
    answer: Sequence[str] = ()  # in sentences

    def write(self, folder: Path) -> list[Path]:
        """Write ``report.*``, of html also ``leaderboard.csv`` and ``.md``; the one to open first is in front."""
        path = folder / f"report.{FORMATS[self.fmt]}"
        write_atomically(path, escape(self.text, keep="\n\t"))
        return [path, *(write_leaderboard(self.board, folder) if self.fmt == "html" else [])]


def build(folders: Sequence[Path], fmt: str = "html", command: str | None = None, **options: Any) -> Report:
    """The report on all runs in and below ``folders``.

    Args:
        command: remakes the report; by default the one without options.
        options: of ``analyse``; ``cnnbench report`` has one of the same name for each.

    Raises:
        RequestError: a folder is not there or has no runs, or a name is of nothing.
    """
    from cnnbench.analysis.analyse import analyse

    one_of("format", fmt, FORMATS)
    analysis = analyse(runs := collect(folders), **options)
    if fmt == "html":
        from cnnbench.analysis.report.html import render

        command = command or shlex.join(["cnnbench", "report", *map(str, folders)])
        return Report(render(analysis, runs, command, packages()["cnnbench"]), analysis.board, fmt, analysis.answer)
    writers = {"json": to_json, "md": to_markdown, "latex": to_latex}
    text = writers[fmt](analysis) if fmt in writers else leaderboard_csv(analysis.board, analysis)
    return Report(text, analysis.board, fmt, analysis.answer)


def write_leaderboard(board: Leaderboard, folder: Path) -> list[Path]:
    """Write leaderboard.csv and leaderboard.md into ``folder`` and return their paths."""
    files = {folder / "leaderboard.csv": leaderboard_csv(board), folder / "leaderboard.md": leaderboard_markdown(board)}
    for path, text in files.items():
        write_atomically(path, text)
    return [*files]


def _entries(board: Leaderboard, analysis: Analysis | None = None) -> list[dict[str, Any]]:
    """A mapping a row with every number in full; of ``analysis`` with its difference from the reference too."""
    entries = [tables.leaderboard_entry(board, row) for row in board.rows]
    if analysis is None or analysis.reference is None:
        return entries
    keys = ("compared with", f"{analysis.metric} difference", "difference low", "difference high", "Hedges g", "p",
            "p Holm", "verdict", "test", "seeds needed", "to show")  # fmt: skip
    for entry, row in zip(entries, board.rows, strict=True):
        values: Sequence[Any] = [None] * len(keys)
        if c := analysis.comparison(row.configuration):
            d, reference = c.difference, analysis.references[row.configuration.data_set]
            values = (reference.label, d.value, d.low, d.high, d.effect, d.p,
                      c.p, c.verdict, d.method, c.seeds_needed, c.size)  # fmt: skip
        entry.update(zip(keys, values, strict=True))
    return entries


def leaderboard_csv(board: Leaderboard, analysis: Analysis | None = None) -> str:
    """One line a configuration with every number in full, of ``analysis`` its difference from the reference too; shares
    are in [0, 1], empty is unknown."""
    entries, text = _entries(board, analysis), io.StringIO()  # not by pandas, whose import takes longer than all else
    keys = entries[0] if entries else tables.leaderboard_entry(board, tables.EMPTY_ROW)
    writer = csv.DictWriter(text, list(keys), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell(value) for key, value in entry.items()} for entry in entries)
    return text.getvalue()


def leaderboard_markdown(board: Leaderboard, heading: str = "#") -> str:
    """The leaderboard, its notes, and the runs that did not complete."""
    parts = [f"{heading} Leaderboard\n", _markdown(tables.leaderboard_table(board))]
    if shared := board.grid.shared:
        texts = (escape(" ".join(f"{key}={show(value)}".split()).replace("`", "'")) for key, value in shared.items())
        parts.append(f"The same in all: {', '.join(f'`{text}`' for text in texts)}.\n")
    parts += [f"{_markdown_text(note)}\n" for note in board.notes]
    if lines := board.trouble:
        parts += [f"{heading}# Not completed\n", _bullets(lines)]
    return "\n".join(parts)


def to_markdown(analysis: Analysis) -> str:
    """The answer, the leaderboard, the comparisons and the effects."""
    parts = ["# Report\n", _bullets(analysis.answer), leaderboard_markdown(analysis.board, "##")]
    shown = {name: _markdown(table) for name, table in tables.report_tables(analysis).items()}
    parts += [f"## Decided\n\n{text}" for name, text in shown.items() if name.startswith("decided")]
    if analysis.comparisons:
        parts += [f"## Against the {'baseline' if analysis.baseline_given else 'first'}\n", shown["comparison"]]
    if analysis.pairs:
        parts += ["## Each against each\n", shown["pairs"]]
    if analysis.target:
        parts += ["## Time to the target\n", shown["target"], *sentences("target_notes"), ""]
    if analysis.across:
        told = [*sentences("across", analysis.across, analysis.metric), *sentences("across_notes", analysis.across)]
        parts += ["## Across data sets\n", _bullets(told)]
        parts += [shown[name] for name in ("across", "signed_ranks") if name in shown]
    if effects := analysis.effects:
        told = [*map(effects.sentence, effects.mains), *effects.cautions, *map(effects.sentence, effects.interactions)]
        notes = [f"{note}\n" for note in effects.notes]
        parts += ["## Effects of the factors\n", _bullets(told), shown["anova"], *notes]
    return "\n".join(parts)


def _bullets(sentences: Sequence[str]) -> str:
    return "".join(f"- {_markdown_text(sentence)}\n" for sentence in sentences)


def _markdown(table: tables.Table) -> str:
    """A table with its caption."""
    rule = ["---:" if numeric else "---" for numeric in table.numeric]
    rows = [table.headers, rule, *([cell.text for cell in row] for row in table.rows)] if table.rows else []
    lines = [f"| {' | '.join(map(_markdown_text, row))} |" for row in rows]
    return "\n".join([_markdown_text(table.caption), "", *lines, ""])


def _markdown_text(text: str) -> str:
    """``text`` on one line that cannot end a cell or begin HTML or a link, by brackets or by itself."""
    return LINK.sub(r"\g<0>\\", escape(" ".join(text.split())).replace("|", "\\|").replace("<", "&lt;"))


LINK = re.compile(r"\](?=[(\[:])|(?<=\w):(?=//)|\bwww(?=\.)", re.IGNORECASE)
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "\u00d7": r"$\times$", "η²": r"$\eta^2$",
    "\u2013": "--", "<": "$<$", ">": "$>$", "·": r"$\cdot$",
}  # fmt: skip
LATEX_PATTERN = re.compile("|".join(map(re.escape, LATEX)))


def to_latex(analysis: Analysis) -> str:
    """The tables for a paper, a ``table`` environment each; they need the booktabs package."""
    import pandas as pd

    def escaped(text: str) -> str:
        return LATEX_PATTERN.sub(lambda match: LATEX[match[0]], " ".join(text.split()))

    parts = ["% \\usepackage{booktabs}"]
    for name, table in tables.report_tables(analysis).items():
        rows = [[escaped(cell.text) for cell in row] for row in table.rows]
        frame = pd.DataFrame(rows, columns=list(map(escaped, table.headers)), dtype=object)
        parts.append(frame.style.hide(axis="index").to_latex(
            column_format="".join("r" if numeric else "l" for numeric in table.numeric),
            position_float="centering", hrules=True, caption=escaped(table.caption), label=f"tab:{name}",
        ))  # fmt: skip
    return "\n".join(parts)


def to_json(analysis: Analysis) -> str:
    """Everything as numbers in full; shares are in [0, 1], unknown is null."""
    board, effects = analysis.board, analysis.effects
    rows, mains, pairs = (effects.table.rows, effects.mains, effects.interactions) if effects else ([], [], [])
    say = effects.sentence if effects else str
    content = {
        "answer": analysis.answer, "objective": board.objective, "metric": analysis.metric,
        "reference": analysis.reference.label if analysis.reference else None,
        "baseline_was_asked_for": analysis.baseline_given,
        **{name: getattr(board.grid, name) for name in ("factors", "chosen_over", "chosen_by", "shared")},
        "notes": board.notes, "leaderboard": _entries(board, analysis),
        "not_completed": [{"configuration": c.label, "seed": run.seed, "status": run.status, "reason": run.reason,
                           "path": str(run.path)} for c, run in board.grid.incomplete],
        "across_data_sets": asdict(analysis.across) if analysis.across else None,
        "pairs": [  # places in the leaderboard
            {"place": row + 1, "minus": column + 1, "difference": d.value, "low": d.low, "high": d.high, "p": d.p,
             "p Holm": p, "verdict": verdict}
            for (row, column), (d, p, verdict) in (analysis.pairs.matrix.items() if analysis.pairs else ())
        ],
        **{name: [dict(zip(of.headers, (cell.value for cell in row), strict=True)) for row in of.rows]
           for name, of in tables.report_tables(analysis).items() if name.startswith(("target", "decided"))},
        "anova": [{"term": row.term, "sum_of_squares": row.sum_of_squares, "df": row.df, "F": row.f, "p": row.p_raw,
                   "p_holm": row.p, "partial_eta_squared": row.partial_eta_squared} for row in rows],
        "residual": effects and {"sum_of_squares": effects.table.full.residual, "df": effects.table.full.df},
        "main_effects": [{"factor": e.factor, "from": e.before, "to": e.after, "value": e.value, "low": e.low,
                          "high": e.high, "means": e.means, "sentence": say(e)} for e in mains],
        "interactions": [{"factor": i.factor, "depends_on": i.other, "from": i.before, "to": i.after,
                          "effects": i.effects, "sentence": say(i)} for i in pairs],
        "cautions": effects.cautions if effects else [],
    }  # fmt: skip
    return json.dumps(finite_or_none(content), ensure_ascii=False, indent=1, default=str) + "\n"
