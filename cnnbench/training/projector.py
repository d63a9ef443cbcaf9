"""What the network makes of test images, for TensorBoard's PROJECTOR: the input of its last linear layer."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.tensorboard import SummaryWriter

from cnnbench.data import ImageDataModule
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.console import escape

THUMBNAIL = 32  # pixels of a side, at most


def last_linear(network: nn.Module) -> nn.Linear | None:
    """The linear layer that is registered last, whose input are the features; None where there is none."""
    return next((part for part in reversed([*network.modules()]) if isinstance(part, nn.Linear)), None)


def features(classifier: ImageClassifier, data: ImageDataModule, rows: np.ndarray) -> Tensor:
    """The features of the test images in ``rows``, float32 (N, F), on the CPU."""
    layer, seen = last_linear(classifier.network), list[Tensor]()

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].detach().flatten(1).float().cpu())

    assert layer is not None  # as the preflight has found
    hook = layer.register_forward_pre_hook(keep)
    try:
        for part in np.array_split(rows, max(-(-len(rows) // data.eval_batch_size), 1)):
            classifier.predict_logits(data.batch("test", part))
    finally:
        hook.remove()
    return torch.cat(seen)


def send_features(
    writer: SummaryWriter, classifier: ImageClassifier, data: ImageDataModule, most: int, epoch: int
) -> None:
    """Send the features of at most so many test images, evenly spaced, with classes and thumbnails."""
    count = data.count("test")
    rows = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))
    images = torch.from_numpy(data.raw("test", rows)).permute(0, 3, 1, 2).float() / 255
    side = min(data.prepared.image_size, THUMBNAIL)
    names = np.array([escape(name) for name in data.classes])
    truth, guess = names[data.labels("test")[rows]], names[classifier.test_predictions.numpy()[rows]]
    writer.add_embedding(
        features(classifier, data, rows),
        metadata=[[*pair] for pair in zip(truth, guess, strict=True)],
        metadata_header=["class", "prediction"],
        label_img=interpolate(images, (side, side), mode="bilinear", antialias=True).expand(-1, 3, -1, -1),
        global_step=epoch,
        tag="test",
    )
