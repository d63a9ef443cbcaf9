"""A trained network as a program that needs no cnnbench: the graph, its files, and how each is run again.

The graph takes uint8 images and gives probabilities, so that normalisation and softmax cannot be forgotten by who uses
it. A format is how its file is written and how that file is run.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from cnnbench.utils.errors import RequestError

if TYPE_CHECKING:
    from cnnbench.inference.load import TrainedRun

INPUT, OUTPUT, BATCH = "images", "probabilities", "batch"
Description = Mapping[str, Any]
Run = Callable[[np.ndarray], np.ndarray]  # uint8 (N, H, W, C) to float32 (N, classes)


class Graph(nn.Module):
    """``TrainedRun.probabilities`` as one module: uint8 (N, H, W, C) to the probability of each class, (N, classes)."""

    def __init__(self, run: TrainedRun) -> None:
        super().__init__()
        # torch's own order in memory: the graph of a channels_last network has gathers in it that no runtime needs
        self.network = copy.deepcopy(run.network).to(memory_format=torch.contiguous_format)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", run.normalize.scale.clone())
        self.register_buffer("shift", run.normalize.shift.clone())

    def forward(self, images: Tensor) -> Tensor:
        """The argument's name is the input's name in the files."""
        pixels = images.to(torch.float32) * self.scale + self.shift
        return self.network(pixels.permute(0, 3, 1, 2).contiguous()).float().softmax(dim=1)


def trace(run: TrainedRun) -> ExportedProgram:
    """The graph for any number of images.

    Raises:
        RequestError: torch cannot export the network.
    """
    example = torch.zeros(2, run.image_size, run.image_size, run.channels, dtype=torch.uint8)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sizes = {INPUT: {0: torch.export.Dim(BATCH)}}
            return torch.export.export(Graph(run).eval(), (example,), dynamic_shapes=sizes, strict=False)
    except Exception as error:
        raise RequestError(f"torch cannot export {type(run.network).__name__} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def write_onnx(program: ExportedProgram, path: Path, description: Description) -> None:
    """One file, the weights in it; ``description`` is its metadata, what is not text as JSON.

    Raises:
        RequestError: a layer of the network has no ONNX.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT]}
            sizes = {INPUT: {0: BATCH}}
            made = torch.onnx.export(program, dynamo=True, verbose=False, dynamic_shapes=sizes, **names)
    except Exception as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise RequestError(f"the network cannot be written as ONNX ({_first_line(cause)})") from error
    assert made is not None
    for key, value in description.items():
        made.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    made.save(path, external_data=False)


def open_onnx(path: Path) -> Run:
    """The file in onnxruntime, on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def write_torch(program: ExportedProgram, path: Path, description: Description) -> None:
    """torch.export's own format, with ``description`` beside the program in it as ``model.json``."""
    torch.export.save(program, path, extra_files={"model.json": json.dumps(description, ensure_ascii=False)})


def open_torch(path: Path) -> Run:
    """The file in torch."""
    network = torch.export.load(path).module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(images)).numpy()

    return run


@dataclass(frozen=True)
class Format:
    """How a program is kept: the file's name, how it is written and run, and the packages that this takes."""

    file: str
    write: Callable[[ExportedProgram, Path, Description], None]
    open: Callable[[Path], Run]
    packages: tuple[str, ...] = ()

    def check_packages(self) -> None:
        """Raises RequestError where a package is missing."""
        if missing := [name for name in self.packages if find_spec(name) is None]:
            raise RequestError(
                f"{self.file} needs {' and '.join(missing)}: pip install 'cnnbench[export]' (or --format torch)"
            )


FORMATS = {
    "onnx": Format("model.onnx", write_onnx, open_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torch": Format("model.pt2", write_torch, open_torch),
}
