"""Runs that differ only in their seed make one configuration; what tells configurations apart is their name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnbench.analysis.metric_names import plural
from cnnbench.analysis.runs import Run, overridden_keys
from cnnbench.config.overrides import parse_value
from cnnbench.config.settings import BUNDLES, SEED, canonical, find_factors, ignored, short_names, show
from cnnbench.utils.errors import RequestError, did_you_mean

CODE, DATA = "code", "data version"  # what runs should share; told apart like a factor where they do not
CONTEXT = (CODE, DATA)
EPOCHS, VALIDATION = "trainer.max_epochs", "data.validation"
ALWAYS_SHOWN = ("model", "data", "optimizer", "scheduler", "augment", EPOCHS, VALIDATION)


@dataclass(frozen=True)
class Configuration:
    """What varies, at one setting, and the runs that have it.

    Attributes:
        values: of the factors; one that this configuration does not have at all is missing.
        runs: the completed ones, one a seed, in the order of their seeds.
        incomplete: the failed, diverged, interrupted, unfinished and unreadable ones.
    """

    values: Mapping[str, Any]
    runs: tuple[Run, ...] = field(repr=False)
    incomplete: tuple[Run, ...] = field(repr=False)
    names: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def label(self) -> str:
        """``optimizer=adam optimizer.lr=0.1``: only what varies, as one would write it on the command line."""
        return " ".join(f"{key}={show(value)}" for key, value in self.values.items()) or "the only configuration"

    @property
    def short(self) -> str:
        """The label with each factor's last part alone where that is clear: ``lr=0.1``."""
        named = (f"{self.names.get(key, key)}={show(value)}" for key, value in self.values.items())
        return " ".join(named) or "the only configuration"


