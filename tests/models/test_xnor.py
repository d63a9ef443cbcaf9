"""Binary convolutions: two values a filter, the paper's gradients, the size that is stated, and that they learn."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

from cnnbench.models import ConvNet, XnorNet
from cnnbench.models.profile import size_in_bits
from cnnbench.models.xnor import BinaryConv2d, _Sign


def test_the_forward_pass_sees_two_values_a_filter_and_two_of_the_input() -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(3, 4, 3, bias=False)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = 0.0  # no third value for it
    images = torch.randn(2, 3, 5, 5)
    scale = layer.weight.abs().mean((1, 2, 3))
    signs = torch.where(layer.weight >= 0, 1.0, -1.0)
    expected = torch.nn.functional.conv2d(torch.where(images >= 0, 1.0, -1.0), signs) * scale[:, None, None]
    torch.testing.assert_close(layer(images), expected)
    with torch.no_grad():  # neither the size of a weight nor that of a pixel plays a part, but for the filter's mean
        swapped = layer.weight[1].flip(0).abs() * signs[1]
        layer.weight[1] = swapped
    torch.testing.assert_close(layer(images * 7), expected)


def test_gradients_are_straight_through_and_clipped() -> None:
    values = torch.tensor([-1.5, -1.0, -0.2, 0.0, 0.9, 1.1], requires_grad=True)
    upstream = torch.arange(1.0, 7.0)
    _Sign.apply(values).backward(upstream)
    assert values.grad is not None and values.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 0.0]
    layer = BinaryConv2d(1, 1, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[[0.5, -0.3], [2.0, -1.2]]]]))
    image = torch.tensor([[[[1.0, -1.0], [1.0, 1.0]]]])
    layer(image).sum().backward()
    # the upstream gradient of the binary weights is the image; n = 4, alpha = 4.0 / 4
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, image * torch.tensor([[[[1.25, 1.25], [0.25, 0.25]]]]))


def test_the_size_counts_a_bit_a_binary_weight() -> None:
    network = XnorNet(1, 10, 28, filters=[32, 64, 128])
    binary = 32 * 64 * 9 + 64 * 128 * 9
    scales = 64 + 128
    full = 32 * 9 + 2 * (32 + 64 + 128) + 128 * 10 + 10  # first convolution, norms, last layer
    assert size_in_bits(network) == binary + 32 * (scales + full)
    assert sum(p.numel() for p in network.parameters()) == binary + full
    assert size_in_bits(ConvNet(1, 10, 28, filters=[2])) == 32 * (2 * 9 + 2 + 2 * 13 * 13 * 10 + 10)
    assert size_in_bits(nn.Linear(3, 1).double()) == 64 * 4
    kinds = [type(m) for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    assert kinds == [nn.Conv2d, *[nn.BatchNorm2d, BinaryConv2d] * 2, nn.BatchNorm2d, nn.Linear]


def test_it_learns_digits() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target)
    network = XnorNet(1, 10, 8, filters=[16, 32, 32], pools=[2, 1, 1])
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(5):
        for batch in torch.randperm(1400).split(50):
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        accuracy = (network.eval()(images[1400:]).argmax(1) == labels[1400:]).float().mean().item()
    assert accuracy > 0.8, accuracy
