"""tiny_cnn by other libraries, as someone who cares for speed would write it in each: ``python -m benchmarks --peers``.

The modules of this package import neither torch (but fastai's own) nor cnnbench, for their start-up counts.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.clock import Result

FILTERS, CLASSES = (16, 4), 10  # of tiny_cnn (conf/model/tiny_cnn.yaml), whose kernels are 3 x 3
CASES = ("tiny_cnn-16", "tiny_cnn-64")
EVAL_BATCH = 256  # images
RATES = {"sgd": 0.1, "adam": 0.001, "rmsprop": 0.001}  # learning rates, those of conf/optimizer
# by row: the module, what it is called with, and the packages that it needs
PEERS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "jax": ("in_jax", {}, ("jax",)),
    "jax-matmul": ("in_jax", {"matmul": True}, ("jax",)),
    "keras-jax": ("in_keras", {}, ("keras", "jax")),
    "fastai": ("in_fastai", {}, ("fastai",)),
}
# One thread each: torch and BLAS read the first, XLA's thread pools the others.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}  # fmt: skip
ENVIRONMENT = {**ONE_THREAD, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}


def missing(row: str) -> str | None:
    """Why a row cannot be measured, in a line."""
    absent = [name for name in PEERS[row][2] if importlib.util.find_spec(name) is None]
    return f"{row} needs {' and '.join(absent)}: pip install -e '.[peers]'" if absent else None


def build(
    row: str, case: Case, data: Path, optimizer: str = "adam", scheduler: str = "none"
) -> Callable[[int], Result]:
    """The training of a case by a row; raises ValueError where the case has another network or augmentation."""
    if case.model != "tiny_cnn" or case.augment != "none":
        raise ValueError(f"{row} is written for tiny_cnn without augmentation alone, not {case.name}")
    module, options, _ = PEERS[row]
    return importlib.import_module(f"benchmarks.peers.{module}").build(case, data, optimizer, scheduler, **options)


def learning_rates(first: float, scheduler: str, epochs: int) -> list[float]:
    """Of each epoch, by conf/scheduler: none, cosine or exp."""
    if scheduler == "cosine":
        return [first * (1 + math.cos(math.pi * epoch / epochs)) / 2 for epoch in range(epochs)]
    return [first * (0.9**epoch if scheduler == "exp" else 1) for epoch in range(epochs)]
