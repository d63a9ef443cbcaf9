"""Each operation on a batch is torchvision's on every image of it, given the same draw.

Copies and masks are equal to the bit. Where numbers are rounded to 256 levels a pixel may be one level beside torchvision's,
which multiplies in another order (resized is float, for of uint8 torchvision rounds the weights too); nearest-neighbour sampling may take the
other of two pixels that are as near, which is a share of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from cnnbench.config.schema import check_values
from cnnbench.data.augment import Augment, Mixing
from cnnbench.data.operations import GEOMETRIC, OPERATIONS, Policy, draw_boxes
from cnnbench.training.quirks import CrossEntropy
from cnnbench.utils.errors import RequestError

SIZE = 24
BILINEAR = v2.InterpolationMode.BILINEAR
# By what torchvision calls them.
NAMES = {
    "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX", "translate_y": "TranslateY",
    "saturation": "Color", "autocontrast": "AutoContrast",
}  # fmt: skip


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def images(count: int, channels: int = 3, size: int = SIZE) -> Tensor:
    """Smooth pictures with some noise, of many levels."""
    coarse = torch.rand(count, channels, 6, 6, generator=generator())
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    noisy = 220 * smooth + 35 * torch.rand(smooth.shape, generator=generator())
    return noisy.byte().permute(0, 2, 3, 1).contiguous()


def levels(ours: Tensor, expected: Tensor) -> Tensor:
    """By how many levels each pixel differs: one image, ours (H, W, C) and torchvision's (C, H, W)."""
    return (ours.permute(2, 0, 1).int() - expected.int()).abs()


def colour(image: Tensor, draw: list[float]) -> Tensor:
    image = functional.adjust_brightness(image, draw[0])
    image = functional.adjust_contrast(image, draw[1])
    return functional.adjust_saturation(image, draw[2])


def resized_crop(image: Tensor, draw: list[float]) -> Tensor:
    top, left, height, width = map(int, draw)
    return functional.resized_crop(image.float(), top, left, height, width, [SIZE, SIZE], antialias=True).round()


def erase(image: Tensor, draw: list[float]) -> Tensor:
    top, left, height, width = map(int, draw)
    return functional.erase(image, top, left, height, width, torch.zeros(1, dtype=torch.uint8)) if height else image


OF_ONE = {
    "resized_crop": ({"resized_crop": 0.2}, resized_crop, 1),
    "rotate": ({"rotate": 90}, lambda image, draw: functional.rotate(image, draw[0], BILINEAR), 1),
    "brightness": ({"brightness": 0.9}, colour, 1),
    "contrast": ({"contrast": 0.9}, colour, 1),
    "saturation": ({"saturation": 0.9}, colour, 1),
    "erase": ({"erase": 0.5}, erase, 0),
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OF_ONE)
def test_a_batch_has_torchvisions_operation_on_each_image(name: str, channels: int) -> None:
    options, one, most = OF_ONE[name]
    augment, batch = Augment(**options), images(48, channels)
    draws = augment.draw(len(batch), SIZE, generator())
    before, out = batch.clone(), augment(batch, draws)
    assert torch.equal(batch, before) and out.shape == batch.shape and out.dtype == torch.uint8
    off = torch.stack(
        [levels(o, one(b.permute(2, 0, 1), d[5:].tolist())) for o, b, d in zip(out, batch, draws, strict=True)]
    )
    assert off.max() <= most and (off > 0).float().mean() < 0.02
    grey_has_no_colour = name == "saturation" and channels == 1
    assert torch.equal(out, batch) == grey_has_no_colour


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["trivial", "rand"])
def test_a_policy_is_torchvisions_operation_on_each_image(name: str, channels: int) -> None:
    policy, batch = Policy(name, 1, 17), images(14 * 16, channels)
    draws = policy.draw(len(batch), SIZE, generator())
    out, theirs = policy(batch, draws, draws), v2.TrivialAugmentWide()
    counts = torch.zeros(len(OPERATIONS))
    for ours, image, (number, strength) in zip(out, batch, draws.tolist(), strict=True):
        operation = OPERATIONS[int(number)]
        counts[int(number)] += 1
        expected = theirs._apply_image_or_video_transform(
            image.permute(2, 0, 1), NAMES.get(operation, operation.capitalize()), strength, "nearest", {}
        )
        off = levels(ours, expected)
        if operation in GEOMETRIC:
            assert (off > 0).float().mean() < 0.02, (operation, strength)
        else:
            assert off.max() <= 1 and (off > 0).float().mean() < 0.02, (operation, strength)
    assert counts.min() >= 4


@pytest.mark.parametrize(
    ("name", "theirs"), [("trivial", v2.TrivialAugmentWide()), ("rand", v2.RandAugment())], ids=["trivial", "rand"]
)
def test_the_strengths_of_a_policy_are_torchvisions(name: str, theirs: Any) -> None:
    ours = Policy(name).strengths(331)
    for number, operation in enumerate(OPERATIONS):
        magnitudes, signed = theirs._AUGMENTATION_SPACE[NAMES.get(operation, operation.capitalize())]
        found = magnitudes(31, 331, 331)
        expected = torch.zeros(31) if found is None else found.float()
        torch.testing.assert_close(ours[number], expected, msg=operation)
        draws = Policy(name, 1, 30).draw(500, 331, generator())
        assert signed == bool((draws[draws[:, 0] == number][:, 1] < 0).any())


def test_rounds_of_rand_augment_follow_one_another() -> None:
    two, one, batch = Policy("rand", 2, 20), Policy("rand", 1, 20), images(64)
    draws = two.draw(64, SIZE, generator())
    expected = one(one(batch, draws[:, :2], draws[:, :2]), draws[:, 2:], draws[:, 2:])
    assert torch.equal(two(batch, draws, draws), expected)
    assert Policy("trivial").strengths(8)[3].max() == 8  # no further than out of the image


