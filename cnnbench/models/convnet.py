"""``ConvNet``: convolution blocks and a fully connected head, given as lists; ``MLP`` is the head alone.

Most networks of the five studies are this with other numbers, so each of them is a YAML and an ablation is an override:
``model.filters=[64,128,256] model.norm=batch model.activation=leaky_relu``.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from cnnbench.models import layers
from cnnbench.utils.errors import RequestError, one_of


def convolution(inputs: int, outputs: int, window: tuple[int, int, int], groups: int | str, index: int) -> nn.Module:
    """Convolution ``index``, of this kernel, stride and padding; depthwise and then 1x1 if its groups are
    ``separable``. Raises RequestError where they do not divide the channels before and after."""
    if isinstance(groups, str):
        depthwise = nn.Conv2d(inputs, inputs, *window, groups=inputs, bias=False)
        return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1))
    if inputs % groups or outputs % groups:
        wrong = f"must divide the {inputs} channels before convolution {index} and the {outputs} after it"
        raise RequestError(f"model.groups={groups} {wrong}; give a list with one for each convolution, such as [1, 2]")
    return nn.Conv2d(inputs, outputs, *window, groups=groups)


class ConvNet(nn.Module):
    """Blocks of convolution, norm, activation and max-pooling, then fully connected layers.

    Grouped filters each see one of ``groups`` groups of channels; ``separable`` is a depthwise convolution, each filter on
    a channel of its own, and a 1x1 convolution across the channels (Howard et al. 2017). The norm is before the activation
    (Ioffe & Szegedy 2015) or after it (as section 3.1E of report eq2425 says).
    """

    def __init__(
        self, in_channels: int, num_classes: int, image_size: int, *,
        filters: Sequence[int], kernels: int | Sequence[int] = 3, strides: int | Sequence[int] = 1,
        paddings: int | Sequence[int] = 0, groups: int | str | Sequence[int | str] = 1, pools: int | Sequence[int] = 2,
        activation: str = "relu", activate: bool | Sequence[bool] = True,
        norm: str = "none", norm_place: str = "before_activation",
        feature_dropout: float = 0.0, hidden: Sequence[int] = (), dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        one_of("model.norm_place", norm_place, ("before_activation", "after_activation"))
        make_norm = layers.NORMS[one_of("model.norm", norm, layers.NORMS)]
        filters = layers.widths("filters", filters)
        depth, channels, size, blocks = len(filters), in_channels, image_size, []
        whole = {"kernels": (kernels, 1), "strides": (strides, 1), "paddings": (paddings, 0), "pools": (pools, 0)}
        *windows, pools = layers.whole_per_layer(depth, **whole)
        words = "whole numbers of at least 1 or separable"
        groups = layers.per_layer("groups", groups, depth, lambda g: g == "separable" or layers.is_whole(g, 1), words)
        activate = layers.per_layer("activate", activate, depth, lambda one: isinstance(one, bool), "true or false")
        given = zip(filters, zip(*windows, strict=True), groups, pools, activate, strict=True)
        for index, (width, window, group, pool, active) in enumerate(given, start=1):
            size = layers.output_size(size, image_size, f"convolution {index}", *window)
            block: list[nn.Module] = [convolution(channels, width, window, group, index)]
            middle = [make_norm(width), layers.activation_layer(activation if active else "none")]
            if norm_place == "after_activation":
                middle.reverse()
            block += [layer for layer in middle if not isinstance(layer, nn.Identity)]
            if pool > 1:
                size = layers.output_size(size, image_size, f"pooling {index}", pool, pool)
                block.append(nn.MaxPool2d(pool))
                if isinstance(block[-2], nn.ReLU):  # after the pooling: the same values and gradients, of fewer pixels
                    block[-2:] = [block[-1], nn.ReLU(inplace=True)]
            blocks.append(nn.Sequential(*block))
            channels = width
        self.features = nn.Sequential(*blocks)
        self.feature_dropout = layers.dropout_layer(feature_dropout)
        self.head = layers.fully_connected(channels * size * size, hidden, num_classes, activation, dropout)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.feature_dropout(self.features(images).flatten(1)))

    def get_classifier(self) -> nn.Module:
        return self.head[-1]


class MLP(ConvNet):
    """Fully connected layers over the flattened pixels: what a network without convolutions reaches (report cifar100_hw3,
    section II)."""

    def __init__(
        self, in_channels: int, num_classes: int, image_size: int, *,
        hidden: Sequence[int], activation: str = "sigmoid", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        sizes = in_channels, num_classes, image_size
        super().__init__(*sizes, filters=(), hidden=hidden, activation=activation, dropout=dropout)
