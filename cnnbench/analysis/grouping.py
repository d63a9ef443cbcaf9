"""Runs that differ only in their seed and split make one configuration, named by the settings that vary."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnbench.analysis.metric_names import plural
from cnnbench.analysis.runs import Run
from cnnbench.config import settings as flat_settings
from cnnbench.config.overrides import parse_override, parse_value
from cnnbench.config.settings import NEW_KEYS, SPLIT, Settings, canonical, changes_result, short_names, show
from cnnbench.utils.errors import RequestError, did_you_mean

CODE, DATA = "code", "data version"  # what runs should share; a factor where they do not
CONTEXT = (CODE, DATA)
DATA_SETS = ("data", "data.path", "data.name")  # what tells data sets apart: configurations are compared within each
EPOCHS, VALIDATION = "trainer.max_epochs", "data.validation"
ALWAYS_SHOWN = ("model", "data", "optimizer", "scheduler", "augment", EPOCHS, VALIDATION)
# What a reader must know before comparing runs between which these vary
VARYING = {
    CODE: "The runs were made by different versions of the code; they are told apart, not averaged.",
    DATA: "The runs saw different data under the same name; they are told apart, not averaged.",
    EPOCHS: "The runs were given different numbers of epochs; they are told apart, not averaged.",
    VALIDATION: "The runs were validated in different ways; their validation metrics do not compare.",
}


@dataclass(frozen=True)
class Configuration:
    """What varies, at one setting, and the runs that have it."""

    values: Settings  # of the factors; one that this configuration does not have at all is missing
    runs: tuple[Run, ...] = field(repr=False)  # the completed ones, one a seed and split, in the order of their seeds
    incomplete: tuple[Run, ...] = field(repr=False)  # failed, diverged, interrupted, unfinished and unreadable ones
    names: Mapping[str, str] = field(repr=False, default_factory=dict)  # of the factors in short
    tries: int = 1  # of which it was chosen by validation

    @property
    def label(self) -> str:
        """``optimizer=adam optimizer.lr=0.1``: only what varies, as one would write it on the command line."""
        return " ".join(f"{key}={show(value)}" for key, value in self.values.items()) or "the only configuration"

    @property
    def short(self) -> str:
        """The label with each factor's last part alone where that is clear: ``lr=0.1``."""
        return self._named(self.values) or "the only configuration"

    @property
    def data_set(self) -> str:
        """The part of it that tells data sets apart, ``data=mnist``; empty where all runs are of one."""
        return self._named(key for key in self.values if key in DATA_SETS)

    @property
    def setting(self) -> str:
        """The other part, which is the same for several data sets."""
        return self._named(key for key in self.values if key not in DATA_SETS) or "the only configuration"

    def _named(self, keys: Iterable[str]) -> str:
        return " ".join(f"{self.names.get(key, key)}={show(self.values[key])}" for key in keys)


@dataclass(frozen=True)
class Grid:
    """Runs by configuration."""

    factors: tuple[str, ...]  # names of what varies, those that overrides name first
    configurations: tuple[Configuration, ...]  # in the order of their first runs
    notes: tuple[str, ...]  # what a reader must know before comparing them
    shared: Settings  # what all runs have in common of what overrides name or what says what was trained
    chosen_over: tuple[str, ...] = ()  # factors of which each configuration has its best value (choose_best)
    chosen_by: str = ""  # the metric that chose
    set_aside: tuple[Configuration, ...] = ()  # those that were not chosen

    @property
    def runs(self) -> list[Run]:
        return [run for configuration in self.configurations for run in configuration.runs]

    @property
    def full_names(self) -> dict[str, str]:
        """The factors by their short names."""
        return {name: key for key, name in short_names(self.factors).items()}

    @property
    def incomplete(self) -> list[tuple[Configuration, Run]]:
        return [(c, run) for c in (*self.configurations, *self.set_aside) for run in c.incomplete]

    def find(self, text: str) -> Configuration:
        """The configuration that ``text`` (``optimizer=sgd lr=0.1``) names, of several data sets that of the first;
        RequestError where it names none, or several on one data set."""
        if named := [c for c in self.configurations if text in (c.label, c.short, c.setting)]:
            return named[0]  # whatever is in its values
        matching = list(self.configurations)
        for part in (text if "[" in text else text.replace(",", " ")).split():
            name, equals, written = part.partition("=")
            key, value = self.full_names.get(name, name), parse_value(written)
            if not equals or key not in self.factors:
                near = did_you_mean(name, [*self.factors, *self.full_names])
                known = ", ".join(self.factors) or "nothing"
                raise RequestError(f"{text!r} names no configuration: what varies here is {known}{near}")
            same = {canonical(value), show(value)}
            matching = [c for c in matching
                        if key in c.values and same & {canonical(c.values[key]), show(c.values[key])}]  # fmt: skip
        if len({c.setting for c in matching}) == 1:
            return matching[0]
        if matching:
            several = "; ".join(c.label for c in matching[:6]) + (" ..." if len(matching) > 6 else "")
            raise RequestError(f"{text!r} names {len(matching)} configurations, add to it: {several}")
        single = sorted({f"{key}={show(value)}" for c in self.configurations for key, value in c.values.items()})
        near = did_you_mean(text, [*single, *(c.label for c in self.configurations)])
        raise RequestError(f"{text!r} names no configuration{near}")