def test_boxes_are_drawn_as_torchvision_draws_them() -> None:
    ours = draw_boxes(4000, 32, (0.25, 1.0), float(np.log(4 / 3)), generator())
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= 32).all()
    torch.manual_seed(0)
    crop, image = v2.RandomResizedCrop(32, (0.25, 1.0)), [torch.zeros(3, 32, 32)]
    theirs = torch.tensor([[*crop.make_params(image).values()][:4] for _ in range(1000)]).float()
    error = (ours.std(dim=0) ** 2 / 4000 + theirs.std(dim=0) ** 2 / 1000).sqrt()
    assert ((ours.mean(dim=0) - theirs.mean(dim=0)).abs() < 4.5 * error).all()


def mixed(mixup: float, cutmix: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    pixels, labels = torch.rand(64, 3, 16, 16, generator=generator()), torch.arange(64) % 5
    mixing = Mixing(mixup, cutmix)
    draws = mixing.draw(60, 16, generator(), 32)
    partner = torch.arange(60) // 32 * 32 + draws[:, 0].long()
    out, targets = mixing(pixels.to(memory_format=torch.channels_last), labels, partner, draws, 5)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert partner[:32].sort().values.tolist() == [*range(32)] and partner[32:].sort().values.tolist() == [
        *range(32, 60)
    ]
    return pixels, labels, draws, partner, out, targets


def test_mixup_is_torchvisions_sum_of_two_images_and_their_labels() -> None:
    pixels, labels, draws, partner, out, targets = mixed(0.4, 0)
    for i, (share, j) in enumerate(zip(draws[:, 1], partner, strict=True)):
        torch.testing.assert_close(out[i], share * pixels[i] + (1 - share) * pixels[j], rtol=0, atol=1e-6)
        expected = torch.zeros(5)
        expected[labels[i]] += share
        expected[labels[j]] += 1 - share
        torch.testing.assert_close(targets[i], expected)
    # both labels, each with its share, go through the loss
    logits = torch.randn(60, 5, generator=generator())
    own, other = (
        torch.nn.functional.cross_entropy(logits, y, reduction="none") for y in (labels[:60], labels[partner])
    )
    expected = (draws[:, 1] * own + (1 - draws[:, 1]) * other).mean()
    torch.testing.assert_close(CrossEntropy()(logits, targets), expected)
    assert CrossEntropy()(logits.bfloat16(), targets).dtype == torch.float32


def test_cutmix_is_torchvisions_box_of_the_partner_and_its_labels_by_area() -> None:
    pixels, labels, draws, partner, out, targets = mixed(0, 1.0)
    for i, ((_, _, top, left, height, width), j) in enumerate(zip(draws.long().tolist(), partner, strict=True)):
        expected = pixels[i].clone()
        box = (slice(None), slice(top, top + height), slice(left, left + width))
        expected[box] = pixels[j][box]
        assert torch.equal(out[i], expected)
        wanted = torch.zeros(5)
        wanted[labels[j]] += height * width / 256
        wanted[labels[i]] += 1 - height * width / 256
        torch.testing.assert_close(targets[i], wanted)


def test_shares_are_from_the_beta_distribution_and_both_kinds_are_half_of_the_images() -> None:
    from scipy.stats import beta, kstest

    draws = Mixing(0.4, 0).draw(4000, 32, generator(), 64)
    assert kstest(draws[:, 1].numpy(), beta(0.4, 0.4).cdf).pvalue > 1e-3
    both = Mixing(0.4, 1.0).draw(4000, 32, generator(), 64)
    cut = (both[:, 1] == 1) & (both[:, 4] > 0)
    assert abs(cut.float().mean() - 0.5) < 0.05
    assert (both[~cut, 4] == 0).all()


WRONG = {
    "rotate": 181, "resized_crop": 1.5, "brightness": -0.1, "contrast": "x", "saturation": -1, "policy": "auto", "erase": 2,
    "rand_operations": 0, "rand_magnitude": 31, "mixup": -0.2, "cutmix": float("inf"),
}  # fmt: skip


@pytest.mark.parametrize("key", WRONG)
def test_options_out_of_range_are_refused(key: str) -> None:
    with pytest.raises(RequestError, match=f"augment.{key}"):
        check_values({"augment": {key: WRONG[key]}})


@pytest.mark.parametrize("loss", ["bce", "weighted"])
def test_other_losses_of_mixed_labels_are_the_sum_of_those_of_both(loss: str) -> None:
    from cnnbench.training.losses import FocalLoss, WeightedCrossEntropy

    of = FocalLoss([3, 2, 5], 0.1) if loss == "bce" else WeightedCrossEntropy([30, 2, 5], 0.1, 0.99)
    logits, first, second = torch.randn(1, 3, generator=generator()), torch.tensor([1]), torch.tensor([2])
    expected = 0.7 * of(logits, first) + 0.3 * of(logits, second)
    torch.testing.assert_close(of(logits, torch.tensor([[0.0, 0.7, 0.3]])), expected)


def test_the_focal_loss_of_mixed_labels_is_refused() -> None:
    from cnnbench.training.losses import build_loss

    focal = {"_target_": "cnnbench.training.losses.FocalLoss", "gamma": 2.0}
    config = {
        "loss": focal,
        "label_smoothing": 0.0,
        "quirks": {"softmax_before_loss": False},
        "augment": {"mixup": 0.2},
    }
    with pytest.raises(RequestError, match="use loss=bce"):
        build_loss(config, [3, 2])
