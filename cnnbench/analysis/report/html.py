"""report.html: an analysis laid out by ``templates/report.html`` as one file that asks nothing of the network.

Jinja escapes every text that goes into it; only the SVG of our own figures is marked as safe.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from itertools import count, product
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from cnnbench.analysis import metric_names as names
from cnnbench.analysis.analyse import Analysis
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.images import calibration, correct_answers, split_spread
from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.report.classes import Section, classes, disagreements, imbalance
from cnnbench.analysis.report.figures import charts
from cnnbench.analysis.report.figures import curves as curve_figures
from cnnbench.analysis.report.figures.style import BLUE, LINES, ORANGE, svg
from cnnbench.analysis.report.tables import report_tables
from cnnbench.analysis.runs import Run
from cnnbench.analysis.search import read_searches
from cnnbench.analysis.wording import environment
from cnnbench.config.settings import SEED, show

Draw = Callable[[Figure | None, str], str]  # a figure and its description; empty where there is none
MOST_COMMANDS = 12
MOST_COMPARED = len(LINES)  # configurations in one set of axes
MOST_EACH = 4  # configurations with train against validation
MOST_FACTORS = 8
MOST_INTERACTIONS = 6  # drawn; the table has all
LOSS = "cross_entropy"  # which train, validation and test have alike
WARNING = "test set|added until decided"  # in notes that stand first
MADE_WITH = ("cnnbench", "git", "git_dirty", "python", "torch", "torchvision", "lightning", "device", "gpu", "cpu",
             "threads")  # fmt: skip


def render(analysis: Analysis, runs: Sequence[Run], command: str, version: str) -> str:
    """The page on all ``runs``, by this ``version`` of cnnbench; ``command`` remakes it."""
    numbers = count()

    def draw(figure: Figure | None, description: str) -> str:  # Jinja escapes every other text
        return "" if figure is None else Markup(svg(figure, f"figure{next(numbers)}", description))

    board, done, results = analysis.board, analysis.board.grid.runs, analysis.effects
    subject = [{show(run.settings[key]) for run in done if key in run.settings} for key in ("model", "data")]
    reference = analysis.reference if analysis.baseline_given else None
    of_classes = classes(analysis)
    first = correct_answers(board.rows[0].configuration.runs) if board.rows else None
    environments = [run.part("environment") for run in done or runs]
    made_with = {name: [show(e[name]) for e in environments if e.get(name) is not None] for name in MADE_WITH}
    tables = report_tables(analysis)
    context = {
        "analysis": analysis,
        "subject": " on ".join(", ".join(sorted(names)) for names in subject if names),
        "warnings": [note for note in board.notes if re.search(WARNING, note)],
        "notes": [note for note in board.notes if not re.search(WARNING, note)],
        **dict.fromkeys(("comparison", "across", "signed_ranks", "anova", "pairs", "target")), **tables,
        "decided": [table for name, table in tables.items() if name.startswith("decided")],
        "overview": draw(charts.leaderboard(board, analysis.metric), "Mean, interval and seeds by configuration"),
        "overview_rows": min(len(board.rows), charts.MOST_ROWS),
        "searches": searches(runs, draw),
        "effect_figures": results and {
            "mains": [draw(charts.main_effect(one, results), results.sentence(one)) for one in results.mains[:MOST_FACTORS]],
            "interactions": [draw(charts.interaction(pair, results), results.sentence(pair))
                             for pair in results.interactions[:MOST_INTERACTIONS]],
        },
        "losses": sorted({f"loss={run.settings['loss']}" for run in done if run.settings.get("loss", LOSS) != LOSS}),
        "rank_figure": analysis.across and draw(charts.ranks(analysis.across), "Critical-difference diagram of mean ranks"),
        "curves": curves(board, reference, draw),
        "calibrations": [
            {"title": c.short, "of": found,
             "figure": draw(charts.reliability(found, c.short), f"Accuracy against confidence: {c.short}")}
            for c in _top(board, reference, MOST_EACH) if (found := calibration(c.runs)) is not None
        ],
        "classes": of_classes, "imbalance": imbalance(of_classes), "disagreements": disagreements(analysis),
        "cost": cost(board, analysis.metric, draw), "protocol": protocol(done),
        "spread": None if first is None else split_spread(first),
        "environment": {name.replace("_", " "): dict.fromkeys(texts) for name, texts in made_with.items() if texts},
        "run_commands": run_commands(runs), "report_command": command, "version": version,
    }  # fmt: skip
    return environment().get_template("report.html").render(context) + "\n"


def run_commands(runs: Sequence[Run]) -> list[str]:
    """Sweeps, as few as possible, that together give exactly these runs; a single command where nothing is swept."""
    # A box is {key: values}, and stands for every combination of the values: first one for each run
    boxes: list[dict[str, tuple[str, ...]]] = []
    for run in [run for run in runs if run.record]:
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
        texts = [text.removesuffix("=") if text[0] == "~" else text for text in texts]
        sweep = ["-m"] if any(len(values) > 1 for values in box.values()) else []
        commands.append(shlex.join(["cnnbench", *sweep, *texts]))
    if (more := len(commands) - MOST_COMMANDS) > 0:
        commands[MOST_COMMANDS:] = [f"# and {more} more: each run's result.json has its overrides"]
    return commands


def searches(runs: Sequence[Run], draw: Draw) -> list[Section]:
    """The searches whose runs these are."""
    parts = []
    for search in read_searches({run.path.parent for run in runs}):
        metric = names.title(search.objective)
        history = draw(charts.search_history(search), f"Best {metric} so far over the trials")
        figures = [draw(f, f"{name} against {metric}") for name, f in charts.search_parameters(search).items()]
        parts.append({"search": search, "figures": [history, *figures]})
    return parts


def _top(board: Leaderboard, reference: Configuration | None, most: int) -> list[Configuration]:
    """At most ``most`` configurations: the first ones, the last one, and the reference wherever it is."""
    ranked = [row.configuration for row in board.rows]
    shown = [*ranked[: most - 1], *ranked[-1:]] if len(ranked) > most else ranked
    return shown if reference is None or reference in shown else [*shown[: most - 2], reference, *ranked[-1:]]


def curves(board: Leaderboard, reference: Configuration | None, draw: Draw) -> Section | None:
    """Validation curves against each other, and train against validation for a few."""
    leaves = curve_figures.LEAVES
    each = []
    for c in _top(board, reference, MOST_EACH):
        drawn = [draw(curve_figures.train_and_validation(c, leaf), f"{leaf}: {c.short}") for leaf in leaves]
        each += [{"title": c.short, "text": curve_figures.fit_text(c), "figures": drawn}] if any(drawn) else []
    if not each:
        return None
    compared = _top(board, reference, MOST_COMPARED)
    against = [draw(curve_figures.against_each_other(compared, leaf), f"Validation {leaf} over the epochs")
               for leaf in leaves if len(compared) > 1]  # fmt: skip
    legend = []
    for c, (colour, dash, _) in zip(compared, LINES, strict=False):  # matplotlib's dashes are in line widths
        dashes = "" if dash == "-" else " ".join(str(2 * length) for length in dash[1])
        legend.append({"colour": colour, "dashes": dashes, "label": c.short})
    long = any(len(run.series("val/loss")) >= curve_figures.LONG for run in board.grid.runs)
    return {"legend": legend, "against": against, "each": each, "long": long, "blue": BLUE, "orange": ORANGE}


def cost(board: Leaderboard, metric: str, draw: Draw) -> Section | None:
    """Quality against parameters, FLOPs and seconds, and the Pareto fronts: the ranks and costs of their rows."""
    figures, constant, fronts, several = [], [], {}, len(board.data_sets) > 1
    for data_set, name in product(board.data_sets, ("parameters", "flops_per_image", "seconds_per_epoch")):
        part, cost = board.of(data_set), f"{names.COSTS[name]}, {data_set}" if several else names.COSTS[name]
        if drawn := charts.cost(part, name, metric, cost):
            figures.append(draw(drawn[0], f"{names.title(metric)} against {cost}"))
            fronts[cost] = [(row.rank, names.compact(row.cost(name))) for row in drawn[1][:8]]
        elif not several and len(part.rows) > 1 and any(row.cost(name) is not None for row in part.rows):
            constant.append(cost)
    return {"figures": figures, "fronts": fronts, "constant": ", ".join(constant)} if figures else None


def protocol(runs: Sequence[Run]) -> Section:
    """How validation and test were done, as the records say; None where they differ or do not say."""
    validation = {str(run.part("data").get("validation", run.settings.get("data.validation"))) for run in runs}
    weights = {str(run.part("protocol").get("weights")) for run in runs}
    averages = [average for run in runs if (average := run.part("protocol").get("average"))]
    kinds = (run.part("protocol").get("test_time_augmentation") for run in runs)
    views = [kind for kind in kinds if kind not in (None, "none")]
    return {
        "validation": sorted(validation - {"None"}),
        "weights": " or ".join(sorted(weights - {"None"})), "last_weights": weights == {"last"},
        "averages": f"{len(averages)} of {len(runs)} runs ({', '.join(sorted(set(averages)))})" if averages else "",
        "views": f"{len(views)} of {len(runs)} runs ({', '.join(sorted(set(views)))})" if views else "",
        "on_test": any(run.validated_on_test for run in runs),
        "images": {split: _same(run.part("data").get(split) for run in runs) for split in ("train", "val", "test")},
        "classes": _same(len(run.classes) for run in runs) or None,
    }  # fmt: skip


def _same(values: Iterable[Any]) -> int | None:
    """The number that all are."""
    kinds = {value if isinstance(value, int) else None for value in values}
    return kinds.pop() if len(kinds) == 1 else None
