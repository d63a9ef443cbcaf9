"""A study as ``conf/study`` and ``conf/experiment`` have it: its rows, the columns of its table, its claims.

What a column or a claim measures is an expression in words, evaluated on the record of a run:

val/recall                   of the weights that the run stands for (its last, or its best epoch's)
val/recall mean over epochs  the mean of the epochs' values
train/loss at epoch 1        the value after that epoch, counted from 1; also "at the last epoch"
test/recall of cat           of one class
val/loss minus train/loss    the difference of two of these; also "apart from", without its sign, and "divided by"
parameters                   or another cost: flops_per_image, bits, seconds_per_epoch, ...
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import sub, truediv
from typing import Any, NamedTuple

import yaml

from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import finite_mean
from cnnbench.config.compose import compose, resolved
from cnnbench.config.groups import CONFIG_DIR
from cnnbench.utils.errors import one_of

FORMS = ("published", "corrected")
MEAN = " mean over epochs"
OPERATIONS: Mapping[str, Callable[[float, float], float]]
OPERATIONS = {" minus ": sub, " apart from ": lambda a, b: abs(a - b), " divided by ": truediv}
SIZES = ("parameters", "flops_per_image", "bits")  # of the network alone, so that seeds do not differ
Reported = float | tuple[float, float]  # a number, or the lowest and the highest of several
Runs = Mapping[str, Sequence[Run]]  # by row


class Column(NamedTuple):
    """A column of the table, and the expression that it measures in the study's form."""

    key: str
    heading: str
    measure: str

    @property
    def metric(self) -> str:
        """The metric within the expression."""
        return metric_of(self.measure)


class Claim(NamedTuple):
    """A conclusion of the report, and the comparison it comes to (cnnbench.analysis.studies.claims)."""

    says: str
    holds: str


class Learned(NamedTuple):
    """When a row has learned: ``measure`` is at least ``times_chance`` times what guessing gives."""

    measure: str = "val/accuracy"
    times_chance: float = 2.0


class Row(NamedTuple):
    """What a row changes, the numbers that the report gives by column, and the row's configuration."""

    name: str
    change: str
    reported: Mapping[str, Reported]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A study in one of its forms, with the keys of its YAML, which explains them."""

    name: str
    form: str
    title: str
    report: str
    rows: tuple[str, ...]
    baseline: str
    tolerance: float
    columns: tuple[Column, ...]
    claims: tuple[Claim, ...]
    notes: Mapping[str, str]
    learned: Learned
    curves: Mapping[str, tuple[str, ...]]

    def expression(self, name: str) -> str:
        """What a column measures; a name that is no column's is an expression itself."""
        return next((column.measure for column in self.columns if column.key == name), name)

    def is_learned_by(self, runs: Sequence[Run]) -> bool:
        """Whether the completed runs of a row are above guessing, as ``learned`` says; no if there is none."""
        value = finite_mean(measure(run, self.learned.measure) for run in runs if run.completed)
        return value is not None and value >= self.learned.times_chance / class_count(runs)


def studies() -> list[str]:
    """Names of the studies."""
    return sorted(path.stem for path in (CONFIG_DIR / "study").glob("*.yaml"))


def load_study(name: str, form: str = "published") -> Study:
    """Read ``conf/study/NAME.yaml``; raises RequestError where there is no such study or form."""
    one_of("study", name, studies())
    one_of("form", form, FORMS)
    node = yaml.safe_load((CONFIG_DIR / "study" / f"{name}.yaml").read_text(encoding="utf-8"))
    rows = tuple(map(str, node["rows"]))
    return Study(
        name=name, form=form, rows=rows,
        **{key: node[key] for key in ("title", "report", "baseline", "tolerance", "notes")},
        columns=tuple(Column(key, column["heading"], column[form]) for key, column in node["columns"].items()),
        claims=tuple(Claim(**claim) for claim in node["claims"]), learned=Learned(**node.get("learned", {})),
        curves={what: tuple(map(str, names)) for what, names in node.get("curves", {"rows": rows}).items()},
    )  # fmt: skip


def load_row(study: str, row: str, form: str) -> Row:
    """Compose ``conf/experiment/STUDY/ROW.yaml`` as it stands; raises RequestError without such a row or form."""
    one_of(f"row of {study}", row, load_study(study, form).rows)
    config = resolved(compose([f"experiment={study}/{row}", f"study.form={form}"]))
    node = config["study"]
    reported = {key: tuple(value) if isinstance(value, list) else value for key, value in node["reported"].items()}
    return Row(row, str(node["change"]), reported, config)


def metric_of(expression: str) -> str:
    """The metric's name within an expression."""
    return expression.split(" ")[0]


def measure(run: Run, expression: str) -> float | None:
    """The value of ``expression`` in a run; None where the run does not have it."""
    if word := next((word for word in OPERATIONS if word in expression), None):
        first, second = (measure(run, part) for part in expression.split(word, 1))
        return None if first is None or second is None else OPERATIONS[word](first, second)
    if expression.endswith(MEAN):
        return finite_mean(run.series(expression.removesuffix(MEAN)))
    if match := re.fullmatch(r"(\S+) at (?:epoch (\d+)|the last epoch)", expression):
        values = dict(enumerate(run.series(match[1]), 1))
        return values.get(int(match[2] or len(values)))
    if match := re.fullmatch(r"(\S+) of (.+)", expression):
        return run.per_class(match[1]).get(match[2])
    return run.cost(expression) if expression in SIZES else run.value(expression)


def class_count(runs: Sequence[Run]) -> int:
    """Classes of the set that the runs saw."""
    return max((run.part("data").get("classes") or 10) for run in runs)
