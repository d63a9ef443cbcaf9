"""The runs below some folders: finished, failed, unfinished and unreadable ones alike.

Runs on several splits of one train set are paired by seed and split, and splits share images.
"""

import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from cnnbench.analysis.metric_names import COSTS
from cnnbench.analysis.statistics import Difference, Summary, compare, finite_mean, finite_values, summarise, to_number
from cnnbench.config.settings import SEED, SPLIT, settings_of
from cnnbench.utils.console import print_error
from cnnbench.utils.errors import RequestError
from cnnbench.utils.npz_files import read_npz
from cnnbench.utils.record import PREDICTIONS_FILE, RECORD_FILE, Record, RecordError, read_record, read_yaml_file

COMPLETED, DIVERGED = "completed", "diverged"
PRUNED = "Pruned"  # the type of its record's error
# Columns of predictions.npz: integers and floats of one dimension
COLUMNS = {"row": "i1", "true": "i1", "predicted": "i1", "probability_true": "f1", "probability_predicted": "f1"}
MOST_BYTES = 2**31  # of all of them
report_once = cache(print_error)
INSIDE_A_RUN = {"checkpoints", "tensorboard", "figures", ".hydra"}  # folders that hold no run


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    path: Path
    status: str  # completed, failed, diverged, interrupted, unfinished (no record yet) or unreadable
    record: Record = field(repr=False)  # or as much of it as .hydra has of an unfinished run; may lack any key
    settings: Mapping[str, Any] = field(repr=False)  # flat (cnnbench.config.settings)

    @property
    def completed(self) -> bool:
        return self.status == COMPLETED

    @property
    def pruned(self) -> bool:
        """Whether its search ended it, because it had fallen behind."""
        return self.part("error").get("type") == PRUNED

    @property
    def seed(self) -> int | None:
        seed = self.record.get(SEED, self.settings.get(SEED))
        return seed if isinstance(seed, int) else None

    @property
    def split(self) -> tuple[Any, ...] | None:
        """Seed of the split, fold and number of folds; None where they make no difference, as with a validation set of
        the data's own."""
        share, folds, limit = (self.settings.get(f"data.{key}") for key in ("validation", "folds", "limit_train"))
        made = isinstance(share, float) or folds is not None or limit is not None
        return (*map(self.settings.get, SPLIT), folds) if made else None

    @property
    def replicate(self) -> str:
        """``seed 0``, or ``seed 0, fold 2, split seed 0`` where there are folds or another split than the first."""
        fold, split_seed = self.settings.get("data.fold"), (self.split or (0,))[0]
        parts = {"seed": self.seed, "fold": fold, "split seed": split_seed or None}
        return ", ".join(f"{name} {number}" for name, number in parts.items() if number is not None)

    @property
    def overrides(self) -> list[str]:
        given = self.record.get("overrides")
        return list(map(str, given)) if isinstance(given, list) else []

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
        if error := self.part("error"):
            kind = f"{error.get('type') or 'Error'}: " if self.status == "failed" else ""
            return " ".join(f"{kind}{error.get('message') or ''}".split()).rstrip(": ")
        return "no result.json: still running, or killed" if self.status == "unfinished" else "no reason recorded"

    def part(self, *keys: str) -> dict[str, Any]:
        """A mapping in the record, empty where it is missing or null."""
        return _mapping(self.record, *keys)

    def predictions(self, split: str = "test") -> dict[str, np.ndarray] | None:
        """What ``predictions.npz`` has of a split: row, true, predicted, probability_true, probability_predicted, and of image
        files file, (N,) each, and perhaps logits (N, classes); None where there is no such file, it is
        damaged, or it is more than a run writes."""
        if not (self.path / PREDICTIONS_FILE).is_file():  # a pipe would be waited for
            return None
        try:
            arrays = read_npz(self.path / PREDICTIONS_FILE, f"{split}_", MOST_BYTES)
        except RequestError as error:
            report_once(f"left out: {error}")
            return None
        found = {name.partition("_")[2]: array for name, array in arrays.items()}
        kinds = {name: found[name].dtype.kind + str(found[name].ndim) for name in COLUMNS if name in found}
        return found if kinds == COLUMNS and len({len(found[name]) for name in COLUMNS}) == 1 else None

    def series(self, name: str) -> list[float | None]:
        """A column of the history, one value an epoch; None where there was no finite value."""
        values = self.part("history").get(name)
        return [to_number(value) for value in values] if isinstance(values, list) else []

    @property
    def classes(self) -> list[str]:
        """Names of the classes, empty where the record has none."""
        names = self.part("per_class").get("classes")
        return [str(name) for name in names] if isinstance(names, list) else []

    def per_class(self, metric: str) -> dict[str, float | None]:
        """A metric by class name; empty where the record does not have one for each class."""
        values = self.part("per_class").get(metric)
        if not isinstance(values, list) or len(values) != len(self.classes):
            return {}
        return {name: to_number(value) for name, value in zip(self.classes, values, strict=True)}

    def final(self, metric: str) -> float | None:
        """A cost, or a metric after the last epoch; of the test set, which is measured once, the one value there is."""
        return self.cost(metric) if metric in COSTS else to_number(self.part("metrics").get(metric))

    def best(self, metric: str) -> float | None:
        """A metric at the epoch that the run's objective chose."""
        once = metric in COSTS or metric.startswith("test/")
        return self.final(metric) if once else to_number(self.part("best").get(metric))

    def value(self, metric: str) -> float | None:
        """A metric of the weights that the run stands for: of its best epoch, or of its last, as its protocol says."""
        splits = {name.partition("/")[0] for name in self.part("best")}  # those that were measured at that epoch
        last = self.part("protocol").get("weights") == "last" or metric.partition("/")[0] not in splits
        return self.final(metric) if last else self.best(metric)

    def cost(self, name: str) -> float | None:
        """One of ``COSTS``; seconds per epoch is the median, which the first epoch's warming up does not move."""
        if name == "seconds_per_epoch":
            return median(epochs) if (epochs := finite_values(self.part("time").get("epoch_seconds"))) else None
        return to_number({**self.part("model"), **self.part("time")}.get(name))

    def metrics(self) -> set[str]:
        """Names of the metrics and costs with a value."""
        known = {*self.part("metrics"), *self.part("best"), *COSTS} - {"epoch"}
        return {name for name in known if self.value(name) is not None}


