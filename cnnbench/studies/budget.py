"""How the runs differ from what was published: a smaller budget is said in the title of every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from cnnbench.results.collect import Run
from cnnbench.results.settings import parse_override
from cnnbench.studies.study import Row

OWN = ("experiment", "seed", "study.form", "name", "threads")  # overrides of every run of a study


def shortfall(rows: Sequence[Row], runs: Mapping[str, Sequence[Run]]) -> str:
    """``""`` for the published budget, else what there was less of: ``3 of 300 epochs, 5,000 training images``."""
    epochs: dict[tuple[int, int], None] = {}
    images: dict[int, None] = {}
    for row in rows:
        asked = row.config["trainer"]["max_epochs"]
        for run in runs.get(row.name, []):
            had = run.part("config", "trainer").get("max_epochs", asked)
            if had != asked:
                epochs[had, asked] = None
            limit = run.part("config", "data").get("limit_train")
            if limit is not None:
                images[limit] = None
    parts = [f"{had} of {asked} epochs" for had, asked in epochs] + [f"{limit:,} training images" for limit in images]
    return ", ".join(parts)


def overrides(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """What else was asked for than the rows as they stand, as one writes it; of a path only its last part."""
    seen: dict[str, None] = {}
    for run in (run for of_row in runs.values() for run in of_row):
        for text in run.overrides:
            key, value = parse_override(text)
            if key not in OWN and not key.startswith("sweep."):
                shown = PurePath(value).name if isinstance(value, str) and "/" in value else text.partition("=")[2]
                seen[f"{key}={shown}"] = None
    return list(seen)
