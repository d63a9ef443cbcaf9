"""Sets in one .npz file, as MedMNIST keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.data.imageset import ImageSet, Split, one_line
from cnnbench.utils.errors import RequestError


class Npz:
    """One .npz file with the MedMNIST keys: train_images, train_labels, test_images, test_labels, and perhaps val_*.

    Images are uint8 (N, H, W) or (N, H, W, C); labels are whole numbers from 0, (N,) or (N, 1). Class names may be
    given as an array of strings under ``classes``. Pickled content is refused.
    """

    def identity(self, location: Path | None) -> dict[str, Any]:
        if location is None or not location.is_file():
            raise RequestError(
                f"data.path={location} is not a file; it should be an .npz with train_images and train_labels"
            )
        status = location.stat()
        return {"set": "npz", "file": str(location.resolve()), "stat": (status.st_size, status.st_mtime_ns)}

    def read(self, location: Path | None) -> ImageSet:
        assert location is not None
        try:
            with np.load(location, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except Exception as error:
            raise RequestError(f"{location} cannot be read as an .npz of plain arrays ({one_line(error)})") from error
        missing = [key for key in ("train_images", "train_labels", "test_images", "test_labels") if key not in arrays]
        if missing:
            raise RequestError(
                f"{location} lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}"
            )
        splits = {}
        for name in ("train", "val", "test"):
            if f"{name}_images" in arrays:
                splits[name] = self._split(location, name, arrays[f"{name}_images"], arrays.get(f"{name}_labels"))
        count = max(int(split.labels.max(initial=0)) for split in splits.values()) + 1
        classes = [str(name) for name in arrays["classes"]] if "classes" in arrays else [str(i) for i in range(count)]
        if count > len(classes):
            raise RequestError(f"{location} has labels up to {count - 1} but only {len(classes)} class names")
        channels = {name: (*np.asarray(split.images).shape[3:], 1)[0] for name, split in splits.items()}
        if len(set(channels.values())) > 1:
            shown = ", ".join(f"{count} in {name}" for name, count in channels.items())
            raise RequestError(f"{location} has images of different channels: {shown}")
        return ImageSet(splits, classes, channels["train"])

    @staticmethod
    def _split(location: Path, name: str, images: np.ndarray, labels: np.ndarray | None) -> Split:
        if labels is None or len(labels) != len(images):
            raise RequestError(
                f"{location}: {name}_images has {len(images)} images, {name}_labels "
                f"{'is missing' if labels is None else f'{len(labels)} labels'}"
            )
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
            raise RequestError(
                f"{location}: {name}_images is {images.dtype} {images.shape}; it should be uint8 (N, H, W) "
                "or (N, H, W, 1 or 3)"
            )
        if labels.size != len(labels) or not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
            raise RequestError(
                f"{location}: {name}_labels is {labels.dtype} {labels.shape}; it should be one whole number "
                "from 0 for each image"
            )
        return Split(images, labels.reshape(-1).astype(np.int64))
