"""A study as ``conf/study`` and ``conf/experiment`` have it: its rows, the columns of its table, its claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from cnnbench.config.compose import compose, resolved
from cnnbench.config.groups import CONFIG_DIR
from cnnbench.utils.errors import one_of

FORMS = ("published", "corrected")
Reported = float | tuple[float, float]  # a number, or the lowest and the highest of several


@dataclass(frozen=True)
class Column:
    """A column of the table; ``measures`` says by form which of our numbers it is (cnnbench.analysis.studies.measure)."""

    key: str
    heading: str
    measures: Mapping[str, str]


@dataclass(frozen=True)
class Claim:
    """A conclusion of the report, and the comparison it comes to (cnnbench.analysis.studies.claims)."""

    says: str
    holds: str


@dataclass(frozen=True)
class Learned:
    """When a row has learned: ``measure`` is at least ``times_chance`` times what guessing gives."""

    measure: str = "val/accuracy"
    times_chance: float = 2.0


@dataclass(frozen=True)
class Row:
    """What a row changes, the numbers that the report gives by column, and the row's configuration."""

    name: str
    change: str
    reported: Mapping[str, Reported]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A study; ``tolerance`` is the difference up to which a share counts as a match.

    With less than the report's budget only rows that have ``learned`` get a verdict. ``curves`` has the rows that are
    drawn together, by what they compare.
    """

    name: str
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

    def expression(self, name: str, form: str) -> str:
        """What a column measures in this form; a name that is no column's is an expression itself."""
        return next((column.measures[form] for column in self.columns if column.key == name), name)


def studies() -> list[str]:
    """Names of the studies."""
    return sorted(path.stem for path in (CONFIG_DIR / "study").glob("*.yaml"))


def load_study(name: str) -> Study:
    """Read ``conf/study/NAME.yaml``.

    Raises:
        RequestError: there is no such study.
    """
    one_of("study", name, studies())
    node = yaml.safe_load((CONFIG_DIR / "study" / f"{name}.yaml").read_text(encoding="utf-8"))
    rows = tuple(map(str, node["rows"]))
    return Study(
        name=name,
        **{key: node[key] for key in ("title", "report", "baseline", "tolerance", "notes")},
        rows=rows,
        columns=tuple(
            Column(key, column["heading"], {form: column[form] for form in FORMS})
            for key, column in node["columns"].items()
        ),
        claims=tuple(Claim(**claim) for claim in node["claims"]),
        learned=Learned(**node.get("learned", {})),
        curves={what: tuple(map(str, names)) for what, names in node.get("curves", {"rows": rows}).items()},
    )


def load_row(study: str, row: str, form: str) -> Row:
    """Compose ``conf/experiment/STUDY/ROW.yaml`` as it stands.

    Raises:
        RequestError: there is no such row or form.
    """
    one_of("form", form, FORMS)
    one_of(f"row of {study}", row, load_study(study).rows)
    config = resolved(compose([f"experiment={study}/{row}", f"study.form={form}"]))
    node = config["study"]
    reported = {key: tuple(value) if isinstance(value, list) else value for key, value in node["reported"].items()}
    return Row(row, str(node["change"]), reported, config)
