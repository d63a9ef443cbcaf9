"""Columns of a table of images, and its splits, by their usual names."""

from collections.abc import Iterable, Mapping

from cnnbench.data.folder import SPLITS
from cnnbench.utils.errors import RequestError, did_you_mean, one_of

COLUMNS = {  # in any case
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path",
             "image", "image_path", "img", "image_id"),
    "image": ("image", "img"),
    "label": ("label", "labels", "class", "class_name", "target", "category"),
    "split": ("split", "set", "subset", "partition"),
}  # fmt: skip


def find_column(kind: str, wanted: str | None, names: Iterable[str], where: object) -> str | None:
    """The column that is ``wanted``, or the one with a usual name for this kind; None where there is none of splits.
    Raises RequestError, whose message begins with ``where``, where there is no such column."""
    names = list(names)
    lower = {name.strip().lower(): name for name in reversed(names)}
    found = wanted or next((lower[usual] for usual in COLUMNS[kind] if usual in lower), None)
    if found in names or (found is None and kind == "split"):
        return found
    missing = f"column {wanted!r}{did_you_mean(str(wanted), names)}" if wanted else f"known column of {kind}s"
    known = ", ".join(names)[:500] or "none"
    raise RequestError(f"{where} has no {missing}; choose data.source.{kind}_column from {known}")


def split_named(name: str, splits: Mapping[str, str] | None, where: object) -> str | None:
    """The split that has this name, in ``splits`` or else among the usual ones; None where ``splits`` leave it out.
    Raises RequestError where it is no usual one (beginning with ``where``), or ``splits`` have a key that is no split."""
    if splits is not None:
        return next((one_of("data.splits", split, SPLITS) for split, own in splits.items() if own == name), None)
    if split := next((split for split, usual in SPLITS.items() if name.lower() in usual), None):
        return split
    known = ", ".join(name for usual in SPLITS.values() for name in usual)
    raise RequestError(f"{where} has a split {name!r}, none of {known}; say data.splits={{train: NAME, test: NAME}}")
