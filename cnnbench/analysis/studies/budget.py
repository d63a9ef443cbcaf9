"""How the runs differ from what was published, as the title of every table tells it."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Final, Literal, NamedTuple

from cnnbench.analysis.runs import Run
from cnnbench.analysis.studies.study import Row
from cnnbench.config.overrides import parse_override

OWN = ("experiment", "seed", "study.form", "name", "threads")  # overrides of every run of a study
IMAGES = {"MNIST": 60_000, "CIFAR10": 50_000, "CIFAR100": 50_000}  # in the train sets of the studies
OTHER: Final = "other images"
SAME = 0.01  # a split is stratified, so that its size is not exact


class Change(NamedTuple):
    """Something of which a run had another amount than its row asks for; of another set, less and more mean nothing."""

    had: int
    text: str  # with {} for what it had
    kind: Literal["smaller", "larger", "other images"]
    less: bool  # so that the run may not have come as far as the report's


def budget(rows: Sequence[Row], runs: Mapping[str, Sequence[Run]]) -> str:
    """``""`` for the published budget, else what is different: ``a smaller budget: 3 of 300 epochs``, and after that
    ``other images: ...``. Read from the records, because a run can end early or see less for many reasons; of one that
    diverged or failed counts what it was to train."""
    changes: dict[tuple[str, str], list[int]] = {}
    for change in (change for row in rows for run in runs.get(row.name, []) for change in _changes(row, run)):
        changes.setdefault((change.text, change.kind), []).append(change.had)
    kinds = {kind for _, kind in changes} - {OTHER}
    article = f"a {kinds.pop()}" if len(kinds) == 1 else "another"
    told: dict[str, list[str]] = {f"{article} budget": [], OTHER: []}
    for (text, kind), had in changes.items():
        span = " to ".join(f"{n:,}" for n in sorted({min(had), max(had)}))
        told[OTHER if kind == OTHER else f"{article} budget"].append(text.format(span))
    return "; ".join(f"{what}: {', '.join(texts)}" for what, texts in told.items() if texts)


def is_short(row: Row, runs: Sequence[Run]) -> bool:
    """Whether a run had less than its row asks for: fewer epochs, images (of whatever set) or steps."""
    return any(change.less for run in runs for change in _changes(row, run))


def _changes(row: Row, run: Run) -> Iterator[Change]:
    config, data, trainer = row.config.get("data", {}), run.part("data"), run.part("config", "trainer")
    asked = row.config["trainer"]["max_epochs"]
    trained = max((len(series) for series in run.part("history").values()), default=0) if run.completed else 0
    yield from _amount(trained or trainer.get("max_epochs", asked), asked, "epochs")

    images, source = data.get("train"), config.get("source")
    own = str(source.get("dataset") or source["_target_"].rpartition(".")[2]) if source else None
    whole = IMAGES.get(own or "")
    if whole is not None:
        validation = config["validation"] if isinstance(config["validation"], float) else 0.0
        whole = min(round(whole * (1 - validation)), config["limit_train"] or whole)
    if own is not None and data.get("name", own) != own:
        less = not images or (whole is not None and images < (1 - SAME) * whole)
        yield Change(images or 0, f"{data['name']} instead of {own} ({{}} training images)", OTHER, less)
    elif images is not None and whole is not None:
        yield from _amount(images, whole, "training images", allowed=SAME * whole)
    elif (limit := run.part("config", "data").get("limit_train")) is not None:
        yield Change(limit, "{} training images", "smaller", True)

    # epochs that end before all images were seen, as with ``trainer.limit_train_batches``
    batch, steps = run.part("config", "data").get("batch_size"), run.series("step")[:1] if run.completed else []
    if images and batch and steps and steps[0]:
        all_steps = math.ceil(images / (batch * trainer.get("accumulate_grad_batches", 1)))
        yield from _amount(min(int(steps[0]), all_steps), all_steps, "steps an epoch", allowed=1)


def _amount(had: int, asked: int, unit: str, allowed: float = 0) -> Iterator[Change]:
    if abs(had - asked) > allowed:
        yield Change(had, f"{{}} of {asked:,} {unit}", "smaller" if had < asked else "larger", had < asked)


def overrides(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """What else was asked for than the rows as they stand, as one writes it; of a path only its last part."""
    shown = []
    for text in (text for of_row in runs.values() for run in of_row for text in _asked(run)):
        key, value = parse_override(text)
        is_path = isinstance(value, str) and "/" in value
        shown.append(f"{key}={PurePath(value).name if is_path else text.partition('=')[2]}")
    return list(dict.fromkeys(shown))


def common_overrides(runs: Iterable[Run]) -> list[str]:
    """The overrides that all of these runs had, as they were given."""
    first, *others = [_asked(run) for run in runs] or [[]]
    return [text for text in first if all(text in other for other in others)]


def _asked(run: Run) -> list[str]:
    keys = ((parse_override(text)[0], text) for text in run.overrides)
    return [text for key, text in keys if key not in OWN and not key.startswith("sweep.")]
