"""Nothing that is received is unpickled: no call that could is in the package, and files that would are refused."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnbench.data.sources import Npz
from cnnbench.models.weights import read_state
from cnnbench.training.checkpoint_io import AtomicCheckpointIO, read
from cnnbench.utils.errors import RequestError
from cnnbench.utils.torch_files import DamagedFileError, UnsafeFileError

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "cnnbench").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")])
# Calls that unpickle, or make objects of any class, each with what keeps it from that (None: nothing does).
NEEDS = {
    "torch.load": "weights_only=True", "np.load": "allow_pickle=False", "pickle.load": None, "pickle.loads": None,
    "pickle.Unpickler": None, "joblib.load": None, "yaml.load": None, "yaml.unsafe_load": None, "yaml.full_load": None,
    "npy.read_array": "allow_pickle=False", "pd.read_pickle": None, "dist.all_gather_object": None, "dist.broadcast_object_list": None,
    "dist.gather_object": None, "dist.scatter_object_list": None, "dist.recv_object_list": None, "torch.jit.load": None,
    "torch.hub.load": None, "shelve.open": None, "marshal.loads": None, "eval": None, "exec": None, "os.system": None,
}  # fmt: skip


def calls(path: Path) -> list[tuple[str, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(ast.unparse(node.func), ast.unparse(node)) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_no_call_in_the_package_could() -> None:
    assert len(FILES) > 100
    seen = 0
    for path in FILES:
        for name, text in calls(path):
            if name in NEEDS:
                seen += 1
                assert NEEDS[name] is not None and NEEDS[name] in text, f"{path}: {text}"
        assert not any(
            word in path.read_text(encoding="utf-8") for word in ("import dill", "cloudpickle", "shell=True")
        )
    assert seen >= 6


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


def test_files_that_would_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # which does not reach ours
    hostile, checkpoint, old = Hostile(tmp_path / "ran"), tmp_path / "a.ckpt", tmp_path / "old.pt"
    torch.save({"state_dict": hostile}, checkpoint)
    torch.save({"state_dict": hostile}, old, _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "a.npz", train_images=np.array([hostile], dtype=object), train_labels=np.zeros(1, int))
    with pytest.raises(UnsafeFileError):
        read(checkpoint)
    with pytest.raises(UnsafeFileError):
        AtomicCheckpointIO().load_checkpoint(checkpoint, weights_only=False)
    with pytest.raises(DamagedFileError):
        AtomicCheckpointIO().load_checkpoint(old)
    for path in (checkpoint, old):
        with pytest.raises(RequestError, match="no file of weights"):
            read_state(path, "init_from")
    with pytest.raises(RequestError, match="plain arrays"):
        Npz().read(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()
