"""What a finished run says of image files, as table, JSON, CSV or a sheet of the images."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.data.imageset import printable
from cnnbench.utils.console import cell, escape, print_error
from cnnbench.utils.errors import RequestError, refuse
from cnnbench.utils.record import finite_or_none

if TYPE_CHECKING:
    from cnnbench.inference.load import TrainedRun

STANDARD_INPUT = "-"
# Of one image: its file, class and confidence; true, the class that a folder above it names, and probability_true, None
# where none does; and under "top" class and confidence of the likeliest, that one first.
Prediction = dict[str, Any]


def find_images(names: Sequence[str]) -> list[str]:
    """The files that are named, of a folder all images in it and below; those that cannot be read are among them.
    Raises RequestError where none of them exists, or a folder has no images."""
    from cnnbench.data.folder import image_files

    files: list[str] = []
    for name in names:
        is_folder = name != STANDARD_INPUT and Path(name).is_dir()
        try:
            found = sorted(file.path for file in image_files(name)) if is_folder else [name]
        except OSError as error:
            raise RequestError(f"the folder {error.filename} cannot be read ({error.strerror})") from error
        if not found:
            raise RequestError(f"there is no image in the folder {name}")
        files += found
    missing = [name for name in files if name != STANDARD_INPUT and not Path(name).exists()]
    if len(missing) == len(files):
        raise RequestError(f"{', '.join(missing[:3])}{', ...' * (len(missing) > 3)}: not there")
    return files


def read_image(file: str, run: TrainedRun) -> np.ndarray | None:
    """One image as the run's training had it, uint8 (size, size, channels); what cannot be read is reported on stderr."""
    from cnnbench.data.decode import decode_image

    source: Any = io.BytesIO(sys.stdin.buffer.read()) if file == STANDARD_INPUT else Path(file)
    try:
        if file != STANDARD_INPUT and not source.exists():
            raise RequestError(f"{file} {'is a link to nothing' if source.is_symlink() else 'is not there'}")
        value_range = run.record["data"].get("value_range")  # of the whole set that it was trained on
        return decode_image(source, run.image_size, run.channels, resize=True, value_range=value_range)[0]
    except RequestError as error:
        print_error("what came on standard input cannot be decoded as an image" if file == STANDARD_INPUT else error)
        return None


def predict_files(
    run: TrainedRun, files: Sequence[str], top: int = 3, batch_size: int = 256, keep_images: bool = False
) -> tuple[list[Prediction], list[np.ndarray]]:
    """The ``top`` likeliest classes of each image file that can be read, and with ``keep_images`` the images."""
    predictions: list[Prediction] = []
    kept: list[np.ndarray] = []
    for start in range(0, len(files), batch_size):
        batch = ((file, read_image(file, run)) for file in files[start : start + batch_size])
        if not (read := [(file, image) for file, image in batch if image is not None]):
            continue
        names, images = zip(*read, strict=True)
        kept += images if keep_images else []
        probabilities = run.probabilities(np.stack(images))
        best, classes = (part.tolist() for part in probabilities.topk(min(top, len(run.classes))))
        for name, own, values, indices in zip(names, probabilities.tolist(), best, classes, strict=True):
            likeliest = [{"class": run.classes[i], "confidence": v} for i, v in zip(indices, values, strict=True)]
            true = next((folder.name for folder in Path(printable(name)).parents if folder.name in run.classes), None)
            known = {"true": true, "probability_true": None if true is None else own[run.classes.index(true)]}
            predictions.append({"file": printable(name), **likeliest[0], **known, "top": likeliest})
    return predictions, kept


def as_table(predictions: Sequence[Prediction]) -> str:
    """A line an image: file, class, confidence, and the next likeliest."""
    rows = [["file", "class", "confidence", "next"]]
    for one in predictions:
        others = ", ".join(f"{other['class']} {other['confidence']:.1%}" for other in one["top"][1:])
        rows.append([*map(escape, (one["file"], one["class"], f"{one['confidence']:.1%}", others))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def as_json(predictions: Sequence[Prediction]) -> str:
    """A list with an object an image: file, class, confidence, true, probability_true, top."""
    return json.dumps(finite_or_none(predictions), ensure_ascii=False, indent=1)


def as_csv(predictions: Sequence[Prediction]) -> str:
    """The columns of ``predictions.npz``, with names of classes, then the next likeliest and their probabilities. The true
    class is empty where no folder above the file has the name of one."""
    import pandas as pd

    ranks = range(2, len(predictions[0]["top"]) + 1)
    names = ["file", "true", "predicted", "probability_true", "probability_predicted"]
    names += [f"{name}_{rank}" for rank in ranks for name in ("predicted", "probability")]
    keys = ("file", "true", "class", "probability_true", "confidence")
    rows = [[*map(one.get, keys), *(v for likely in one["top"][1:] for v in likely.values())] for one in predictions]
    return pd.DataFrame(rows, columns=names, dtype=object).map(cell).to_csv(index=False).rstrip("\n")


FORMATS = {"table": as_table, "json": as_json, "csv": as_csv}


def draw_sheet(
    path: Path, predictions: Sequence[Prediction], images: Sequence[np.ndarray], explained: TrainedRun | None = None
) -> None:
    """A contact sheet: each image with its class and confidence, framed where a folder above it names another, and beside it
    the heat map of its class where a run is to be ``explained``; raises RequestError if it cannot be written."""
    from PIL import Image

    from cnnbench.training.figures import Predictions, prediction_sheet

    names = sorted({name for one in predictions for name in (one["class"], one["true"]) if name is not None})
    guess = np.array([names.index(one["class"]) for one in predictions])
    true = np.array([-1 if one["true"] is None else names.index(one["true"]) for one in predictions])
    confidence = np.array([one["confidence"] for one in predictions])
    pixels, title, columns = np.stack(images), f"{len(images)} images", 10
    if explained is not None:
        from cnnbench.training.grad_cam import TITLE, side_by_side

        classes = [explained.classes.index(one["class"]) for one in predictions]
        pixels = side_by_side(explained.network, explained.normalize, pixels, classes)
        title, columns = f"{title}, {TITLE}", 5
    sheet = prediction_sheet(Predictions(pixels, true, guess, confidence), names, title, columns)
    with refuse(f"--sheet {path} cannot be written", OSError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(path)
