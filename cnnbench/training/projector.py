"""What the network makes of test images, for TensorBoard's PROJECTOR: the input of its last linear layer."""

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


def send_features(writer: SummaryWriter, model: ImageClassifier, data: ImageDataModule, most: int, epoch: int) -> None:
    """Send the features of at most so many test images, evenly spaced, with classes, predictions and thumbnails."""
    layer, seen, count = last_linear(model.network), list[Tensor](), data.count("test")
    assert layer is not None  # as the preflight has found
    rows = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))
    with layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(1).float().cpu())):
        for part in np.array_split(rows, -(-len(rows) // data.eval_batch_size)):
            model.predict_logits(data.batch("test", part))
    images = torch.from_numpy(data.raw("test", rows)).permute(0, 3, 1, 2).float() / 255
    size = [min(data.prepared.image_size, THUMBNAIL)] * 2
    names = np.array([escape(name) for name in data.classes])
    columns = names[data.labels("test")[rows]], names[model.test_predictions.numpy()[rows]]
    metadata = [list(pair) for pair in zip(*columns, strict=True)]
    thumbnails = interpolate(images, size, mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
    writer.add_embedding(torch.cat(seen), metadata, thumbnails, epoch, "test", metadata_header=["class", "prediction"])
