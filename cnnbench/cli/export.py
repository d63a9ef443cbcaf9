"""``cnnbench export RUN``: a finished run as files that other programs run, each compared with the run before it is kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.cli.parser import Parser
from cnnbench.utils.errors import RequestError, one_of

if TYPE_CHECKING:
    from cnnbench.inference.export import Run
    from cnnbench.inference.load import TrainedRun

BOTH = "both"
DESCRIPTION = "model.json"
COMPARED = 256  # images on which a file is compared with the run
TOLERANCE = 1e-4  # largest difference of a probability; rounding makes 1e-6
# Of a network with steps in it (a sign), where a rounding can turn one: the share of images that may differ by more.
TURNED = 0.02


class Differs(Exception):
    """A file does not say what the run says."""


def _parser() -> Parser:
    parser = Parser("export", "Write the network of a finished run as ONNX and torch.export files, and check them.")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a finished run")
    parser.add_argument("--format", default=BOTH, metavar="F", help="onnx, torch or both (both)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the files go (RUN/export)")
    parser.add_argument("--weights", default="best", metavar="W", help="best or last (best)")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line; returns 0, or 1 where a file did not say what the run says.

    Raises:
        RequestError: what was asked for is wrong.
    """
    asked = _parser().parse_args(list(argv))
    from cnnbench.inference.export import FORMATS
    from cnnbench.inference.load import load_run

    one_of("--format", asked.format, (*FORMATS, BOTH))
    formats = list(FORMATS) if asked.format == BOTH else [asked.format]
    for name in formats:
        FORMATS[name].check_packages()
    run = load_run(asked.run, asked.weights)
    out = asked.out or asked.run / "export"
    images, kind = images_to_compare(run)
    try:
        differences = export(run, describe(run, asked.run, asked.weights), out, formats, images)
    except Differs as error:
        print(f"cnnbench: {error}; nothing was written", file=sys.stderr)
        return 1
    print(out)
    for name, difference in differences.items():
        file = FORMATS[name].file
        size = (out / file).stat().st_size / 1e6
        print(f"  {file:<12} {size:6.2f} MB, at most {difference:.1e} from the run on {len(images)} {kind}")
    print(f"  {DESCRIPTION:<12} the {len(run.classes)} classes, the input, where it comes from")
    return 0


def images_to_compare(run: TrainedRun) -> tuple[np.ndarray, str]:
    """Images uint8 (N, size, size, channels), and what they are: the run's test set where it lies prepared, else noise."""
    from cnnbench.data.cache import prepared_images

    data = run.record["data"]
    cache = Path(run.record["config"]["data"]["cache"]).expanduser()
    images = prepared_images(cache, data["fingerprint"], "test", COMPARED)
    if images is not None:
        return images, "test images"
    shape = (COMPARED, run.image_size, run.image_size, run.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return noise, f"images of noise (its test set is no longer in {cache})"


def describe(run: TrainedRun, folder: Path, weights: str) -> dict[str, Any]:
    """What goes along with the files: classes, input and output, and which weights of which run these are."""
    side, channels = run.image_size, run.channels
    content = (folder / "checkpoints" / f"{weights}.ckpt").read_bytes()
    return {
        "classes": run.classes,
        "image_size": side,
        "channels": channels,
        "mean": run.normalize.mean,
        "std": run.normalize.std,
        "input": {"name": "images", "dtype": "uint8", "shape": ["batch", side, side, channels]},
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["batch", len(run.classes)]},
        "model": run.record["model"]["name"],
        "fingerprint": run.record["fingerprint"],
        "weights": weights,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }


def export(
    run: TrainedRun, description: dict[str, Any], out: Path, formats: Sequence[str], images: np.ndarray
) -> dict[str, float]:
    """Write and check the files, and then put all of them into ``out`` at once, over those that are there.

    Args:
        description: goes into each file, and beside them as model.json.
        formats: names in ``cnnbench.inference.export.FORMATS``.
        images: uint8 (N, image_size, image_size, channels), on which each file is compared with ``run``.

    Returns:
        The largest difference of a probability for each format.

    Raises:
        Differs: a file differs from the run; ``out`` is as it was.
        RequestError: the network cannot be exported, or ``out`` cannot be written.
    """
    from cnnbench.inference.export import FORMATS, trace

    program = trace(run)
    new = not out.exists()
    temporary = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out, prefix=".new."))
        (temporary / DESCRIPTION).write_text(json.dumps(description, ensure_ascii=False, indent=1) + "\n", "utf-8")
        differences = {}
        for name in formats:
            path = temporary / FORMATS[name].file
            FORMATS[name].write(program, path, description)
            differences[name] = compare(run, FORMATS[name].open(path), images, path.name)
        for path in sorted(temporary.iterdir()):
            path.replace(out / path.name)
        return differences
    except OSError as error:
        raise RequestError(f"--out {out} cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):  # where files are in it, it stays
                out.rmdir()


def compare(run: TrainedRun, program: Run, images: np.ndarray, name: str) -> float:
    """The largest difference of a probability between the run and a program, on batches of 1, 5 and all others.

    Raises:
        Differs: it is more than TOLERANCE, or not a number.
    """
    largest = []
    for batch in np.split(images, [1, 6]):
        if len(batch):
            expected = run.probabilities(batch).numpy()
            found = program(batch)
            if found.shape != expected.shape:
                raise Differs(f"{name} gives an array {found.shape} where the run gives {expected.shape}")
            largest.extend(np.abs(found - expected).max(axis=1))
    wrong = sum(not difference <= TOLERANCE for difference in largest)
    has_steps = any(getattr(module, "has_steps", False) for module in run.network.modules())
    if wrong > (TURNED * len(largest) if has_steps else 0):
        raise Differs(
            f"{name} gives other probabilities than the run for {wrong} of {len(largest)} images "
            f"(by up to {max(largest):.1e}; {TOLERANCE:.0e} is allowed)"
        )
    return float(max(largest))
