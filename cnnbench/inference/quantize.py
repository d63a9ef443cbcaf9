"""A finished run as an int8 ONNX file, and the test accuracy that this costs.

Weights of convolutions and linear layers are 8 bits; what goes into them is too, on a scale of each batch (dynamic) or of
training images (static). Jacob et al. 2018, arXiv:1712.05877; done by onnxruntime.quantization.
"""

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.data.cache import PreparedSet
from cnnbench.inference.export import (
    DESCRIPTION,
    INPUT,
    export,
    kept_int8,
    open_onnx,
    prepared_set,
    refuse_errors,
    remove_other_weights,
)
from cnnbench.inference.load import TrainedRun
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import write_atomically

INT8 = {"int8-dynamic": "model-int8-dynamic.onnx", "int8-static": "model-int8-static.onnx"}
LAYERS = ["Conv", "Gemm", "MatMul"]  # softmax stays float32: probabilities in 256 steps are no use
CALIBRATION, BATCH = 256, 64  # training images for static scales, evenly spaced; images at a time


def export_int8(run: TrainedRun, description: Mapping[str, Any], out: Path, kind: str) -> dict[str, Any]:
    """Write the file of this ``kind`` (of ``INT8``), and what it loses into ``model.json``, both into ``out``. Returns
    ``accuracy`` and ``accuracy_int8`` on the whole test set, as shares; ``points_lost``, their difference in percentage
    points; ``changed``, how many of its ``test_images`` are given another class.

    Raises:
        ExportDiffers: the float32 file that it is made of differs from the run.
        RequestError: the prepared set or a package is missing, ``out`` cannot be written, or a layer has no int8.
    """
    data, cache = prepared_set(run)
    if data is None:
        gone = f"which is no longer in {cache}: a run on the same data prepares it again"
        raise RequestError(f"--format {kind} is measured on the run's test set, {gone}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        images = np.array(data.arrays["test_images"][:BATCH])
        export(run, description, folder, ["onnx"], images)
        path = folder / INT8[kind]
        with refuse_errors(f"the network cannot be written as {kind}"):
            _quantize(folder / "model.onnx", path, kind, data)
            lost = _compare(run, path, data)
        try:
            out.mkdir(parents=True, exist_ok=True)
            told = {**kept_int8(out, description), path.name: lost}
            text = json.dumps({**description, "int8": told}, ensure_ascii=False, indent=1)
            remove_other_weights(out, description)
            (out / path.name).unlink(missing_ok=True)  # which may be a link
            (out / path.name).write_bytes(path.read_bytes())
            write_atomically(out / DESCRIPTION, text + "\n")
        except OSError as error:
            raise RequestError(f"--out {out} cannot be written ({error.strerror or error})") from error
    return lost


def _quantize(source: Path, target: Path, kind: str, data: PreparedSet) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            images = data.arrays["train_images"]
            rows = np.linspace(0, len(images) - 1, min(CALIBRATION, len(images))).astype(int)
            self.batches = iter(np.array_split(images[rows], -(-len(rows) // BATCH)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return None if (batch := next(self.batches, None)) is None else {INPUT: batch}

    logging.getLogger().setLevel(max(logging.getLogger().level, logging.ERROR))  # it advises through the root logger
    prepared = source.with_name("prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    del model.graph.value_info[:]  # shapes of weights that are turned round below
    if kind == "int8-dynamic":  # onnxruntime has dynamic convolutions for unsigned weights alone
        quantize_dynamic(model, target, LAYERS, weight_type=QuantType.QUInt8)
    else:
        quantize_static(model, target, Images(), op_types_to_quantize=LAYERS, per_channel=True)


def _compare(run: TrainedRun, path: Path, data: PreparedSet) -> dict[str, Any]:
    """The accuracy of the run and of the file on the whole test set."""
    images, labels, program = data.arrays["test_images"], data.arrays["test_labels"], open_onnx(path)
    parts = [np.array(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    before = np.concatenate([run.probabilities(part).numpy().argmax(axis=1) for part in parts])
    after = np.concatenate([program(part).argmax(axis=1) for part in parts])
    accuracy, accuracy_int8 = float(np.mean(before == labels)), float(np.mean(after == labels))
    return {
        "accuracy": accuracy,
        "accuracy_int8": accuracy_int8,
        "points_lost": 100 * (accuracy - accuracy_int8),
        "changed": int((before != after).sum()),
        "test_images": len(labels),
    }
