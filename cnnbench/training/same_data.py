"""A run belongs to the images that it began with, as to its configuration. Importing this does not import torch."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate

from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RecordError, read_record
from cnnbench.utils.torch_files import read_torch_file

if TYPE_CHECKING:
    from cnnbench.data.cache import PreparedSet


def refuse_changed_data(runs: Iterable[tuple[dict[str, Any], Path]]) -> None:
    """Compare the images that each configuration names with those that the run in its folder had, if there is one; for a
    finished one nothing is downloaded. Raises RequestError, with the number of images and how to continue, where they
    differ."""
    sets: dict[str, PreparedSet | None] = {}
    for node, folder in ((config["data"], folder) for config, folder in runs):
        before, has_finished = _fingerprint_of(folder)
        if before is None:
            continue
        from cnnbench.data.cache import find_prepared, prepare  # most commands need none of it

        cache, location = Path(node["cache"]).expanduser(), node.get("path") or node.get("root")
        options = {key: node[key] for key in ("duplicates", "value_range") if node.get(key) is not None}
        key = repr((node["source"], location, node["image_size"], options, has_finished))
        if key not in sets:
            sets[key] = None
            # without its images a finished run is what it was, and any other says itself that they are missing
            with suppress(RequestError):
                source, where = instantiate(node["source"]), Path(location).expanduser() if location else None
                if not (has_finished and getattr(source, "may_download", lambda _: False)(where)):
                    sets[key] = prepare(source, where, node["image_size"], cache, **options)
        now = sets[key]
        if now is not None and now.fingerprint != before:
            change = _describe_change(find_prepared(cache, before), now)
            wrong = f"had other images than {location or node['source']['_target_']} has now ({change})"
            remedy = "to go on with it, make them as they were; for a run with these, give another folder"
            raise RequestError(f"the run in {folder} {wrong}; {remedy} (hydra.run.dir, hydra.sweep.dir)")


def _fingerprint_of(folder: Path) -> tuple[str | None, bool]:
    """The fingerprint of the images that the run in ``folder`` has finished with, or would go on with from its newest
    checkpoint, None where it would start anew; and whether it has finished."""
    known = None
    with suppress(FileNotFoundError, RecordError):
        record = read_record(folder)
        known = (record.get("data") or {}).get("fingerprint")
        if record.get("status") == "completed":
            return known, True
    paths = [folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt")]
    for path in filter(Path.exists, paths):  # reading imports torch
        with suppress(OSError, ValueError, KeyError):  # a damaged one is reported when the run goes on
            return read_torch_file(path)["resume"]["sessions"][-1].get("data", known), False
    return None, False


def _describe_change(before: "PreparedSet | None", now: "PreparedSet") -> str:
    """How many images have come, gone and moved."""
    if before is None:
        return "what has changed is not known, for its images are no longer in the cache"
    old, new = _locate(before), _locate(now)
    both = old.keys() & new.keys()
    moved, changed = (sum(old[image][part] != new[image][part] for image in both) for part in (0, 1))
    came, went = len(new) - len(both), len(old) - len(both)
    here = f"{moved} images moved between splits, {changed} images changed class"
    return f"{came} images came, {went} images went, {here}"


def _locate(prepared: "PreparedSet") -> dict[int, tuple[str, str]]:
    """Split and class of each image, by its hash."""
    from cnnbench.data.imageset import digests

    where: dict[int, tuple[str, str]] = {}
    for split in ("train", "val", "test"):
        if f"{split}_labels" in prepared.arrays:
            names = [(split, prepared.classes[label]) for label in prepared.arrays[f"{split}_labels"]]
            where.update(zip(digests(prepared.arrays[f"{split}_images"]).tolist(), names, strict=True))
    return where
