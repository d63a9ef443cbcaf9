"""A finished run as files that need no cnnbench: ONNX and torch.export, each compared with the run before it is kept.

They take uint8 images and give probabilities, so that nobody can forget normalisation or softmax.
"""

import contextlib
import copy
import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from cnnbench.data.cache import PreparedSet, find_prepared
from cnnbench.data.views import mean_over_views, views
from cnnbench.inference.load import TrainedRun
from cnnbench.utils.console import print_info
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_json

INPUT, OUTPUT, BATCH = "images", "probabilities", "batch"
DESCRIPTION = "model.json"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
COMPARED = 256  # images on which a file is compared with the run
TOLERANCE = 1e-4  # largest difference of a probability; rounding makes 1e-6
Program = Callable[[np.ndarray], np.ndarray]  # uint8 (N, H, W, C) to float32 (N, classes)


class ExportDiffers(Exception):
    """A file gives other probabilities than the run."""


class Graph(nn.Module):
    """``TrainedRun.probabilities`` as one module; the argument's name is the input's name in the files."""

    def __init__(self, run: TrainedRun) -> None:
        super().__init__()
        # torch's own order in memory: the graph of a channels_last network has gathers in it that no runtime needs
        self.network = copy.deepcopy(run.network).to(memory_format=torch.contiguous_format)
        self.views = run.views
        self.scale, self.shift = nn.Buffer(run.normalize.scale.clone()), nn.Buffer(run.normalize.shift.clone())

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, C) to the probability of each class, float32 (N, classes)."""
        pixels = images.to(torch.float32) * self.scale + self.shift
        images = pixels.permute(0, 3, 1, 2).contiguous()
        parts = views(images, self.views, self.shift)
        logits = self.network(torch.cat(parts))  # at once, for int8 turns a weight round at each layer that has it
        if len(parts) > 1:
            logits = mean_over_views(logits.view(len(parts), -1, logits.shape[1]))
        return logits.float().softmax(dim=1)


@contextlib.contextmanager
def refuse_errors(problem: str) -> Iterator[None]:
    """Silence warnings; what is raised within becomes a RequestError: ``problem`` and the first line of the cause."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0][:200]
        raise RequestError(f"{problem} ({reason})") from error


def trace(run: TrainedRun) -> ExportedProgram:
    """The graph for any number of images; raises RequestError where torch cannot export the network."""
    example = torch.zeros(2, run.image_size, run.image_size, run.channels, dtype=torch.uint8)
    sizes = {INPUT: {0: torch.export.Dim(BATCH)}}
    with refuse_errors(f"torch cannot export {type(run.network).__name__}"), torch.no_grad():
        return torch.export.export(Graph(run).eval(), (example,), dynamic_shapes=sizes, strict=False)


def write_onnx(program: ExportedProgram, path: Path, description: Mapping[str, Any]) -> None:
    """One file, the weights in it; ``description`` is its metadata, what is not text as JSON. Raises RequestError where
    a layer of the network has no ONNX."""
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT], "dynamic_shapes": {INPUT: {0: BATCH}}}
    with refuse_errors("the network cannot be written as ONNX"):
        made = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    assert made is not None
    for key, value in description.items():
        made.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    made.save(path, external_data=False)


def open_onnx(path: Path) -> Program:
    """The file in onnxruntime, on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def write_torch(program: ExportedProgram, path: Path, description: Mapping[str, Any]) -> None:
    """torch.export's own format, with ``description`` beside the program in it as model.json."""
    torch.export.save(program, path, extra_files={DESCRIPTION: json.dumps(description, ensure_ascii=False)})


def open_torch(path: Path) -> Program:
    """The file in torch."""
    network = torch.export.load(path).module()
    return torch.no_grad()(lambda images: network(torch.from_numpy(images)).numpy())


class Format(NamedTuple):
    """How a program is kept: the file's name, and how it is written and opened."""

    file: str
    write: Callable[[ExportedProgram, Path, Mapping[str, Any]], None]
    open: Callable[[Path], Program]


FORMATS = {"onnx": Format("model.onnx", write_onnx, open_onnx), "torch": Format("model.pt2", write_torch, open_torch)}


def prepared_set(run: TrainedRun) -> tuple[PreparedSet | None, Path]:
    """The run's data where it lies prepared, and the cache that its record names."""
    cache = Path(str(run.record["config"]["data"].get("cache"))).expanduser()
    found = find_prepared(cache, str(run.record["data"].get("fingerprint")))
    sizes = (run.image_size, run.channels, len(run.classes))
    return found if found and (found.image_size, found.channels, len(found.classes)) == sizes else None, cache


