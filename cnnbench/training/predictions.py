"""``predictions.npz`` of a run: what its network says of each validation and test image, with the weights it stands for."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from cnnbench.data import ImageDataModule
from cnnbench.utils.record import PREDICTIONS_FILE

LARGEST = float(np.finfo(np.float16).max)
MOST_CLASSES = 100  # with more, only probabilities are kept


def save_predictions(folder: Path, logits: Mapping[str, Tensor], data: ImageDataModule) -> None:
    """Write ``folder/predictions.npz``, whole or not at all.

    For each split it has, all (N,) and in the order of the split: ``{split}_row``, the number of the image in the set;
    ``{split}_true`` and ``{split}_predicted``, classes; ``{split}_probability_true`` and
    ``{split}_probability_predicted``, float32; of image files ``{split}_file``, their paths below ``data.path``; and up to 100
    classes ``{split}_logits``, float16 (N, classes).

    Args:
        logits: (N, classes) by split.
    """
    arrays: dict[str, np.ndarray] = {}
    for split, values in logits.items():
        probabilities = values.double().softmax(dim=1).cpu().numpy()
        true, predicted, rows = data.labels(split), probabilities.argmax(axis=1), np.arange(len(values))
        columns: dict[str, np.ndarray] = {
            "row": data.row_numbers(split),
            "true": true.astype(np.int32),
            "predicted": predicted.astype(np.int32),
            "probability_true": probabilities[rows, true].astype(np.float32),
            "probability_predicted": probabilities[rows, predicted].astype(np.float32),
        }
        if (files := data.files(split)) is not None:
            columns["file"] = files
        if values.shape[1] <= MOST_CLASSES:
            columns["logits"] = values.cpu().clamp(-LARGEST, LARGEST).numpy().astype(np.float16)
        arrays |= {f"{split}_{name}": column for name, column in columns.items()}
    temporary = folder / f".{PREDICTIONS_FILE}"
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, folder / PREDICTIONS_FILE)
