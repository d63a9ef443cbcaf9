"""The same numbers as CSV, Markdown, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cnnbench.analysis.leaderboard import Leaderboard, Row
from cnnbench.analysis.metric_names import COSTS
from cnnbench.analysis.report.tables import Table, anova_table, comparison_table, leaderboard_table, trouble
from cnnbench.config.settings import show
from cnnbench.utils.record import finite_or_none

if TYPE_CHECKING:
    from cnnbench.analysis.analyse import Analysis


def leaderboard_csv(board: Leaderboard) -> str:
    """One line a configuration with every number in full; shares are in [0, 1]; empty is unknown."""
    return _csv([_flat(board, row) for row in board.rows], ["place", "configuration", *board.grid.factors, "n"])


def to_csv(analysis: Analysis) -> str:
    """The leaderboard's lines with each one's difference from the reference behind."""
    lines = []
    for row in analysis.board.rows:
        lines.append({**_flat(analysis.board, row), **_comparison(analysis, row)})
    return _csv(lines, ["place", "configuration", *analysis.board.grid.factors, "n"])


def _csv(lines: list[dict[str, Any]], header: list[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(board: Leaderboard, row: Row) -> dict[str, Any]:
    values = row.configuration.values
    flat: dict[str, Any] = {"place": row.place, "configuration": row.configuration.label}
    flat.update({name: show(values[name]) if name in values else None for name in board.grid.factors})
    flat.update({"n": row.n, "not completed": len(row.configuration.incomplete)})
    for metric in dict.fromkeys((*board.metrics, *sorted(row.best))):
        if metric in COSTS:
            continue
        tested = metric.startswith("test/")  # measured once: it has no best and final epoch
        for kind, summary in (("", row.final),) if tested else ((" best", row.best), (" final", row.final)):
            for part in ("mean", "std", "low", "high"):
                flat[f"{metric}{kind} {part}"] = getattr(summary[metric], part)
    flat["best epoch"] = row.best_epoch
    return {**flat, **row.costs}


def _comparison(analysis: Analysis, row: Row) -> dict[str, Any]:
    """A row's difference from the reference, in full; empty for the reference itself."""
    found = analysis.comparison(row.configuration)
    d = found.difference if found else None
    return {
        "compared with": analysis.reference.label if analysis.reference and found else None,
        f"{analysis.metric} difference": d.value if d else None,
        "difference low": d.low if d else None,
        "difference high": d.high if d else None,
        "Hedges g": d.effect if d else None,
        "p": d.p if d else None,
        "p Holm": found.p if found else None,
        "verdict": found.verdict if found else None,
        "test": d.method if d else None,
        "seeds needed": found.seeds_needed if found else None,
        "to show": found.size if found else None,
    }


# Markdown


def leaderboard_markdown(board: Leaderboard) -> str:
    """The leaderboard, its notes, and the runs that did not complete."""
    return "\n".join(_leaderboard_parts(board))


def to_markdown(analysis: Analysis) -> str:
    """The answer, the leaderboard, the comparisons and the effects."""
    parts = ["# Report\n", *(f"- {_markdown_text(sentence)}" for sentence in analysis.answer), ""]
    parts += _leaderboard_parts(analysis.board, "##")
    if analysis.comparisons and analysis.reference:
        table = comparison_table(analysis.comparisons, analysis.reference, analysis.metric)
        parts += ["## Against the baseline\n" if analysis.baseline_given else "## Against the first\n", markdown(table)]
    if analysis.effects:
        sentences = [effect.sentence for effect in analysis.effects.mains]
        sentences += [interaction.sentence for interaction in analysis.effects.interactions]
        parts += ["## Effects of the factors\n", *(f"- {_markdown_text(text)}" for text in sentences), ""]
        parts += [markdown(anova_table(analysis.effects)), *(f"{note}\n" for note in analysis.effects.notes)]
    return "\n".join(parts)


def _leaderboard_parts(board: Leaderboard, heading: str = "#") -> list[str]:
    parts = [f"{heading} Leaderboard\n", markdown(leaderboard_table(board))]
    if shared := board.grid.shared:
        told = ", ".join(f"`{key}={show(value)}`" for key, value in shared.items())
        parts.append(f"The same in all: {told}.\n")
    parts += [f"{_markdown_text(note)}\n" for note in board.notes]
    if lines := trouble(board):
        parts += [f"{heading}# Not completed\n", *(f"- {_markdown_text(line)}" for line in lines), ""]
    return parts


