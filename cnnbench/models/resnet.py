"""ResNet-18 (He et al. 2016, "Deep Residual Learning for Image Recognition", table 1), torchvision's."""

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet, ResNet18_Weights

from cnnbench.models.layers import small_stem, stem_convolution
from cnnbench.models.weights import load_weights


class ResNet18(ResNet):
    """torchvision's ResNet-18, its parameters under torchvision's names, for images of any size and channels; the small
    stem is that of He et al. for CIFAR-10 (section 4.2)."""

    def __init__(
        self, in_channels: int, num_classes: int, image_size: int, *, stem: str = "auto", weights: str | None = None
    ) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes)
        if small_stem(stem, image_size, weights):
            self.conv1 = stem_convolution(in_channels, 64, 3, 1)
            self.maxpool = nn.Identity()
        elif in_channels != 3:
            self.conv1 = stem_convolution(in_channels, 64, 7, 2)
        load_weights(self, weights, "model.weights", ResNet18_Weights.IMAGENET1K_V1)

    def get_classifier(self) -> nn.Module:
        return self.fc
