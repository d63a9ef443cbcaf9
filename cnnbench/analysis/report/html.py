"""report.html: an analysis laid out as one file that asks nothing of the network.

The words are in ``templates/report.html``. Jinja escapes every text that goes into it, and only the SVG of our own
figures is marked as safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.analysis.analyse import Analysis
from cnnbench.analysis.metric_names import COSTS, number, plural, title, unit
from cnnbench.analysis.report import sections
from cnnbench.analysis.report.classes import class_section
from cnnbench.analysis.report.commands import run_commands
from cnnbench.analysis.report.figures import overview
from cnnbench.analysis.report.figures.style import svg
from cnnbench.analysis.report.tables import report_tables, trouble
from cnnbench.analysis.runs import Run
from cnnbench.config.settings import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENVIRONMENT = ("cnnbench", "git", "git_dirty", "python", "torch", "torchvision", "lightning", "device", "gpu", "cpu",
               "threads")  # fmt: skip
TEMPLATES = Path(__file__).parent / "templates"


def render(analysis: Analysis, runs: Sequence[Run], command: str, version: str) -> str:
    """The page.

    Args:
        runs: all of them, in the order of collection; their commands are listed.
        command: remakes this report.
        version: of cnnbench.
    """
    import jinja2
    from markupsafe import Markup

    numbers = count()

    def draw(figure: Figure | None, description: str) -> str:
        return "" if figure is None else Markup(svg(figure, f"figure{next(numbers)}", description))

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters.update(plural=plural, metric=title, unit=unit, number=number, show=show)
    files = {name: Markup((TEMPLATES / f"report.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    board = analysis.board
    reference = analysis.reference if analysis.baseline_given else None
    context = {
        **_facts(analysis),
        "comparison": None, "anova": None, **report_tables(analysis),
        "environment": _environment(board.grid.runs or runs),
        "overview": draw(overview.leaderboard(board, analysis.metric), "Mean, interval and seeds by configuration"),
        "searches": sections.searches(runs, draw),
        "effect_figures": sections.effects(analysis.effects, draw) if analysis.effects else None,
        "curves": sections.curves(board, reference, draw),
        "classes": class_section(analysis),
        "cost": sections.cost(board, analysis.metric, draw),
        "protocol": sections.protocol(board.grid.runs),
        "trouble": trouble(board),
        "run_commands": run_commands(runs),
        "report_command": command,
        "version": version,
    }  # fmt: skip
    return environment.get_template("report.html").render(**context, **files) + "\n"


def _facts(analysis: Analysis) -> dict[str, Any]:
    """What the template's sentences are about."""
    board = analysis.board
    done = board.grid.runs
    what = [
        ", ".join(sorted({show(run.settings[key]) for run in done if key in run.settings})) for key in ("model", "data")
    ]
    warnings = [note for note in board.notes if "test set" in note]
    return {
        "analysis": analysis,
        "board": board,
        "what": " on ".join(filter(None, what)),
        "run_count": sum(len(c.runs) + len(c.incomplete) for c in board.grid.configurations),
        "warnings": warnings,
        "notes": [note for note in board.notes if note not in warnings],
        "overview_rows": min(len(board.rows), overview.MOST_ROWS),
        "second_metric": analysis.metric if analysis.metric not in (board.objective, *COSTS) else None,
        "last_weights": {run.part("protocol").get("weights") for run in done} == {"last"},
        "objectives": ", ".join(sorted({run.objective for run in done if run.objective})),
        "validated_on_test": any(run.validated_on_test for run in done),
        "seeds": ", ".join(map(str, sorted({run.seed for run in done if run.seed is not None}))) or "unknown",
    }


def _environment(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What the runs were made with; several values where they differ."""
    found = {
        name: [run.part("environment")[name] for run in runs if run.part("environment").get(name) is not None]
        for name in ENVIRONMENT
    }
    return {name.replace("_", " "): list(dict.fromkeys(map(show, values))) for name, values in found.items() if values}
