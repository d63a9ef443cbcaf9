"""report.html: an analysis laid out as one file that asks nothing of the network.

The template is ``templates/report.html``; Jinja escapes every text that goes into it, and only the SVG of our own
figures is marked as safe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.analysis.analyse import Analysis
from cnnbench.analysis.metric_names import COSTS, plural, title
from cnnbench.analysis.report import sections
from cnnbench.analysis.report.commands import run_commands
from cnnbench.analysis.report.figures import effects as effect_figures
from cnnbench.analysis.report.figures import overview
from cnnbench.analysis.report.figures.style import svg
from cnnbench.analysis.report.tables import anova_table, comparison_table, environment_table, leaderboard_table, trouble
from cnnbench.analysis.runs import Run
from cnnbench.config.settings import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"
MOST_INTERACTIONS = 6  # drawn; the table has all
MOST_FACTORS = 8
Draw = Callable[["Figure | None", str, str], "str | None"]

COMPARISON_METHOD = (
    "Paired t test by seed where seeds are shared, else Welch's; where nothing varies, the exact permutation test. "
    "The 95% interval is of each difference alone; p, Holm is corrected for the number of comparisons, and the verdict "
    "goes by it (0.05). Effect size: Hedges' g, the difference in standard deviations over seeds, with the small-sample "
    "correction. Seeds needed: for a power of 80% at the corrected level, from the spread seen here, which few seeds "
    "estimate only roughly."
)
EFFECTS_METHOD = (
    "Sums of squares of type 2: each effect beside all others that do not contain it, so unbalanced and partly failed "
    "grids are treated fairly. Interactions of three and more factors count as noise. p, Holm is corrected for the "
    "number of terms. Intervals are of Tukey's range, which allows for picking the extremes of a factor with several "
    "levels. Means are adjusted to the same mix of the other factors."
)


def render(analysis: Analysis, runs: Sequence[Run], command: str, version: str) -> str:
    """The page.

    Args:
        runs: all of them, in the order of collection; their commands are listed.
        command: remakes this report.
        version: of cnnbench.
    """
    import jinja2
    from markupsafe import Markup

    used: set[str] = set()

    def draw(figure: Figure | None, name: str, told: str) -> str | None:
        if figure is None:
            return None
        name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        while name in used:
            name += "-x"
        used.add(name)
        return Markup(svg(figure, name, told))

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    files = {name: Markup((TEMPLATES / f"report.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    context = {**_head(analysis), **_evidence(analysis, draw), **_foot(analysis, runs, command)}
    context["searches"] = sections.searches(runs, draw)
    context["contents"] = _contents(context)
    return environment.get_template("report.html").render(version=version, **files, **context) + "\n"


def _head(analysis: Analysis) -> dict[str, Any]:
    board = analysis.board
    names = {show(run.settings["data"]) for run in board.grid.runs if "data" in run.settings}
    models = {show(run.settings["model"]) for run in board.grid.runs if "model" in run.settings}
    what = " on ".join(", ".join(sorted(some)) for some in (models, names) if some)
    count = sum(len(c.runs) + len(c.incomplete) for c in board.grid.configurations)
    done = len(board.grid.runs)
    factors = ", ".join(board.grid.factors)
    varies = f"What varies: {factors}." if factors else "Nothing varies but the seed."
    warnings = [note for note in board.notes if "test set" in note]
    return {
        "heading": f"What helps? {what}" if what else "What helps?",
        "subtitle": f"{plural(len(board.rows), 'configuration')}, {done} of {plural(count, 'run')} completed. {varies}",
        "answer": list(analysis.answer),
        "warnings": warnings,
        "notes": [note for note in board.notes if note not in warnings],
    }


def _evidence(analysis: Analysis, draw: Draw) -> dict[str, Any]:
    board = analysis.board
    picture = draw(
        overview.leaderboard(board, analysis.metric), "overview", "Mean, interval and seeds by configuration"
    )
    shown = min(len(board.rows), overview.MOST_ROWS)
    first = f"The first {shown} of {len(board.rows)}. " if shown < len(board.rows) else ""
    both = f"Blue: {title(board.objective)}, which orders them. "
    if analysis.metric not in (board.objective, *COSTS):
        both += f"Orange: {title(analysis.metric)}. "
    comparison = None
    if analysis.comparisons and analysis.reference is not None:
        comparison = comparison_table(analysis.comparisons, analysis.reference, analysis.metric)
    return {
        "overview": picture,
        "overview_note": f"{first}{both}Small dots are seeds, lines 95% intervals of the mean.",
        "leaderboard": leaderboard_table(board),
        "leaderboard_note": _selection(analysis),
        "shared": [f"{key}={show(value)}" for key, value in board.grid.shared.items()],
        "comparison": comparison,
        "comparison_title": "Against the baseline" if analysis.baseline_given else "Against the first place",
        "comparison_note": _reference_note(analysis),
        "comparison_method": COMPARISON_METHOD,
        "effects": _effects(analysis, draw),
        "effects_method": EFFECTS_METHOD,
        "curves": sections.curves(board, analysis.reference if analysis.baseline_given else None, draw),
        "curves_note": sections.top_note(board, analysis.reference if analysis.baseline_given else None),
        "classes": sections.classes(analysis, draw),
        "cost": sections.cost(board, analysis.metric, draw),
    }


def _selection(analysis: Analysis) -> str:
    """What the numbers beside the objective are of."""
    weights = {run.part("protocol").get("weights") for run in analysis.board.grid.runs}
    if weights == {"last"}:
        return "Everything is of the last epoch's weights."
    own = sorted({run.objective for run in analysis.board.grid.runs if run.objective})
    chosen = f" of {', '.join(own)}" if own else ""
    told = f"Values are of the best epoch{chosen}"
    if any(run.validated_on_test for run in analysis.board.grid.runs):
        return f"{told}, which was chosen on the test set: the test values are the best of many and so optimistic."
    return (f"{told}; the test set was measured once, with that epoch's weights. A best "
            "validation value is the highest of many and so a little optimistic; the test value is not.")  # fmt: skip


def _reference_note(analysis: Analysis) -> str:
    if analysis.reference is None:
        return ""
    if analysis.baseline_given:
        return f"Everything against {analysis.reference.short}."
    note = (f"No baseline was asked for (--baseline \"FACTOR=VALUE ...\"), so everything is held against the first "
            f"place, {analysis.reference.short}.")  # fmt: skip
    if len(analysis.comparisons) > 4 and len(analysis.board.grid.factors) > 1:
        note += (
            " Few seeds against many comparisons show little; the factors' effects below pool all runs and show more."
        )
    if analysis.metric == analysis.board.objective:
        note += " It was chosen by the very metric compared here, which flatters it."
    return note


def _effects(analysis: Analysis, draw: Draw) -> dict[str, Any] | None:
    found = analysis.effects
    if found is None:
        return None
    mains = found.mains[:MOST_FACTORS]
    pairs = found.interactions[:MOST_INTERACTIONS]
    both = [draw(effect_figures.main_effect(e, found), f"main-{e.factor}", e.sentence) for e in mains]
    joint = [
        draw(effect_figures.interaction(i, found), f"joint-{i.factor}-{i.other}", i.sentence) for i in pairs
    ]  # fmt: skip
    rest = len(found.interactions) - len(pairs)
    return {
        "mains": [effect.sentence for effect in found.mains],
        "interactions": [item.sentence for item in found.interactions],
        "main_figures": _there(both) if len(found.mains) > 1 or len(found.levels) > 1 or both else [],
        "interaction_figures": _there(joint),
        "interaction_note": f"the {len(pairs)} clearest of {len(found.interactions)}." if rest else "all are shown.",
        "table": anova_table(found),
        "notes": list(found.notes),
    }


def _there(items: Iterable[str | None]) -> list[str]:
    return [item for item in items if item is not None]


def _foot(analysis: Analysis, runs: Sequence[Run], command: str) -> dict[str, Any]:
    board = analysis.board
    seeds = sorted({run.seed for run in board.grid.runs if run.seed is not None})
    method = [
        "Every number is computed from the finished runs' result.json.",
        f"± is the sample standard deviation over seeds ({', '.join(map(str, seeds)) or 'unknown'}): what changes from "
        "run to run when only the seed does. It says nothing of other data.",
    ]
    if grain := _grain(board.grid.runs):
        method.append(grain)
    method += sections.protocol(board.grid.runs)
    lines = trouble(board)
    return {
        "trouble": lines,
        "trouble_note": f"{plural(len(lines), 'run')} without a result; means are of the completed ones alone.",
        "method": method,
        "environment": environment_table(board.grid.runs or runs),
        "run_commands": run_commands(runs),
        "report_command": command,
    }


def _grain(runs: Sequence[Run]) -> str:
    """How much one test image counts."""
    sizes = {run.part("data").get("test") for run in runs}
    size = next(iter(sizes)) if len(sizes) == 1 else None
    if not isinstance(size, int) or size < 1:
        return ""
    return f"The test set has {size:,} images: one of them is {100 / size:.3g} points of accuracy."


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    """The sections that are there."""
    sections = (("answer", "Answer"), ("searches", "Search"), ("leaderboard", "Leaderboard"), ("comparison", context["comparison_title"]),
                ("effects", "Factors"), ("curves", "Curves"), ("classes", "Classes"), ("cost", "Cost"),
                ("trouble", "Not completed"))  # fmt: skip
    there = [(key, name) for key, name in sections if context[key] and getattr(context[key], "rows", True)]
    return [*there, ("method", "How it was made")]
