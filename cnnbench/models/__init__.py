"""Network architectures, one family a file. Each takes ``in_channels``, ``num_classes`` and ``image_size`` from the
data, the rest from its YAML in ``conf/model``, and maps images (N, C, H, W) to logits (N, num_classes)."""

from cnnbench.models.convnet import ConvNet
from cnnbench.models.mlp import MLP

__all__ = ["MLP", "ConvNet"]