def group(runs: Sequence[Run], ignore: Collection[str] = ()) -> Grid:
    """Group ``runs``, of any status, by what varies, but for the factors in ``ignore``, which are averaged over; raises
    RequestError where one of them does not vary."""
    settings = {run.path: {**run.settings, **_context(run)} for run in runs}
    informed = [settings[run.path] for run in runs if run.part("config")] or list(settings.values())
    overridden = list(dict.fromkeys(parse_override(text)[0] for run in runs for text in run.overrides))
    groups = {name for run in runs for name in run.part("choices")}
    groups |= {name for run in runs for name, node in run.part("config").items() if isinstance(node, Mapping)}
    varying = flat_settings.find_factors(informed, groups, overridden)
    if DATA in varying and _explains_data_version([f for f in varying if f.split(".")[0] == "data"], informed):
        varying = tuple(name for name in varying if name != DATA)
    if all(run.split is not None for run in runs if run.part("config")):
        varying = tuple(name for name in varying if name not in SPLIT)
    for name in ignore:
        if name not in varying:
            raise RequestError(f"--ignore {name}: it does not vary{did_you_mean(name, varying)}")
    factors = tuple(name for name in varying if name not in ignore)
    notes = [
        *_notes(factors, runs),
        *(f"{name} varies and is averaged over, as asked: runs of one seed count as one." for name in ignore),
    ]
    cells: dict[tuple[str | None, ...], list[Run]] = {}
    for run in runs:
        cells.setdefault(cell_of(settings[run.path], factors), []).append(run)
    own = {run.path: cell_of(settings[run.path], ignore) for run in runs}  # code, say, which no fingerprint has
    configurations = [_configuration(cell, settings[cell[0].path], factors, notes, own) for cell in cells.values()]
    shared: dict[str, Any] = {}
    for key in (*ALWAYS_SHOWN, *overridden):
        values = {canonical(own[key]): own[key] for own in informed if key in own}
        if len(values) == 1 and key not in (*factors, *flat_settings.BUNDLES) and not flat_settings.ignored(key):
            shared[key] = values.popitem()[1]
    return Grid(factors, tuple(configurations), tuple(notes), shared)


def cell_of(settings: Settings, factors: Iterable[str]) -> tuple[str | None, ...]:
    """What is equal where the ``factors`` are."""
    return tuple(canonical(settings[f]) if f in settings else None for f in factors)


def _context(run: Run) -> dict[str, str]:
    """Code and data version, where the record has them."""
    git, version = (run.part("environment").get(key) for key in ("git", "cnnbench"))
    context = {CODE: str(git)[:10] if git else version and f"v{version}", DATA: run.part("data").get("fingerprint")}
    return {key: str(value) for key, value in context.items() if value}


def _explains_data_version(keys: Sequence[str], settings: Iterable[Settings]) -> bool:
    """Whether runs that agree in ``keys`` saw the same data: another set has another fingerprint."""
    versions: dict[tuple[str, ...], str] = {}
    known = (run for run in settings if DATA in run)
    return all(versions.setdefault(tuple(canonical(run.get(k)) for k in keys), run[DATA]) == run[DATA] for run in known)


def _configuration(
    cell: list[Run], settings: Settings, factors: Sequence[str], notes: list[str], own: Mapping[Path, Any]
) -> Configuration:
    """The configuration of the runs of a cell; adds to ``notes`` which of them do not count, for they repeat another, also
    in what ``own`` has of each."""
    values, names = {key: settings[key] for key in factors if key in settings}, short_names(factors)
    label = Configuration(values, (), (), names).short
    counted: dict[Any, Run] = {}
    for run in (run for run in cell if run.completed):
        first = counted.setdefault((_identity(run), own[run.path]), run)
        if first is not run:
            notes.append(f"{run.path.name} repeats {first.path.name} ({label}, {run.replicate}): counted once"
                         f"{_disagreement(first, run)}.")  # fmt: skip
    failed, done = [run for run in cell if not run.completed], {identity for identity, _ in counted}
    incomplete = [run for run in failed if _identity(run) not in done]
    if repeated := len(failed) - len(incomplete):
        notes.append(f"{label}: {plural(repeated, 'unsuccessful run')} repeated with success, not listed.")
    order = sorted(counted.values(), key=lambda r: (r.seed is None, r.seed or 0, str(r.path)))
    return Configuration(values, tuple(order), tuple(incomplete), names)


def _disagreement(first: Run, second: Run) -> str:
    """Says so where two runs of the same settings and seed measured different things."""
    names = sorted(name for name in first.part("metrics") if first.final(name) != second.final(name))
    if not names:
        return ""
    shown = "test/accuracy" if "test/accuracy" in names else names[0]
    return f"; their results differ ({shown} {show(first.final(shown))} and {show(second.final(shown))})"


def _identity(run: Run) -> Any:
    """What is equal of runs that do the same: their settings, as ``0`` and ``0.0`` have other fingerprints; the folder where
    the record has none."""
    if not run.record.get("fingerprint"):
        return run.path
    kept = {key: value for key, value in run.settings.items() if changes_result(key) and value != NEW_KEYS.get(key)}
    return frozenset((key, canonical(value)) for key, value in kept.items()), run.seed


def _notes(factors: Iterable[str], runs: Sequence[Run]) -> list[str]:
    notes = [note for key, note in VARYING.items() if key in factors]
    if any(run.part("environment").get("git_dirty") for run in runs):
        notes.append("Some runs were made with uncommitted changes to the code.")
    for key, name in (("torch", "torch versions"), ("device", "devices")):
        kinds = sorted({str(kind) for run in runs if (kind := run.part("environment").get(key))})
        if len(kinds) > 1:
            notes.append(f"The runs were made with different {name} ({', '.join(kinds)}); they are not told apart.")
    if any(run.validated_on_test for run in runs):
        notes.append("Validation was on the test set (data.validation=test): every choice made by a validation metric "
                     "was made on the test set, and the best values are optimistic.")  # fmt: skip
    return notes
