"""``cnnbench predict RUN IMAGE…``: what a finished run says of image files."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.cli.parser import Parser
from cnnbench.utils.errors import RequestError, one_of

if TYPE_CHECKING:
    from cnnbench.inference.load import TrainedRun

FORMATS = ("table", "json", "csv")
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Prediction:
    """Of one image: (class, probability) of the likeliest classes, the likeliest first."""

    file: str
    top: list[tuple[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        name, confidence = self.top[0]
        top = [{"class": name, "confidence": probability} for name, probability in self.top]
        return {"file": self.file, "class": name, "confidence": confidence, "top": top}


def _parser() -> Parser:
    parser = Parser("predict", "Classify images with the network of a finished run.")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a finished run")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, folders, or - for standard input")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes shown of each image (3)")
    parser.add_argument("--format", default="table", metavar="F", help=f"{', '.join(FORMATS)} (table)")
    parser.add_argument("--weights", default="best", metavar="W", help="best or last (best)")
    parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="images at a time (256)")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also draw the images with their classes (.png)")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line; returns 0, or 1 where a file could not be read.

    Raises:
        RequestError: what was asked for is wrong.
    """
    asked = _parser().parse_args(list(argv))
    one_of("--format", asked.format, FORMATS)
    for name in ("top", "batch_size"):
        if getattr(asked, name) < 1:
            raise RequestError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(asked, name)}")
    files = find_images(asked.images)
    from cnnbench.inference.load import load_run

    run = load_run(asked.run, asked.weights)
    predictions, images, unread = [], [], 0
    for start in range(0, len(files), asked.batch_size):
        names, pixels = [], []
        for file in files[start : start + asked.batch_size]:
            try:
                pixels.append(read_image(file, run))
                names.append(file)
            except RequestError as error:
                unread += 1
                print(f"cnnbench: {error}", file=sys.stderr)
        if names:
            predictions += predict(run, names, np.stack(pixels), asked.top)
            images += pixels if asked.sheet else []
    if predictions or asked.format == "json":
        print(RENDERERS[asked.format](predictions))
    if asked.sheet and predictions:
        draw_sheet(asked.sheet, images, predictions)
    return 1 if unread else 0


def find_images(asked: Sequence[str]) -> list[str]:
    """The files that are asked for, of a folder all images in it and below; those that cannot be read are among them.

    Raises:
        RequestError: none of them is there, or a folder has no images.
    """
    from cnnbench.data.sources import image_files

    files: list[str] = []
    for name in asked:
        if name == STANDARD_INPUT or not Path(name).is_dir():
            files.append(name)
            continue
        try:
            found = sorted(file.path for file in image_files(name))
        except OSError as error:
            raise RequestError(f"the folder {error.filename} cannot be read ({error.strerror})") from error
        if not found:
            raise RequestError(f"there is no image in the folder {name}")
        files += found
    missing = [name for name in files if name != STANDARD_INPUT and not Path(name).exists()]
    if len(missing) == len(files):
        raise RequestError(f"{', '.join(missing[:3])}{', ...' * (len(missing) > 3)}: not there")
    return files


def read_image(file: str, run: TrainedRun) -> np.ndarray:
    """One image as the run's training had it, uint8 (size, size, channels); raises RequestError naming the file."""
    from cnnbench.data.decode import decode_image

    if file != STANDARD_INPUT and not Path(file).exists():
        raise RequestError(f"{file} {'is a link to nothing' if Path(file).is_symlink() else 'is not there'}")
    source: Any = io.BytesIO(sys.stdin.buffer.read()) if file == STANDARD_INPUT else Path(file)
    try:
        return decode_image(source, run.image_size, run.channels, resize=True)
    except RequestError as error:
        if file == STANDARD_INPUT:
            raise RequestError("what came on standard input cannot be decoded as an image") from error
        raise


def predict(run: TrainedRun, files: Sequence[str], images: np.ndarray, top: int = 3) -> list[Prediction]:
    """Classify images, uint8 (N, size, size, channels); the ``top`` likeliest classes of each."""
    best = run.probabilities(images).topk(min(top, len(run.classes)), dim=1)
    return [
        Prediction(file, [(run.classes[i], p) for i, p in zip(classes, values, strict=True)])
        for file, classes, values in zip(files, best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def as_table(predictions: Sequence[Prediction]) -> str:
    """A line an image: file, class, confidence, and the next likeliest."""
    rows = [("file", "class", "confidence", "next")]
    for one in predictions:
        (name, confidence), *others = one.top
        rows.append((one.file, name, f"{confidence:.1%}", ", ".join(f"{n} {p:.1%}" for n, p in others)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(wide) for text, wide in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_json(predictions: Sequence[Prediction]) -> str:
    """A list with an object an image: file, class, confidence, top."""
    return json.dumps([one.as_dict() for one in predictions], ensure_ascii=False, indent=1)


def as_csv(predictions: Sequence[Prediction]) -> str:
    """file, class, confidence, then the classes and confidences of the next likeliest."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    depth = max(len(one.top) for one in predictions)
    more = [name for place in range(2, depth + 1) for name in (f"class_{place}", f"confidence_{place}")]
    writer.writerow(["file", "class", "confidence", *more])
    for one in predictions:
        writer.writerow([one.file, *(value for pair in one.top for value in pair)])
    return text.getvalue().rstrip("\n")


RENDERERS = {"table": as_table, "json": as_json, "csv": as_csv}


def draw_sheet(path: Path, images: Sequence[np.ndarray], predictions: Sequence[Prediction]) -> None:
    """A contact sheet: each image with its class and confidence.

    Raises:
        RequestError: the file cannot be written.
    """
    from PIL import Image

    from cnnbench.training.figures.predictions import Predicted, prediction_sheet

    names = sorted({one.top[0][0] for one in predictions})
    guess = np.array([names.index(one.top[0][0]) for one in predictions])
    sure = np.array([one.top[0][1] for one in predictions])
    sheet = prediction_sheet(Predicted(np.stack(images), guess, guess, sure), names, f"{len(images)} images")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"--sheet {path} cannot be written ({error})") from error
