"""Network architectures, one family a file. Each takes ``in_channels``, ``num_classes`` and ``image_size`` from the
data, the rest from a YAML in ``conf/model``, which explains it, and raises RequestError where a value is out of range or
the images are too small. It maps float images (N, in_channels, image_size, image_size) to logits (N, num_classes); its
method ``get_classifier`` returns the layer that gives the logits, for fine-tuning."""

from cnnbench.models.convnet import MLP, ConvNet
from cnnbench.models.xnor import XnorNet

# torchvision's are named in full in their YAMLs, for importing them takes a while
__all__ = ["MLP", "ConvNet", "XnorNet"]
