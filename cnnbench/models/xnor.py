"""XNOR-Net (Rastegari et al. 2016): convolutions of binary weights with binary activations."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.models.layers import dropout_layer, output_size, whole_per_layer, widths
from cnnbench.utils.errors import RequestError


def plus_or_minus(values: Tensor) -> Tensor:
    """1 or -1 by the sign of each value; zero counts as positive, so that there are two values and no third."""
    return (values >= 0).to(values.dtype).mul_(2).sub_(1)  # ONNX has no copysign


class _Sign(torch.autograd.Function):
    """sign(x); its gradient is straight through where |x| <= 1 and none elsewhere (section 3.1)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return plus_or_minus(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        return gradients[0] * (values.abs() <= 1)


class _ScaledSign(torch.autograd.Function):
    """alpha sign(W), alpha the mean |W| of each filter (equation 6); the gradient with respect to W is that of the
    output times 1/n + alpha [|W| <= 1], n the weights of a filter (section 3.1, "Training Binary-Weights-Networks")."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        scale = weight.abs().mean((1, 2, 3), keepdim=True)
        ctx.save_for_backward(weight, scale)
        return plus_or_minus(weight) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        weight, scale = ctx.saved_tensors
        return gradients[0] * (1 / weight[0].numel() + scale * (weight.abs() <= 1))


class BinaryConv2d(nn.Conv2d):
    """A convolution of the signs of its input with the signs of its weights, each filter scaled by its mean |weight|.

    The float weights are there for training; a prediction needs their signs and one scale a filter. The paper's second
    scale, K, of each input window, is left out, as its section 4.3 finds little loss in doing.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W'); padding adds zeros, neither 1 nor -1."""
        if self.training:
            return F.conv2d(_Sign.apply(input), _ScaledSign.apply(self.weight), None, self.stride, self.padding)
        # Sums of ones are exact in any order, so that a tie is one wherever an exported network runs.
        sums = F.conv2d(_Sign.apply(input), _Sign.apply(self.weight), None, self.stride, self.padding)
        return sums * self.weight.abs().mean((1, 2, 3))[:, None, None]

    def bits(self) -> int:
        """Bits that a prediction needs: one a weight, 32 a filter for its scale."""
        return self.weight.numel() + 32 * self.out_channels


class XnorNet(nn.Module):
    """A convolution, binary convolutions, the mean over the image, and a linear layer.

    The first and the last layer keep float weights, and each binary block is batch norm, sign, convolution, pooling
    (section 3.2, figure 3): the norm puts the threshold of the sign at the channel's mean.
    """

    def __init__(
        self, in_channels: int, num_classes: int, image_size: int, *,
        filters: Sequence[int], kernels: int | Sequence[int] = 3, paddings: int | Sequence[int] = 1,
        pools: int | Sequence[int] = 2, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        filters = widths("filters", filters)
        depth = len(filters)
        if depth < 2:
            raise RequestError(f"model.filters needs two convolutions, for the first is not binary; got {depth}")
        windows = whole_per_layer(depth, kernels=(kernels, 1), paddings=(paddings, 0), pools=(pools, 0))
        channels, size, layers = in_channels, image_size, list[nn.Module]()
        for index, (width, kernel, padding, pool) in enumerate(zip(filters, *windows, strict=True), 1):
            size = output_size(size, image_size, f"convolution {index}", kernel, 1, padding)
            if index > 1:
                layers.append(nn.BatchNorm2d(channels))
            kind = nn.Conv2d if index == 1 else BinaryConv2d
            layers.append(kind(channels, width, kernel, padding=padding, bias=False))
            if pool > 1:
                size = output_size(size, image_size, f"pooling {index}", pool, pool)
                layers.append(nn.MaxPool2d(pool))
            channels = width
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.dropout = dropout_layer(dropout)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(images).flatten(1)))

    def get_classifier(self) -> nn.Module:
        return self.head
