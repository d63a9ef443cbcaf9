"""The multi-layer perceptron: what a network without convolutions reaches (report cifar100_hw3, section II)."""

from collections.abc import Sequence

from torch import Tensor, nn

from cnnbench.models.layers import fully_connected


class MLP(nn.Module):
    """Fully connected layers over the flattened pixels."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: int,
        *,
        hidden: Sequence[int],
        activation: str = "sigmoid",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.head = fully_connected(in_channels * image_size**2, hidden, num_classes, activation, dropout)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1))

    def get_classifier(self) -> nn.Module:
        return self.head[-1]
