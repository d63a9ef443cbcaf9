"""ShuffleNetV2 (Ma et al. 2018): channel splits, depthwise convolutions and channel shuffles, torchvision's."""

from __future__ import annotations

from torch import nn
from torchvision.models import shufflenetv2
from torchvision.models.shufflenetv2 import ShuffleNetV2 as TorchvisionShuffleNetV2

from cnnbench.models.weights import load_weights, small_stem, stem_convolution
from cnnbench.utils.errors import RequestError

# width: filters of each stage (the paper's table 5), and torchvision's weights
WIDTHS = {
    0.5: ([24, 48, 96, 192, 1024], shufflenetv2.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1),
    1.0: ([24, 116, 232, 464, 1024], shufflenetv2.ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1),
    1.5: ([24, 176, 352, 704, 1024], shufflenetv2.ShuffleNet_V2_X1_5_Weights.IMAGENET1K_V1),
    2.0: ([24, 244, 488, 976, 2048], shufflenetv2.ShuffleNet_V2_X2_0_Weights.IMAGENET1K_V1),
}


class ShuffleNetV2(TorchvisionShuffleNetV2):
    """torchvision's ShuffleNetV2, its parameters under torchvision's names, for images of any size and channels.

    Args:
        in_channels, num_classes, image_size: of the data; images are (N, in_channels, image_size, image_size).
        width: of the stages, times the paper's: 0.5, 1.0, 1.5 or 2.0.
        stem: ``imagenet`` divides the side by 32 in all, ``small`` by 8, without the first stride of 2 and the
            max-pooling; ``auto`` is small up to 64 pixels without weights. Any weights fit either.
        weights: None, ``imagenet``, or a file with a checkpoint or a state dict.

    Raises:
        RequestError: a value is not one of the choices, or ``weights`` cannot be had or do not fit.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: int,
        *,
        width: float = 1.0,
        stem: str = "auto",
        weights: str | None = None,
    ) -> None:
        if width not in WIDTHS:
            raise RequestError(f"model.width must be one of {', '.join(map(str, WIDTHS))}, got {width!r}")
        filters, published = WIDTHS[width]
        super().__init__([4, 8, 4], filters, num_classes)
        small = small_stem(stem, image_size, weights)
        self.conv1[0] = stem_convolution(in_channels, filters[0], 3, 1 if small else 2)
        if small:
            self.maxpool = nn.Identity()
        if weights is not None:
            load_weights(self, weights, "model.weights", published)

    def get_classifier(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.fc