def markdown(table: Table) -> str:
    """A table with its caption."""

    def line(texts: Iterable[str]) -> str:
        return f"| {' | '.join(map(_markdown_text, texts))} |"

    if not table.rows:
        return f"{_markdown_text(table.caption)}\n"
    rule = line("---:" if table.numeric(column) else "---" for column in range(len(table.headers)))
    rows = [line(cell.text for cell in row) for row in table.rows]
    return "\n".join([f"{_markdown_text(table.caption)}\n", line(table.headers), rule, *rows, ""])


def _markdown_text(text: str) -> str:
    """``text`` on one line that cannot end a cell or begin HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# LaTeX

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "\u00d7": r"$\times$", "η²": r"$\eta^2$",
    "\u2013": "--", "<": "$<$", ">": "$>$", "·": r"$\cdot$",
}  # fmt: skip
LATEX_PATTERN = re.compile("|".join(map(re.escape, LATEX)))


def to_latex(analysis: Analysis) -> str:
    """The tables for a paper; they need the booktabs package."""
    tables = [("leaderboard", leaderboard_table(analysis.board))]
    if analysis.comparisons and analysis.reference:
        tables.append(("comparison", comparison_table(analysis.comparisons, analysis.reference, analysis.metric)))
    if analysis.effects:
        tables.append(("anova", anova_table(analysis.effects)))
    return "\n".join(["% \\usepackage{booktabs}", *(latex(table, f"tab:{name}") for name, table in tables)])


def latex(table: Table, label: str) -> str:
    """One ``table`` environment."""

    def line(texts: Iterable[str]) -> str:
        return f"    {' & '.join(map(_latex_text, texts))} \\\\"

    columns = "".join("r" if table.numeric(column) else "l" for column in range(len(table.headers)))
    return "\n".join([
        "\\begin{table}", "  \\centering", f"  \\caption{{{_latex_text(table.caption)}}}", f"  \\label{{{label}}}",
        f"  \\begin{{tabular}}{{{columns}}}", "    \\toprule", line(table.headers), "    \\midrule",
        *(line(cell.text for cell in row) for row in table.rows), "    \\bottomrule", "  \\end{tabular}",
        "\\end{table}", "",
    ])  # fmt: skip


def _latex_text(text: str) -> str:
    return LATEX_PATTERN.sub(lambda match: LATEX[match[0]], " ".join(text.split()))


# JSON


def to_json(analysis: Analysis) -> str:
    """Everything as numbers in full; shares are in [0, 1], unknown is null."""
    board, effects = analysis.board, analysis.effects
    told: dict[str, Any] = {
        "answer": analysis.answer,
        "objective": board.objective,
        "metric": analysis.metric,
        "reference": analysis.reference.label if analysis.reference else None,
        "baseline_was_asked_for": analysis.baseline_given,
        "factors": board.grid.factors,
        "shared": board.grid.shared,
        "notes": board.notes,
        "leaderboard": [{**_flat(board, row), **_comparison(analysis, row)} for row in board.rows],
        "not_completed": [
            {"configuration": c.label, "seed": run.seed, "status": run.status, "reason": run.reason, "path": str(run.path)}
            for c, run in board.grid.incomplete
        ],
        "anova": [] if effects is None else [
            {"term": line.term, "sum_of_squares": line.sum_of_squares, "df": line.df, "F": line.f, "p": line.p_raw,
             "p_holm": line.p, "partial_eta_squared": line.partial_eta_squared} for line in effects.table.rows
        ],
        "residual": None if effects is None else {"sum_of_squares": effects.table.residual, "df": effects.table.df},
        "main_effects": [] if effects is None else [
            {"factor": e.factor, "from": e.before, "to": e.after, "value": e.value, "low": e.low, "high": e.high,
             "means": dict(e.means), "sentence": e.sentence} for e in effects.mains
        ],
        "interactions": [] if effects is None else [
            {"factor": i.factor, "depends_on": i.other, "from": i.before, "to": i.after, "effects": dict(i.effects),
             "sentence": i.sentence} for i in effects.interactions
        ],
    }  # fmt: skip
    return json.dumps(finite_or_none(told), ensure_ascii=False, indent=1, default=str) + "\n"
