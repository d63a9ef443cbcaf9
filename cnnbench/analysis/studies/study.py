"""A study as ``conf/study`` and ``conf/experiment`` have it: its rows, the columns of its table, its claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from cnnbench.config.compose import CONFIG_DIR, compose, resolved
from cnnbench.utils.errors import one_of

FORMS = ("published", "corrected")
Reported = float | tuple[float, float]  # a number, or the lowest and the highest of several


@dataclass(frozen=True)
class Column:
    """A column of the study's table: ``measures`` says by form which of our numbers it is (cnnbench.analysis.studies.measure)."""

    key: str
    heading: str
    measures: Mapping[str, str]


@dataclass(frozen=True)
class Claim:
    """A conclusion of the report, and the comparison that it comes to (cnnbench.analysis.studies.claims)."""

    says: str
    holds: str


@dataclass(frozen=True)
class Learned:
    """When a row has learned: ``measure`` is at least ``times_chance`` times what guessing gives."""

    measure: str
    times_chance: float


@dataclass(frozen=True)
class Row:
    """A row: what it changes, the numbers that the report gives by column, and the configuration it stands for."""

    name: str
    change: str
    reported: Mapping[str, Reported]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A study; ``tolerance`` is the difference up to which a share counts as a match.

    With less than the report's budget only rows that have ``learned`` take part in verdicts. ``curves`` has the rows
    that are drawn together, by what they compare.
    """

    name: str
    title: str
    report: str
    baseline: str
    tolerance: float
    columns: tuple[Column, ...]
    claims: tuple[Claim, ...]
    notes: Mapping[str, str]
    learned: Learned
    curves: Mapping[str, tuple[str, ...]]

    def column(self, key: str) -> Column | None:
        """The column of this key."""
        return next((column for column in self.columns if column.key == key), None)


def studies() -> list[str]:
    """Names of the studies."""
    return sorted(path.stem for path in (CONFIG_DIR / "study").glob("*.yaml"))


def _node(study: str) -> Any:
    return yaml.safe_load((CONFIG_DIR / "study" / f"{study}.yaml").read_text(encoding="utf-8"))


def row_names(study: str) -> list[str]:
    """Names of a study's rows, in the order of its table."""
    return [str(name) for name in _node(study)["rows"]]


def load_study(name: str) -> Study:
    """Read ``conf/study/NAME.yaml``.

    Raises:
        RequestError: there is no such study.
    """
    one_of("study", name, studies())
    node = _node(name)
    columns = tuple(
        Column(key, column["heading"], {form: column[form] for form in FORMS})
        for key, column in node["columns"].items()
    )
    claims = tuple(Claim(claim["says"], claim["holds"]) for claim in node["claims"])
    curves = {compared: tuple(map(str, rows)) for compared, rows in node.get("curves", {"rows": node["rows"]}).items()}
    learned = Learned(**node.get("learned", {"measure": "val/accuracy", "times_chance": 2.0}))
    head = (node["title"], node["report"], node["baseline"], node["tolerance"])
    return Study(name, *head, columns, claims, node["notes"], learned, curves)


def load_row(study: str, row: str, form: str) -> Row:
    """Compose ``conf/experiment/STUDY/ROW.yaml`` as it stands.

    Raises:
        RequestError: there is no such row or form.
    """
    one_of("form", form, FORMS)
    one_of(f"row of {study}", row, row_names(study))
    config = resolved(compose([f"experiment={study}/{row}", f"study.form={form}"]))
    node = config["study"]
    reported = {key: tuple(value) if isinstance(value, list) else value for key, value in node["reported"].items()}
    return Row(row, str(node["change"]), reported, config)


def choose_rows(study: str, asked: list[str]) -> list[str]:
    """The rows that are asked for, in the study's order; all where none is.

    Raises:
        RequestError: one is not a row of the study.
    """
    names = row_names(study)
    for name in asked:
        one_of(f"row of {study}", name, names)
    return [name for name in names if name in asked] or names