def _mapping(node: Any, *keys: str) -> dict[str, Any]:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return dict(node) if isinstance(node, dict) else {}


def collect(folders: Sequence[Path]) -> list[Run]:
    """Every run in ``folders`` and below, each once, in the order of the paths; raises RequestError where a folder does not
    exist, or there is no run in any."""
    paths: dict[Path, None] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise RequestError(f"{folder} is {'not a folder' if folder.exists() else 'not there'}: no runs to report")
        paths.update(dict.fromkeys(path.resolve() for path in find_runs(folder)))
    if not paths:
        raise RequestError(f"{', '.join(map(str, folders))}: no runs below (a run's folder has {RECORD_FILE}, or "
                           ".hydra/ while it is unfinished)")  # fmt: skip
    return [read_run(path) for path in paths]


def find_runs(folder: Path) -> Iterator[Path]:
    """The folders of runs below ``folder`` and itself: with a record, or started by Hydra."""
    for here, below, files in os.walk(folder):
        if RECORD_FILE in files or (".hydra" in below and (Path(here) / ".hydra" / "overrides.yaml").exists()):
            yield Path(here)
        below[:] = sorted(name for name in below if name not in INSIDE_A_RUN)


def read_run(folder: Path) -> Run:
    """The run in ``folder``, whatever its state; nothing is raised for a record that cannot be read."""
    try:
        record = read_record(folder)
        status = str(record["status"])
    except FileNotFoundError:
        record, status = _read_hydra(folder), "unfinished"
    except (RecordError, OSError) as error:
        failure = {"type": "RecordError", "message": str(error)}
        record, status = {**_read_hydra(folder), "error": failure}, "unreadable"
    given = record.get("overrides")
    overrides = [item for item in given if isinstance(item, str)] if isinstance(given, list) else []
    settings = settings_of(_mapping(record, "config"), _mapping(record, "choices"), overrides)
    if isinstance(record.get(SEED), int):
        settings[SEED] = record[SEED]
    return Run(folder, status, record, settings)


def _read_hydra(folder: Path) -> Record:
    """What Hydra wrote when an unfinished run began: as much of a record as there is."""
    record: Record = {}
    for name in ("config", "overrides", "hydra"):
        with suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
            record[name] = read_yaml_file(folder / ".hydra" / f"{name}.yaml")
    choices = _mapping(record.pop("hydra", None), "hydra", "runtime", "choices")
    record["choices"] = {group: str(choice) for group, choice in choices.items()}  # as in records
    return record


def count_splits(runs: Sequence[Run]) -> int:
    """How many splits of the train set these runs are on; 0 where all use the whole of it."""
    return len({run.split for run in runs} - {None})


def overlap_of(runs: Sequence[Run]) -> float:
    """Images held out, or else those of the test set, over images trained on, as ``statistics.variance_of_mean`` takes it;
    0 where all are on one split, 1 where no record says."""
    if count_splits(runs) < 2:
        return 0.0
    counts = [run.part("data") for run in runs]
    shares = [(of.get("val") or of.get("test") or of["train"]) / of["train"] for of in counts if of.get("train")]
    return finite_mean(shares) or 1.0


def by_replicate(runs: Sequence[Run], overlap: float | None = None) -> dict[tuple[Any, Hashable], list[Run]]:
    """The runs by (seed, split), or with an ``overlap`` of 0, which is otherwise their own, by (seed, None). Those of one
    seed and split are one observation, their mean: they differ in what ``--ignore`` names, and share the luck of their
    seed. Where a seed is unknown nothing can be paired, and every run stands for itself, by its path."""
    known, overlap = all(run.seed is not None for run in runs), overlap_of(runs) if overlap is None else overlap
    found: dict[tuple[Any, Hashable], list[Run]] = {}
    for run in runs:
        found.setdefault((run.seed if known else run.path, run.split if overlap else None), []).append(run)
    return found


def summarise_runs(runs: Sequence[Run], value: Callable[[Run], float | None]) -> Summary:
    """Mean, deviation and interval of what ``value`` says of each run."""
    found = by_replicate(runs, overlap := overlap_of(runs))
    return summarise((finite_mean(map(value, of)) for of in found.values()), [split for _, split in found], overlap)


def difference_of(runs: Sequence[Run], others: Sequence[Run], metric: str) -> Difference:
    """The runs of one configuration against those of another, paired by seed and split where these are shared."""
    overlap = overlap_of([*runs, *others])
    sides = (by_replicate(of, overlap).items() for of in (runs, others))
    first, second = ({key: finite_mean(run.value(metric) for run in of) for key, of in side} for side in sides)
    return compare(first, second, overlap)
