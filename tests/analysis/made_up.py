"""Made-up records and run folders, as training would leave them."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnnbench.config.overrides import parse_override
from cnnbench.utils.record import write_record

OPTIMIZERS = {
    "sgd": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0},
    "adam": {"_target_": "torch.optim.Adam", "lr": 0.001, "betas": [0.9, 0.999], "weight_decay": 0.0},
    "rmsprop": {"_target_": "torch.optim.RMSprop", "lr": 0.001, "alpha": 0.99, "weight_decay": 0.0},
}
SCHEDULERS = {
    "none": {"_target_": None, "interval": "epoch"},
    "cosine": {"_target_": "CosineAnnealingLR", "interval": "epoch", "T_max": "${trainer.max_epochs}"},
    "exp": {"_target_": "ExponentialLR", "interval": "epoch", "gamma": 0.9},
}
MODELS = {
    "tiny_cnn": {"_target_": "ConvNet", "filters": [16, 4], "norm": "none", "activation": "relu", "dropout": 0.0},
    "lenet": {"_target_": "ConvNet", "filters": [6, 16], "norm": "none", "activation": "relu", "dropout": 0.0},
    "mlp": {"_target_": "MLP", "hidden": [4096], "activation": "sigmoid", "dropout": 0.0},
}
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "scheduler": SCHEDULERS,
    "data": {
        name: {"source": {"_target_": name}, "batch_size": 64, "validation": 0.1, "root": "/data", "limit_train": None}
        for name in ("digits", "mnist")
    },
    "trainer": {"auto": {"max_epochs": 5, "accelerator": "auto", "precision": "32-true"}},
    "average": {"none": {"_target_": None}, "ema": {"_target_": "EMA", "decay": 0.999}},
    "logger": {"none": {"_target_": None}, "tensorboard": {"_target_": "TensorBoardLogger"}},
}


def compose(overrides: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A resolved configuration and its choices, as Hydra would make them from ``overrides``."""
    choices = {"model": "tiny_cnn", "optimizer": "adam", "scheduler": "cosine", "data": "digits", "trainer": "auto",
               "average": "none", "logger": "tensorboard"}  # fmt: skip
    asked = [parse_override(text) for text in overrides]
    choices.update({key: str(value) for key, value in asked if key in GROUPS})
    config: dict[str, Any] = {"seed": 0, "name": "cnnbench", "objective": "val/accuracy", "label_smoothing": 0.0}
    config.update({group: json.loads(json.dumps(GROUPS[group][choice])) for group, choice in choices.items()})
    for key, value in asked:
        if key not in GROUPS:
            *parents, leaf = key.split(".")
            node = config
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = value
    config["data"]["seed"] = config["seed"]
    if "T_max" in config["scheduler"]:
        config["scheduler"]["T_max"] = config["trainer"]["max_epochs"]
    return config, choices


