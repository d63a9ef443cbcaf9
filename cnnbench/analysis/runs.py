"""The runs below some folders: finished, failed, unfinished and unreadable ones alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from cnnbench.analysis.metric_names import COSTS
from cnnbench.analysis.statistics import finite_values, to_number
from cnnbench.config.overrides import parse_override
from cnnbench.config.settings import SEED, settings_of
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RECORD_FILE, Record, RecordError, read_record

COMPLETED = "completed"
PRUNED = "Pruned"  # the type of its record's error
INSIDE_A_RUN = {"checkpoints", "tensorboard", "figures", ".hydra"}  # folders that hold no run


@dataclass(frozen=True)
class Run:
    """One run's folder.

    Attributes:
        path: the folder.
        status: completed, failed, diverged, interrupted, unfinished (no record yet) or unreadable.
        record: what result.json says; of an unfinished run what .hydra tells; may lack any key.
        settings: what it was set to, flat (``cnnbench.config.settings``).
    """

    path: Path
    status: str
    record: Record = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)

    @property
    def completed(self) -> bool:
        """Whether the run ended as it should."""
        return self.status == COMPLETED

    @property
    def pruned(self) -> bool:
        """Whether the search that it is of ended it, because it had fallen behind."""
        return self.part("error").get("type") == PRUNED

    @property
    def seed(self) -> int | None:
        """The replicate."""
        seed = self.record.get(SEED, self.settings.get(SEED))
        return seed if isinstance(seed, int) else None

    @property
    def overrides(self) -> list[str]:
        """How it was asked for."""
        return [str(item) for item in self.record.get("overrides") or []]

    @property
    def objective(self) -> str | None:
        """The metric that chose its best epoch."""
        return self.part("protocol").get("objective") or self.part("config").get("objective")

    @property
    def validated_on_test(self) -> bool:
        """Whether its validation metrics were measured on the test set (data.validation=test)."""
        return self.part("data").get("validation", self.settings.get("data.validation")) == "test"

    @property
    def reason(self) -> str:
        """One line: why the run is not completed."""
        error = self.part("error")
        told = " ".join(f"{error.get('type') or 'Error'}: {error.get('message') or ''}".split()).rstrip(": ")
        if error:
            return told
        return "no result.json: still running, or killed" if self.status == "unfinished" else "no reason recorded"

    def part(self, *keys: str) -> dict[str, Any]:
        """A mapping in the record, empty where it is missing or null."""
        node: Any = self.record
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        return dict(node) if isinstance(node, dict) else {}

    def series(self, name: str) -> list[float | None]:
        """A column of the history, one value an epoch; None where there was no finite value."""
        values = self.part("history").get(name)
        return [to_number(value) for value in values] if isinstance(values, list) else []

    def final(self, metric: str) -> float | None:
        """A metric after the last epoch; of the test set, where it is measured once, the one value there is."""
        if metric in COSTS:
            return self.cost(metric)
        return to_number(self.part("metrics").get(metric))

    def best(self, metric: str) -> float | None:
        """A metric at the epoch that the run's objective chose."""
        if metric in COSTS or metric.startswith("test/"):
            return self.final(metric)
        return to_number(self.part("best").get(metric))

    def value(self, metric: str) -> float | None:
        """A metric of the weights that the run stands for: of its best epoch, or of its last, as its protocol says."""
        last = self.part("protocol").get("weights") == "last"
        return self.final(metric) if last or self.best(metric) is None else self.best(metric)

    def cost(self, name: str) -> float | None:
        """One of ``COSTS``; seconds per epoch is the median, which the first epoch's warming up does not move."""
        if name == "seconds_per_epoch":
            epochs = finite_values(self.part("time").get("epoch_seconds") or [])
            return median(epochs) if epochs else None
        return to_number({**self.part("model"), **self.part("time")}.get(name))

    def metrics(self) -> set[str]:
        """Names of the metrics with a value."""
        known = {*self.part("metrics"), *self.part("best"), *COSTS} - {"epoch"}
        return {name for name in known if self.value(name) is not None}


def collect(folders: Sequence[Path]) -> list[Run]:
    """Every run in ``folders`` and below, each once, in the order of the paths.

    Raises:
        RequestError: a folder does not exist, or there is no run in any.
    """
    paths: dict[Path, None] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise RequestError(f"{folder} is {'not a folder' if folder.exists() else 'not there'}: no runs to report")
        paths.update(dict.fromkeys(path.resolve() for path in find_runs(folder)))
    runs = [read_run(path) for path in paths]
    if not runs:
        shown = ", ".join(map(str, folders))
        raise RequestError(
            f"{shown}: no runs below (a run's folder has {RECORD_FILE}, or .hydra/ while it is unfinished)"
        )
    return runs


def read_run(folder: Path) -> Run:
    """The run in ``folder``, whatever its state; nothing is raised for a record that cannot be read."""
    path = folder / RECORD_FILE
    if path.exists():
        try:
            record = read_record(path)
        except (RecordError, OSError) as error:
            told = {"error": {"type": "RecordError", "message": str(error)}}
            return _run(folder, "unreadable", {**_hydra(folder), **told})
        return _run(folder, str(record["status"]), record)
    return _run(folder, "unfinished", _hydra(folder))


def _run(folder: Path, status: str, record: Record) -> Run:
    config, choices = record.get("config"), record.get("choices")
    overrides = [item for item in record.get("overrides") or [] if isinstance(item, str)]
    settings = settings_of(
        config if isinstance(config, Mapping) else {}, choices if isinstance(choices, Mapping) else {}, overrides
    )
    if isinstance(record.get(SEED), int):
        settings[SEED] = record[SEED]
    return Run(folder, status, record, settings)


def find_runs(folder: Path) -> Iterator[Path]:
    """The folders of runs below ``folder`` and itself: with a record, or begun by Hydra."""
    for here, below, files in os.walk(folder):
        if RECORD_FILE in files or (".hydra" in below and (Path(here) / ".hydra" / "overrides.yaml").exists()):
            yield Path(here)
        below[:] = sorted(name for name in below if name not in INSIDE_A_RUN)


def _hydra(folder: Path) -> Record:
    """What Hydra wrote when an unfinished run began: as much of a record as there is."""
    import yaml

    found: Record = {}
    for key, name in (("config", "config.yaml"), ("overrides", "overrides.yaml"), ("hydra", "hydra.yaml")):
        try:
            found[key] = yaml.safe_load((folder / ".hydra" / name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
    node: Any = found.pop("hydra", None)
    for key in ("hydra", "runtime", "choices"):
        node = node.get(key) if isinstance(node, Mapping) else None
    return {**found, "choices": node if isinstance(node, Mapping) else {}}


def overridden_keys(runs: Iterable[Run]) -> list[str]:
    """The keys that the runs' overrides name, each once, in their order."""
    return list(dict.fromkeys(parse_override(text)[0] for run in runs for text in run.overrides))
