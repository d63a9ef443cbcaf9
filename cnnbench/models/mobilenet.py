"""MobileNetV2 (Sandler et al. 2018): inverted residuals of depthwise-separable convolutions, torchvision's."""

from torch import nn
from torchvision.models.mobilenetv2 import MobileNet_V2_Weights
from torchvision.models.mobilenetv2 import MobileNetV2 as TorchvisionMobileNetV2

from cnnbench.models.layers import check_width, small_stem, stem_convolution
from cnnbench.models.weights import load_weights

# expansion, filters, blocks, stride of the first block (the paper's table 2)
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetV2(TorchvisionMobileNetV2):
    """torchvision's MobileNetV2, its parameters under torchvision's names, for images of any size and channels. In the
    small stem the first two strides of 2 become 1; any weights fit either stem."""

    def __init__(
        self, in_channels: int, num_classes: int, image_size: int, *,
        width: float = 1.0, stem: str = "auto", dropout: float = 0.2, weights: str | None = None,
    ) -> None:  # fmt: skip
        check_width(width)
        small = small_stem(stem, image_size, weights)
        stages = [list(stage) for stage in STAGES]
        stages[1][3] = 1 if small else 2
        super().__init__(num_classes, width, stages, dropout=dropout)
        self.features[0][0] = stem_convolution(in_channels, self.features[0][0].out_channels, 3, 1 if small else 2)
        load_weights(self, weights, "model.weights", MobileNet_V2_Weights.IMAGENET1K_V2)

    def get_classifier(self) -> nn.Module:
        return self.classifier[-1]
