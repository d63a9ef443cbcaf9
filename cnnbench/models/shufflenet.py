"""ShuffleNet: V1 (Zhang et al. 2018), of pointwise group convolutions, and torchvision's V2 (Ma et al. 2018)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models import shufflenetv2
from torchvision.models.shufflenetv2 import ShuffleNetV2 as TorchvisionShuffleNetV2

from cnnbench.models.layers import check_width, small_stem, stem_convolution
from cnnbench.models.weights import load_weights
from cnnbench.utils.errors import RequestError

# width: filters of each stage (the paper's table 5), and torchvision's weights
WIDTHS = {
    0.5: ([24, 48, 96, 192, 1024], shufflenetv2.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1),
    1.0: ([24, 116, 232, 464, 1024], shufflenetv2.ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1),
    1.5: ([24, 176, 352, 704, 1024], shufflenetv2.ShuffleNet_V2_X1_5_Weights.IMAGENET1K_V1),
    2.0: ([24, 244, 488, 976, 2048], shufflenetv2.ShuffleNet_V2_X2_0_Weights.IMAGENET1K_V1),
}
STAGE_UNITS = (4, 8, 4)
FIRST_FILTERS = 24
V1_FILTERS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # by groups, of the first stage; each next has twice as many


class ShuffleUnit(nn.Module):
    """Grouped 1x1 convolution, channel shuffle, depthwise 3x3, grouped 1x1, around a shortcut (the paper's figure 2).

    A unit of stride 2 halves the side and puts its output beside the average-pooled input; others add the two. The first
    1x1 of a network is not grouped, for its input has few channels (``first_groups``).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, first_groups: int) -> None:
        super().__init__()
        middle, own = outputs // 4, outputs - inputs if stride == 2 else outputs
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, middle, 1, groups=first_groups, bias=False), nn.BatchNorm2d(middle), nn.ReLU(),
            nn.ChannelShuffle(groups),
            nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False), nn.BatchNorm2d(middle),
            nn.Conv2d(middle, own, 1, groups=groups, bias=False), nn.BatchNorm2d(own),
        )  # fmt: skip
        self.shortcut = nn.AvgPool2d(3, 2, 1) if stride == 2 else nn.Identity()
        self.joins = stride == 2

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        short, long = self.shortcut(features), self.branch(features)
        return (torch.cat([short, long], 1) if self.joins else short + long).relu()


class ShuffleNetV1(nn.Module):
    """ShuffleNet V1 for images of any size and channels; the small stem is without the first stride of 2 and the
    max-pooling."""

    def __init__(
        self, in_channels: int, num_classes: int, image_size: int, *,
        width: float = 1.0, groups: int = 3, stem: str = "auto",
    ) -> None:  # fmt: skip
        super().__init__()
        if groups not in V1_FILTERS:
            raise RequestError(f"model.groups must be one of {', '.join(map(str, V1_FILTERS))}, got {groups!r}")
        narrowest = check_width(width) * V1_FILTERS[groups]
        filters = [round(narrowest * 2**stage) for stage in range(len(STAGE_UNITS))]
        # a quarter of them, and what is left beside the first layer's, are shared out to the groups
        if any((out - before) % groups or out // 4 % groups for before, out in pairwise([FIRST_FILTERS, *filters])):
            filters = [4 * groups * round(narrowest / (4 * groups)) * 2**stage for stage in range(len(STAGE_UNITS))]
        if filters[0] <= FIRST_FILTERS:
            has = (
                f"model.width={width} gives {filters[0]} channels, no more than the {FIRST_FILTERS} of the first layer"
            )
            raise RequestError(f"{has}; use 0.5 or 1.0")
        small = small_stem(stem, image_size, None)
        first, pool = stem_convolution(in_channels, FIRST_FILTERS, 3, 1 if small else 2), nn.MaxPool2d(3, 2, 1)
        layers: list[nn.Module] = [first, nn.BatchNorm2d(FIRST_FILTERS), nn.ReLU(), nn.Identity() if small else pool]
        channels = FIRST_FILTERS
        for stage, (units, outputs) in enumerate(zip(STAGE_UNITS, filters, strict=True)):
            for unit in range(units):
                first_groups = 1 if stage == unit == 0 else groups
                layers.append(ShuffleUnit(channels, outputs, 2 if unit == 0 else 1, groups, first_groups))
                channels = outputs
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).flatten(1))

    def get_classifier(self) -> nn.Module:
        return self.head


class ShuffleNetV2(TorchvisionShuffleNetV2):
    """torchvision's ShuffleNetV2, its parameters under torchvision's names, for images of any size and channels. The
    small stem is without the first stride of 2 and the max-pooling; any weights fit either stem."""

    def __init__(
        self, in_channels: int, num_classes: int, image_size: int, *,
        width: float = 1.0, stem: str = "auto", weights: str | None = None,
    ) -> None:  # fmt: skip
        if width not in WIDTHS:
            raise RequestError(f"model.width must be one of {', '.join(map(str, WIDTHS))}, got {width!r}")
        filters, published = WIDTHS[width]
        super().__init__([*STAGE_UNITS], filters, num_classes)
        small = small_stem(stem, image_size, weights)
        self.conv1[0] = stem_convolution(in_channels, filters[0], 3, 1 if small else 2)
        if small:
            self.maxpool = nn.Identity()
        load_weights(self, weights, "model.weights", published)

    def get_classifier(self) -> nn.Module:
        return self.fc
