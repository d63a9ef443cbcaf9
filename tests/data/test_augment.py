"""Every sample has its own draw; crops, flips and cut-outs are what a slow loop makes of the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnbench.config.schema import check_values
from cnnbench.data.augment import Augment, Normalize, epoch_generator
from cnnbench.utils.errors import RequestError


def images(count: int = 64, size: int = 12, channels: int = 3, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.randint(1, 256, (count, size, size, channels), generator=torch.Generator().manual_seed(0)).to(dtype)


def slowly(image: np.ndarray, draw: np.ndarray, augment: Augment) -> np.ndarray:
    """One image, step by step, the way a person would describe it."""
    size, pad = len(image), augment.crop_padding
    row, column, flipped, cut_row, cut_column = draw.astype(int)
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    out = padded[row : row + size, column : column + size].copy()
    if flipped:
        out = out[:, ::-1].copy()
    top, left = cut_row - augment.cutout // 2, cut_column - augment.cutout // 2
    out[max(top, 0) : max(top + augment.cutout, 0), max(left, 0) : max(left + augment.cutout, 0)] = 0
    return out


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{"crop_padding": 4}, {"flip": 0.5}, {"cutout": 5},
                                     {"crop_padding": 2, "flip": 0.5, "cutout": 4}], ids=str)  # fmt: skip
def test_a_batch_equals_its_images_done_one_by_one(options: dict, channels: int, dtype: torch.dtype) -> None:
    augment, batch = Augment(**options), images(channels=channels, dtype=dtype)
    draws = augment.draw(len(batch), 12, torch.Generator().manual_seed(3))
    before = batch.clone()
    out = augment(batch, draws)
    assert out.shape == batch.shape and out.dtype == dtype and torch.equal(batch, before)
    for index in range(len(batch)):
        expected = slowly(batch[index].numpy(), draws[index].numpy(), augment)
        np.testing.assert_array_equal(out[index].numpy(), expected)


def test_every_sample_has_its_own_draw_and_the_distributions_are_right() -> None:
    draws = Augment(crop_padding=4, flip=0.3, cutout=4).draw(20_000, 32, epoch_generator(0, 0, "draws"))
    for column, sides in ((0, 9), (1, 9), (3, 32), (4, 32)):
        counts = torch.bincount(draws[:, column].long(), minlength=sides).double()
        assert len(counts) == sides
        chi_square = ((counts - 20_000 / sides) ** 2 / (20_000 / sides)).sum()
        assert chi_square < sides + 5 * np.sqrt(2 * sides)  # five standard deviations above its mean
    assert abs(draws[:, 2].double().mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 20_000)
    correlations = np.corrcoef(draws.T.numpy()) - np.eye(5)
    assert np.abs(correlations).max() < 0.04


def test_draws_follow_from_seed_and_epoch_alone() -> None:
    augment = Augment(crop_padding=4, flip=0.5)

    def draw(seed: int, epoch: int) -> torch.Tensor:
        return augment.draw(100, 32, epoch_generator(seed, epoch, "draws"))

    assert torch.equal(draw(1, 2), draw(1, 2))
    assert not torch.equal(draw(1, 2), draw(1, 3)) and not torch.equal(draw(1, 2), draw(2, 2))
    assert not torch.equal(draw(1, 2), draw(2, 1))
    order, draws = (torch.rand(5, generator=epoch_generator(1, 1, stream)) for stream in ("order", "draws"))
    assert not torch.equal(order, draws)


def test_normalisation_is_that_of_torchvision_in_channels_last_memory() -> None:
    from torchvision.transforms.v2.functional import normalize

    batch, mean, std = images(), [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    ours = Normalize(mean, std)(batch)
    expected = normalize(batch.permute(0, 3, 1, 2).float() / 255, mean, std)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert ours.is_contiguous(memory_format=torch.channels_last) and ours.dtype == torch.float32


def test_normalisation_is_one_product_and_one_sum_and_leaves_its_input_alone() -> None:
    for channels, sizes in ((1, (12, 5)), (3, (12, 5))):
        normalize = Normalize([0.4, 0.5, 0.6][:channels], [0.2, 0.3, 0.4][:channels])
        for size in sizes:  # the constants are kept by width
            for dtype in (torch.uint8, torch.float32):
                batch = images(5, size, channels, dtype)
                before = batch.clone()
                expected = (batch.float() * normalize.scale + normalize.shift).permute(0, 3, 1, 2)
                assert torch.equal(normalize(batch), expected) and torch.equal(batch, before)


@pytest.mark.parametrize("options", [{"flip": 1.5}, {"flip": "x"}, {"crop_padding": -1}, {"cutout": 2.5}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(RequestError, match=f"augment.{next(iter(options))}"):
        check_values({"augment": options})


def test_nothing_asked_is_nothing_done() -> None:
    assert not Augment() and Augment(flip=0.1) and Augment(cutout=2)