@dataclass(frozen=True)
class Grid:
    """Runs by configuration.

    Attributes:
        factors: names of what varies, those that were asked for first.
        configurations: in the order in which their first run was found.
        notes: what a reader must know before comparing them.
        shared: the settings that all runs have in common and that were asked for, or that say what was trained.
    """

    factors: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    notes: tuple[str, ...]
    shared: Mapping[str, Any]

    @property
    def runs(self) -> list[Run]:
        """Every completed run that counts."""
        return [run for configuration in self.configurations for run in configuration.runs]

    @property
    def incomplete(self) -> list[tuple[Configuration, Run]]:
        """Every run that did not complete."""
        return [(configuration, run) for configuration in self.configurations for run in configuration.incomplete]

    def find(self, asked: str) -> Configuration:
        """The one configuration that ``asked`` (``optimizer=sgd lr=0.1``, full or short names) names.

        Raises:
            RequestError: none or several do; the message says which there are.
        """
        short = {name: key for key, name in short_names(self.factors).items()}
        wanted: dict[str, Any] = {}
        for text in asked.replace(",", " ").split() if "[" not in asked else asked.split():
            key, equals, value = text.partition("=")
            key = short.get(key, key)
            if not equals or key not in self.factors:
                near = did_you_mean(key, [*self.factors, *short])
                known = ", ".join(self.factors) or "nothing"
                raise RequestError(f"{asked!r} names no configuration: what varies here is {known}{near}")
            wanted[key] = parse_value(value)
        matching = [c for c in self.configurations if all(_same(c.values, key, wanted[key]) for key in wanted)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            several = "; ".join(c.label for c in matching[:6]) + (" ..." if len(matching) > 6 else "")
            raise RequestError(f"{asked!r} names {len(matching)} configurations, add to it: {several}")
        raise RequestError(f"{asked!r} names no configuration{did_you_mean(asked, self._labels())}")

    def _labels(self) -> list[str]:
        single = {f"{key}={show(value)}" for c in self.configurations for key, value in c.values.items()}
        return [*sorted(single), *(c.label for c in self.configurations)]


def _same(values: Mapping[str, Any], key: str, value: Any) -> bool:
    return key in values and (canonical(values[key]) == canonical(value) or show(values[key]) == show(value))


def group(runs: Sequence[Run], ignore: Iterable[str] = ()) -> Grid:
    """Group ``runs`` by what varies.

    Args:
        runs: of any status.
        ignore: factors to average over all the same (``code``, ``data version``, or a setting's key).

    Raises:
        RequestError: nothing of the name of one of ``ignore`` varies.
    """
    informed = [run for run in runs if run.part("config")] or list(runs)
    asked = overridden_keys(runs)
    choices = {name for run in runs for name in run.part("choices")}
    choices |= {name for name, node in ((n, v) for r in runs for n, v in r.part("config").items())
                if isinstance(node, Mapping)}  # fmt: skip
    settings = {run.path: {**run.settings, **_context(run)} for run in runs}
    found = find_factors([settings[run.path] for run in informed], choices, asked)
    found = _without_following_data(found, [settings[run.path] for run in informed])
    for name in ignore:
        if name not in found:
            raise RequestError(f"--ignore {name}: it does not vary{did_you_mean(name, found)}")
    factors = tuple(name for name in found if name not in ignore)
    notes = [*_notes(factors, runs), *(f"{name} varies and is averaged over, as asked." for name in ignore)]

    cells: dict[tuple[str | None, ...], list[Run]] = {}
    for run in runs:
        has = settings[run.path]
        cells.setdefault(tuple(canonical(has[f]) if f in has else None for f in factors), []).append(run)
    configurations = [_configuration(cell, settings, factors, notes) for cell in cells.values()]
    shared = _shared([settings[run.path] for run in informed], [*ALWAYS_SHOWN, *asked], factors)
    return Grid(factors, tuple(configurations), tuple(notes), shared)


def _context(run: Run) -> dict[str, str]:
    """Code and data version, where the record tells them."""
    environment, data = run.part("environment"), run.part("data")
    git, version = environment.get("git"), environment.get("cnnbench")
    found = {CODE: str(git)[:10] if git else f"v{version}" if version else None, DATA: data.get("fingerprint")}
    return {key: str(value) for key, value in found.items() if value}


def _without_following_data(factors: tuple[str, ...], settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Leave the data version out where the asked data settings explain it: another set has another fingerprint."""
    if DATA not in factors:
        return factors
    explaining = [key for key in factors if key == "data" or key.startswith("data.")]
    versions: dict[tuple[str, ...], set[str]] = {}
    for run in settings:
        if DATA in run:
            versions.setdefault(tuple(canonical(run.get(key)) for key in explaining), set()).add(run[DATA])
    explained = all(len(found) == 1 for found in versions.values())
    return tuple(key for key in factors if key != DATA) if explained else factors


def _configuration(
    cell: list[Run], settings: Mapping[Any, Mapping[str, Any]], factors: tuple[str, ...], notes: list[str]
) -> Configuration:
    counted: dict[Any, Run] = {}
    has = settings[cell[0].path]
    values = {key: has[key] for key in factors if key in has}
    names = short_names(factors)
    label = Configuration(values, (), (), names).short
    for run in (run for run in cell if run.completed):
        fingerprint = run.record.get("fingerprint")
        identity = (fingerprint, run.seed) if fingerprint else run.path
        first = counted.setdefault(identity, run)
        if first is not run:
            notes.append(f"{run.path.name} repeats {first.path.name} ({label}, seed {run.seed}): counted once"
                         f"{_disagreement(first, run)}.")  # fmt: skip
    others = [r for r in cell if not r.completed and (r.record.get("fingerprint"), r.seed) not in counted]
    repaired = sum(not r.completed for r in cell) - len(others)
    if repaired:
        notes.append(f"{label}: {plural(repaired, 'unsuccessful run')} repeated with success, not listed.")
    order = sorted(counted.values(), key=lambda r: (r.seed is None, r.seed or 0, str(r.path)))
    return Configuration(values, tuple(order), tuple(others), names)


def _disagreement(first: Run, second: Run) -> str:
    """Says so where two runs of the same settings and seed measured different things."""
    names = sorted(name for name in first.part("metrics") if first.final(name) != second.final(name))
    if not names:
        return ""
    shown = "test/accuracy" if "test/accuracy" in names else names[0]
    return f"; their results differ ({shown} {first.final(shown)} and {second.final(shown)})"


def _notes(factors: Iterable[str], runs: Sequence[Run]) -> list[str]:
    told = {
        CODE: "The runs were made by different versions of the code; they are told apart, not averaged.",
        DATA: "The runs saw different data under the same name; they are told apart, not averaged.",
        EPOCHS: "The runs were given different numbers of epochs; they are told apart, not averaged.",
        VALIDATION: "The runs were validated in different ways; their validation metrics do not compare.",
    }
    notes = [text for key, text in told.items() if key in factors]
    if any(run.part("environment").get("git_dirty") for run in runs):
        notes.append("Some runs were made with uncommitted changes to the code.")
    for key, name in (("torch", "torch versions"), ("device", "devices")):
        kinds = sorted({str(run.part("environment").get(key)) for run in runs if run.part("environment").get(key)})
        if len(kinds) > 1:
            notes.append(f"The runs were made with different {name} ({', '.join(kinds)}); they are not told apart.")
    if any(run.validated_on_test for run in runs):
        notes.append("Validation was on the test set (data.validation=test): every choice made by a validation metric "
                     "was made on the test set, and the best values are optimistic.")  # fmt: skip
    return notes


def _shared(settings: Sequence[Mapping[str, Any]], keys: Iterable[str], factors: Iterable[str]) -> dict[str, Any]:
    shared: dict[str, Any] = {}
    for key in dict.fromkeys(keys):
        values = {canonical(s[key]) for s in settings if key in s}
        if len(values) == 1 and key not in factors and key not in (SEED, *BUNDLES) and not ignored(key):
            shared[key] = next(s[key] for s in settings if key in s)
    return shared
