"""report.html: an analysis laid out by ``templates/report.html`` as one file that asks nothing of the network.

Jinja escapes every text that goes into it; only the SVG of our own figures is marked as safe.
"""

import re
import shlex
from collections.abc import Sequence
from itertools import count

from markupsafe import Markup
from matplotlib.figure import Figure

from cnnbench.analysis import metric_names as names
from cnnbench.analysis.analyse import Analysis
from cnnbench.analysis.report import sections
from cnnbench.analysis.report.figures import charts
from cnnbench.analysis.report.figures.style import svg
from cnnbench.analysis.report.imbalance import imbalance
from cnnbench.analysis.report.tables import decided_table, report_tables
from cnnbench.analysis.runs import Run
from cnnbench.analysis.wording import environment, sentences
from cnnbench.config.settings import SEED, show

MOST_COMMANDS = 12
LOSS = "cross_entropy"  # which train, validation and test have alike
WARNING = "test set|added until decided"  # in notes that stand first


def render(analysis: Analysis, runs: Sequence[Run], command: str, version: str) -> str:
    """The page on all ``runs``, by this ``version`` of cnnbench; ``command`` remakes it."""
    numbers = count()

    def draw(figure: Figure | None, description: str) -> str:
        return "" if figure is None else Markup(svg(figure, f"figure{next(numbers)}", description))

    board, done = analysis.board, analysis.board.grid.runs
    subject = [{show(run.settings[key]) for run in done if key in run.settings} for key in ("model", "data")]
    reference = analysis.reference if analysis.baseline_given else None
    classes = sections.classes(analysis)
    context = {
        "analysis": analysis,
        "subject": " on ".join(", ".join(sorted(names)) for names in subject if names),
        "warnings": [note for note in board.notes if re.search(WARNING, note)],
        "notes": [note for note in board.notes if not re.search(WARNING, note)],
        "comparison": None, "across": None, "signed_ranks": None, "anova": None, "pairs": None, "target": None, **report_tables(analysis),
        "decided": list(map(decided_table, analysis.decided)),
        "pair_sentences": sentences("pairs", analysis.pairs) if analysis.pairs else [],
        "target_notes": sentences("target_notes"),
        "overview": draw(charts.leaderboard(board, analysis.metric), "Mean, interval and seeds by configuration"),
        "overview_rows": min(len(board.rows), charts.MOST_ROWS),
        "searches": sections.searches(runs, draw),
        "effect_figures": sections.effects(analysis.effects, draw) if analysis.effects else None,
        "losses": sorted({f"loss={run.settings['loss']}" for run in done if run.settings.get("loss", LOSS) != LOSS}),
        "rank_figure": analysis.across and draw(charts.ranks(analysis.across), "Critical-difference diagram of mean ranks"),
        "curves": sections.curves(board, reference, draw),
        "calibrations": sections.calibrations(board, reference, draw),
        "definitions": names.definitions(board.metrics),
        "classes": classes,
        "imbalance": imbalance(classes),
        "disagreements": sections.disagreements(analysis),
        "cost": sections.cost(board, analysis.metric, draw),
        "protocol": sections.protocol(done),
        "spread": sections.spread(board),
        "environment": sections.environment(done or runs),
        "run_commands": run_commands(runs),
        "report_command": command,
        "version": version,
    }  # fmt: skip
    return environment().get_template("report.html").render(context) + "\n"


def run_commands(runs: Sequence[Run]) -> list[str]:
    """Sweeps, as few as possible, that together give exactly these runs; a single command where nothing is swept."""
    # A box is {key: values}, and stands for every combination of the values: first one for each run
    boxes: list[dict[str, tuple[str, ...]]] = []
    for run in runs:
        if run.overrides or run.record:
            written = dict(text.partition("=")[::2] for text in run.overrides)
            if run.seed is not None:
                written.setdefault(SEED, str(run.seed))
            boxes.append({key: (value,) for key, value in written.items()})

    # Join those that differ in one key alone, key by key
    order = list(dict.fromkeys(key for box in boxes for key in box))
    for key in reversed(order):
        joined: dict[tuple[frozenset, bool], dict[str, None]] = {}
        for box in boxes:
            values = box.get(key, ())
            joins = key in box and not any("," in value and not value.startswith("[") for value in values)
            rest = frozenset((name, of) for name, of in box.items() if name != key or not joins)
            joined.setdefault((rest, joins), {}).update(dict.fromkeys(values))
        boxes = [dict(rest) | ({key: tuple(values)} if joins else {}) for (rest, joins), values in joined.items()]

    commands = []
    for box in boxes:
        texts = [f"{key}={','.join(box[key])}" for key in order if key in box]
        sweep = ["-m"] if any(len(values) > 1 for values in box.values()) else []
        commands.append(shlex.join(["cnnbench", *sweep, *texts]))
    if len(commands) > MOST_COMMANDS:
        commands[MOST_COMMANDS:] = [
            f"# and {len(commands) - MOST_COMMANDS} more: each run's result.json has its overrides"
        ]
    return commands
