"""Whether two runs came to the same result, bit for bit."""

from __future__ import annotations

from pathlib import Path

import torch

from cnnbench.utils.record import read_record


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """The weights in a run's checkpoint."""
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def differences(one: Path, two: Path) -> list[str]:
    """What differs of two runs: history, metrics, matrices, and the last and the best weights."""
    first, second = read_record(one), read_record(two)
    if not first["status"] == second["status"] == "completed":
        return [f"status: {first['error'] or second['error']}"]
    wrong = [
        key for key in ("history", "metrics", "best", "confusion_matrix", "per_class") if first[key] != second[key]
    ]
    for name in ("last", "best"):
        mine, other = weights(one, name), weights(two, name)
        if mine.keys() != other.keys() or not all(torch.equal(mine[key], other[key]) for key in mine):
            wrong.append(f"{name}.ckpt")
    if first["model"]["sha256"] != second["model"]["sha256"]:
        wrong.append("sha256")
    return wrong