def images_to_compare(run: TrainedRun) -> tuple[np.ndarray, str]:
    """Images uint8 (N, size, size, channels), and what they are: the run's test set where it lies prepared, else noise."""
    prepared, cache = prepared_set(run)
    if prepared is not None:
        return np.array(prepared.arrays["test_images"][:COMPARED]), "test images"
    shape = (COMPARED, run.image_size, run.image_size, run.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return noise, f"images of noise (its test set is no longer in {cache})"


def describe(run: TrainedRun, folder: Path) -> dict[str, Any]:
    """What goes along with the files: classes, input and output, and which weights of which run these are."""
    content = (folder / "checkpoints" / f"{run.weights}.ckpt").read_bytes()
    shape = [BATCH, run.image_size, run.image_size, run.channels]
    return {
        "classes": run.classes, "image_size": run.image_size, "channels": run.channels,
        "mean": run.normalize.mean, "std": run.normalize.std,
        "grey_range": run.record["data"].get("value_range"),  # what is black and white of more than 8 bits, or null
        "input": {"name": INPUT, "dtype": "uint8", "shape": shape},
        "output": {"name": OUTPUT, "dtype": "float32", "shape": [BATCH, len(run.classes)]},
        "model": (run.record.get("model") or {}).get("name"), "fingerprint": run.record.get("fingerprint"),
        "weights": run.weights, "weights_sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip


def export(
    run: TrainedRun, description: Mapping[str, Any], out: Path, formats: Sequence[str], images: np.ndarray
) -> dict[str, float]:
    """Write the files in these ``formats`` and model.json, the ``description``, and compare each with the run on these
    ``images``, uint8 (N, image_size, image_size, channels); then put all of them into ``out`` at once. Returns the largest
    difference of a probability for each format.

    Raises:
        ExportDiffers: a file differs from the run; ``out`` is as it was.
        RequestError: the network cannot be exported, ``out`` cannot be written, or a package is missing.
    """
    if "onnx" in formats and (missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]):
        raise RequestError(f"ONNX needs {' and '.join(missing)}: pip install 'cnnbench[export]' (or --format torch)")
    program, new, differences = trace(run), not out.exists(), {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".new.", ignore_cleanup_errors=True) as temporary:
            int8 = {"int8": kept} if (kept := kept_int8(out, description)) else {}
            text = json.dumps({**description, **int8}, ensure_ascii=False, indent=1)
            Path(temporary, DESCRIPTION).write_text(text + "\n", "utf-8")
            for name in formats:
                path = Path(temporary, FORMATS[name].file)
                FORMATS[name].write(program, path, description)
                differences[name] = compare(run, FORMATS[name].open(path), images, path.name)
            remove_other_weights(out, description)
            for path in sorted(Path(temporary).iterdir()):
                path.replace(out / path.name)
        return differences
    except OSError as error:
        raise RequestError(f"--out {out} cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):  # where files are in it, it stays
            if new:
                out.rmdir()


def remove_other_weights(out: Path, description: Mapping[str, Any]) -> None:
    """Remove, and tell of, the files of an earlier export whose model.json is of other weights: it is about to be of these."""
    known: Any = None
    with contextlib.suppress(OSError, ValueError):
        known = read_json(out / DESCRIPTION)
    own = description.get("weights_sha256")
    if isinstance(known, dict) and known.get("weights_sha256", own) != own:
        for path in [*(out / form.file for form in FORMATS.values()), *out.glob("model-int8-*.onnx")]:
            if path.is_file() or path.is_symlink():
                path.unlink()
                print_info(f"  removed {path.name}, which was of other weights")


def kept_int8(out: Path, description: Mapping[str, Any]) -> dict[str, Any]:
    """What model.json in ``out`` says of int8 files of the same weights, by their names."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        known = read_json(out / DESCRIPTION)
        if known.get("weights_sha256") == description.get("weights_sha256"):
            return dict(known.get("int8") or {})
    return {}


def compare(run: TrainedRun, program: Program, images: np.ndarray, name: str) -> float:
    """The largest difference of a probability between the run and a program, on batches of 1, 5 and all others; raises
    ExportDiffers where it is more than TOLERANCE, or not a number."""
    largest: list[float] = []
    for batch in filter(len, np.split(images, [1, 6])):
        expected, found = run.probabilities(batch).numpy(), program(batch)
        if found.shape != expected.shape:
            raise ExportDiffers(f"{name} gives an array {found.shape} where the run gives {expected.shape}")
        largest.extend(np.abs(found - expected).max(axis=1))
    if wrong := sum(not difference <= TOLERANCE for difference in largest):
        by = f"(by up to {max(largest):.1e}; {TOLERANCE:.0e} is allowed)"
        raise ExportDiffers(f"{name} gives other probabilities than the run for {wrong} of {len(largest)} images {by}")
    return float(max(largest))
