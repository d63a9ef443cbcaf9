"""``ConvNet``: convolution blocks and a fully connected head, given as lists.

Most networks of the five studies are this with other numbers, so each of them is a YAML and an ablation is an override:
``model.filters=[64,128,256] model.norm=batch model.activation=leaky_relu``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cnnbench.models.layers import (
    activation_layer,
    channel_groups,
    convolution,
    dropout_rate,
    flags,
    fully_connected,
    norm_layer,
    per_layer,
    widths,
)
from cnnbench.utils.errors import RequestError, one_of

NORM_PLACES = ("before_activation", "after_activation")


class ConvNet(nn.Module):
    """Blocks of convolution, norm, activation and max-pooling, then fully connected layers.

    Args:
        in_channels, num_classes, image_size: of the data; images are (N, in_channels, image_size, image_size).
        filters: feature maps of each convolution; its length is the number of blocks.
        kernels, strides, paddings: of each convolution, in pixels; one number stands for all.
        groups: of channels in each convolution: 1 is a full convolution, n one whose filters each see one of n groups
            (n divides the channels before and after), ``separable`` a depthwise one, each filter on a channel of its
            own, and a 1x1 convolution across the channels (Howard et al. 2017); one for all, or a list.
        pools: side of the max-pooling window after each block, also its stride; 0 or 1 is none.
        activation: after each block whose ``activate`` is true, and after each hidden layer.
        activate: one truth value a block, or one for all (eq2425 has none after its third convolution).
        norm: none, batch, group (of at most 8 groups) or instance.
        norm_place: before_activation (Ioffe & Szegedy 2015) or after_activation (as section 3.1E of report eq2425 says).
        feature_dropout: dropout probability on the features, between the last block and the head.
        hidden: widths of the hidden fully connected layers; may be empty.
        dropout: dropout probability after each hidden layer's activation.

    Raises:
        RequestError: a value is out of range, a list has the wrong length, or the image is too small for a layer.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: int,
        *,
        filters: Sequence[int],
        kernels: int | Sequence[int] = 3,
        strides: int | Sequence[int] = 1,
        paddings: int | Sequence[int] = 0,
        groups: int | str | Sequence[int | str] = 1,
        pools: int | Sequence[int] = 2,
        activation: str = "relu",
        activate: bool | Sequence[bool] = True,
        norm: str = "none",
        norm_place: str = "before_activation",
        feature_dropout: float = 0.0,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        one_of("model.norm_place", norm_place, NORM_PLACES)
        filters = widths("filters", filters)
        depth = len(filters)
        channels, size = in_channels, image_size
        blocks = []
        for index, (width, kernel, stride, padding, group, pool, active) in enumerate(
            zip(
                filters,
                per_layer("kernels", kernels, depth, 1),
                per_layer("strides", strides, depth, 1),
                per_layer("paddings", paddings, depth, 0),
                channel_groups(groups, depth),
                per_layer("pools", pools, depth, 0),
                flags("activate", activate, depth),
                strict=True,
            ),
            start=1,
        ):
            size = shrink(size, f"convolution {index}", kernel, stride, padding, image_size)
            block: list[nn.Module] = [convolution(channels, width, kernel, stride, padding, group, index)]
            middle = [norm_layer(norm, width), activation_layer(activation if active else "none")]
            if norm_place == "after_activation":
                middle.reverse()
            block += [layer for layer in middle if not isinstance(layer, nn.Identity)]
            if pool > 1:
                size = shrink(size, f"pooling {index}", pool, pool, 0, image_size)
                block.append(nn.MaxPool2d(pool))
            blocks.append(nn.Sequential(*block))
            channels = width
        self.features = nn.Sequential(*blocks)
        rate = dropout_rate("feature_dropout", feature_dropout)
        self.feature_dropout = nn.Dropout(rate) if rate else nn.Identity()
        self.head = fully_connected(channels * size * size, hidden, num_classes, activation, dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), float, to logits (N, num_classes)."""
        return self.head(self.feature_dropout(self.features(images).flatten(1)))

    def get_classifier(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.head[-1]


def shrink(size: int, layer: str, window: int, stride: int, padding: int, image_size: int) -> int:
    """Side of a layer's output for a square input of side ``size``; raises RequestError where none is left."""
    out = (size + 2 * padding - window) // stride + 1
    if size + 2 * padding < window or out < 1:
        raise RequestError(
            f"images of {image_size}x{image_size} are too small for this network: {layer} has a window of "
            f"{window}x{window} and only {size + 2 * padding}x{size + 2 * padding} reach it; "
            "use a larger data.image_size, or smaller model.kernels, model.strides or model.pools"
        )
    return out
