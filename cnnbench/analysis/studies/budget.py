"""How the runs differ from what was published, as the title of every table tells it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from cnnbench.analysis.runs import Run
from cnnbench.analysis.studies.study import Row
from cnnbench.config.overrides import parse_override

OWN = ("experiment", "seed", "study.form", "name", "threads")  # overrides of every run of a study
IMAGES = {"MNIST": 60_000, "CIFAR10": 50_000, "CIFAR100": 50_000}  # in the train sets of the studies
SAME = 0.01  # a split is stratified, so that its size is not exact


@dataclass(frozen=True)
class Amount:
    """Something of which a run had another amount than its row asks for; of another set, less and more mean nothing."""

    had: int
    text: str  # with {} for what it had
    change: Literal["smaller", "larger", "another"]
    less: bool  # so that the run may not have come as far as the report's


def budget(rows: Sequence[Row], runs: Mapping[str, Sequence[Run]]) -> str:
    """``""`` for the published budget, else what is different: ``a smaller budget: 3 of 300 epochs``.

    Read from the records, because a run can end early or see less for many reasons. A run that diverged or failed says
    nothing with its last epoch; of it counts what it was to train.
    """
    had: dict[tuple[str, str], list[int]] = {}
    for amount in (amount for row in rows for run in runs.get(row.name, []) for amount in _amounts(row, run)):
        had.setdefault((amount.text, amount.change), []).append(amount.had)
    changes = {change for _, change in had}
    kind = "another" if changes not in ({"smaller"}, {"larger"}) else f"a {changes.pop()}"
    told = [text.format(_range(values)) for (text, _), values in had.items()]
    return f"{kind} budget: {', '.join(told)}" if told else ""


def is_short(row: Row, runs: Sequence[Run]) -> bool:
    """Whether a run had less than its row asks for: fewer epochs, images (of whatever set) or steps."""
    return any(amount.less for run in runs for amount in _amounts(row, run))


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _amounts(row: Row, run: Run) -> list[Amount]:
    return [*_epochs(row, run), *_images(row, run), *_steps(run)]


def _epochs(row: Row, run: Run) -> list[Amount]:
    asked = row.config["trainer"]["max_epochs"]
    trained = max((len(series) for series in run.part("history").values()), default=0) if run.completed else 0
    return _amount(trained or run.part("config", "trainer").get("max_epochs", asked), asked, "epochs")


def _images(row: Row, run: Run) -> list[Amount]:
    config, data = row.config.get("data", {}), run.part("data")
    own, images = _set_name(config), data.get("train")
    whole = _train_images(own, config)
    if own is not None and data.get("name", own) != own:
        less = not images or (whole is not None and images < (1 - SAME) * whole)
        return [Amount(images or 0, f"{data['name']} instead of {own} ({{}} training images)", "another", less)]
    if images is None or whole is None:
        limit = run.part("config", "data").get("limit_train")
        return [] if limit is None else [Amount(limit, "{} training images", "smaller", True)]
    return _amount(images, whole, "training images") if abs(images - whole) > SAME * whole else []


def _steps(run: Run) -> list[Amount]:
    """Epochs that end before all images were seen, as with ``trainer.limit_train_batches``."""
    images, batch = run.part("data").get("train"), run.part("config", "data").get("batch_size")
    steps = run.series("step")[:1] if run.completed else []
    if not images or not batch or not steps or not steps[0]:
        return []
    whole = math.ceil(images / (batch * run.part("config", "trainer").get("accumulate_grad_batches", 1)))
    return _amount(int(steps[0]), whole, "steps an epoch") if steps[0] < whole - 1 else []


def _amount(had: int, asked: int, of: str) -> list[Amount]:
    if had == asked:
        return []
    return [Amount(had, f"{{}} of {asked:,} {of}", "smaller" if had < asked else "larger", had < asked)]


def _set_name(data: Mapping[str, Any]) -> str | None:
    """The set's name as a record has it; None where the configuration does not say."""
    source = data.get("source")
    return str(source.get("dataset") or source["_target_"].rpartition(".")[2]) if source else None


def _train_images(name: str | None, data: Mapping[str, Any]) -> int | None:
    """Training images of a row as it stands, where its set's size is known."""
    count = IMAGES.get(name or "")
    if count is None:
        return None
    share = data["validation"] if isinstance(data["validation"], float) else 0.0
    return min(round(count * (1 - share)), data["limit_train"] or count)


def overrides(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """What else was asked for than the rows as they stand, as one writes it; of a path only its last part."""
    seen: dict[str, None] = {}
    for run in (run for of_row in runs.values() for run in of_row):
        for text in _asked(run):
            key, value = parse_override(text)
            shown = PurePath(value).name if isinstance(value, str) and "/" in value else text.partition("=")[2]
            seen[f"{key}={shown}"] = None
    return list(seen)


def common_overrides(runs: Iterable[Run]) -> list[str]:
    """The overrides that all of these runs had, as they were given."""
    asked = [_asked(run) for run in runs]
    return [text for text in asked[0] if all(text in other for other in asked)] if asked else []


def _asked(run: Run) -> list[str]:
    keys = ((parse_override(text)[0], text) for text in run.overrides)
    return [text for key, text in keys if key not in OWN and not key.startswith("sweep.")]