def make_record(
    overrides: list[str], accuracy: float, *, classes: list[str] | None = None, images: int = 100, **changes: Any
) -> dict[str, Any]:
    """A completed run's whole record with ``accuracy`` on the test set, and the rest made up to fit."""
    config, choices = compose(overrides)
    names = classes or [str(digit) for digit in range(4)]
    epochs = int(config["trainer"]["max_epochs"])
    draw = random.Random(f"{overrides} {accuracy}")
    curve = [accuracy * (1 - math.exp(-1.2 * (epoch + 1))) + draw.gauss(0, 0.004) for epoch in range(epochs)]
    best = max(range(epochs), key=curve.__getitem__)
    history: dict[str, list[float]] = {"epoch": list(range(epochs)), "lr": [0.001] * epochs}
    for split, shift in (("train", 0.02), ("val", 0.0)):
        history[f"{split}/accuracy"] = [min(1.0, value + shift) for value in curve]
        history[f"{split}/recall"] = [min(1.0, value + shift - 0.005) for value in curve]
        history[f"{split}/loss"] = [2 * (1.02 - value - shift) for value in curve]
    metrics = {name: values[-1] for name, values in history.items() if "/" in name}
    metrics.update({"test/accuracy": accuracy, "test/recall": accuracy - 0.003, "test/loss": 2 * (1.02 - accuracy)})
    matrix = [[images if t == p else 0 for p in range(len(names))] for t in range(len(names))]
    for row in range(len(names)):
        wrong = round(images * (1 - accuracy))
        matrix[row][row] -= wrong
        matrix[row][(row + 1) % len(names)] += wrong
    recalls = [row[place] / images for place, row in enumerate(matrix)]
    identity = {key: value for key, value in config.items() if key not in ("name", "logger")}
    record = {
        "status": "completed",
        "name": config["name"],
        "fingerprint": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16],
        "overrides": overrides,
        "choices": choices,
        "config": config,
        "seed": config["seed"],
        "metrics": metrics,
        "best": {"epoch": best, **{name: values[best] for name, values in history.items() if "/" in name}},
        "history": history,
        "per_class": {"classes": names, "test/recall": recalls, "val/recall": recalls},
        "confusion_matrix": {"test": matrix, "val": matrix},
        "model": {"name": choices["model"], "parameters": 2710, "flops_per_image": 350_000},
        "time": {"fit_seconds": 3.0, "epoch_seconds": [0.9, *[0.4] * (epochs - 1)], "images_per_second": 3500.0},
        "data": {"name": choices["data"], "classes": len(names), "train": 1294, "val": 143, "test": images * len(names),
                 "validation": str(config["data"]["validation"]), "fingerprint": f"{choices['data']}-1"},
        "protocol": {"weights": "best", "objective": config["objective"]},
        "environment": {"python": "3.11.2", "torch": "2.9.0", "torchvision": "0.24.0", "lightning": "2.5.0",
                        "device": "cpu", "threads": 2, "cnnbench": "0.1.0", "git": "0123456789abcdef",
                        "git_dirty": False, "cpu": "Made-up CPU", "gpu": None},
        "error": None,
    }  # fmt: skip
    return merge(record, changes)


def merge(record: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``record`` with ``changes`` laid over it, mapping by mapping."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(record.get(key), dict):
            merge(record[key], value)
        else:
            record[key] = value
    return record


def failed(overrides: list[str], message: str = "out of memory", status: str = "failed") -> dict[str, Any]:
    """The few keys that a run leaves which failed before training."""
    config, choices = compose(overrides)
    return {"status": status, "overrides": overrides, "config": config, "choices": choices, "seed": config["seed"],
            "error": {"type": "RuntimeError", "message": message, "traceback": "..."}}  # fmt: skip


class Folders:
    """Writes records as run folders below one sweep folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, record: Mapping[str, Any], name: str | None = None) -> Path:
        """Write ``record`` and return its folder."""
        folder = self.root / (name or ",".join(record.get("overrides", ["run"])).replace("/", "-") or "run")
        while folder.exists():
            folder = folder.with_name(folder.name + "_")
        write_record(folder, dict(record))
        return folder

    def unfinished(self, overrides: list[str], name: str = "unfinished") -> Path:
        """A run that Hydra began and nobody ended."""
        folder = self.root / name
        (folder / ".hydra").mkdir(parents=True)
        config, choices = compose(overrides)
        (folder / ".hydra" / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
        (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
        (folder / ".hydra" / "hydra.yaml").write_text(
            json.dumps({"hydra": {"runtime": {"choices": {"experiment": None, **choices}}}})
        )
        return folder

    def grid(
        self, effect: Callable[..., float], seeds: int = 3, noise: float = 0.004, seed: int = 0, **levels: list[Any]
    ) -> Path:
        """A full grid over ``levels`` (dots written as two underscores) and ``seeds``; returns the root."""
        draw = random.Random(f"{levels} {seed}")
        cells: list[dict[str, Any]] = [{}]
        for key, values in levels.items():
            cells = [{**cell, key: value} for cell in cells for value in values]
        for cell in cells:
            for replicate in range(seeds):
                texts = [f"{key.replace('__', '.')}={value}" for key, value in cell.items()]
                self.add(make_record([*texts, f"seed={replicate}"], effect(**cell) + draw.gauss(0, noise)))
        return self.root
