"""Grad-CAM: which parts of an image speak for a class (Selvaraju et al. 2017, equations 1 and 2), computed by captum."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cnnbench.data.augment import Normalize
from cnnbench.models.profile import eval_mode
from cnnbench.training.figures import IMAGE_SIDE
from cnnbench.utils.errors import RequestError

RED, OPAQUE = (255, 40, 0), 0.8  # of the greatest heat, and how much of it covers the image
TITLE = "beside each, in red, what speaks for the prediction (Grad-CAM)"
BATCH = 256  # images at a time


def check(key: str, network: nn.Module, channels: int, image_size: int) -> None:
    """Raise RequestError, which names the ``key`` that asks for heat maps, where captum is not installed or the network has
    no convolution that gives a map."""
    if find_spec("captum") is None:
        raise RequestError(f"{key} needs captum, which is not installed: pip install 'cnnbench[captum]'")
    if last_map(network, next(network.parameters()).new_zeros(1, channels, image_size, image_size)) is None:
        raise RequestError(f"{key}: {type(network).__name__} has no convolution that gives a map for Grad-CAM")


def last_map(network: nn.Module, image: Tensor) -> nn.Module | None:
    """The module whose output Grad-CAM weighs for this ``image`` (1, C, H, W): of those that give a map as large as that of
    the last convolution the one that ends last, so that its norm, its activation and a shortcut are in it. None where no
    convolution gives more than one position."""
    found: list[tuple[nn.Module, torch.Size]] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            found.append((module, output.shape[2:]))

    with ExitStack() as hooks, eval_mode(network):
        for part in network.modules():
            hooks.enter_context(part.register_forward_hook(keep))
        network.forward(image)
    sizes = [size for module, size in found if isinstance(module, nn.Conv2d) and size.numel() > 1]
    calls = Counter(module for module, _ in found)  # one that is called again has several outputs
    return next((module for module, size in found[::-1] if size in sizes[-1:] and calls[module] == 1), None)


def heat_maps(network: nn.Module, images: Tensor, classes: Tensor) -> np.ndarray:
    """How much each position of normalised ``images`` (N, C, H, W) speaks for their ``classes`` (N,): float32 (N, h,
    w), the size of ``last_map``, from 0 to 1, the greatest of each image; zeros where nothing does."""
    from captum.attr import LayerGradCam

    layer = last_map(network, images[:1])
    assert layer is not None  # as check has found
    explained, parts = LayerGradCam(network.forward, layer), []
    for some, target in zip(images.split(BATCH), classes.to(images.device).split(BATCH), strict=True):
        with eval_mode(network), torch.enable_grad():  # a frozen layer has gradients because the images have
            maps = explained.attribute(some.detach().requires_grad_(), target, relu_attributions=True)
        parts.append(maps.detach()[:, 0].float().cpu())
    maps = torch.cat(parts)
    return (maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).numpy()


def side_by_side(network: nn.Module, normalize: Normalize, images: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Each of the ``images``, uint8 (N, S, S, C), enlarged, and right of it the same in grey below the heat map of its class: uint8
    (N, s, 2 s + 4, 3)."""
    weight = next(network.parameters())
    maps = heat_maps(network, normalize(torch.from_numpy(images)).to(weight), torch.tensor(classes))
    size = max(IMAGE_SIDE // images.shape[1], 1) * images.shape[1]
    heat = interpolate(torch.from_numpy(maps)[:, None], (size, size), mode="bilinear")[:, 0, :, :, None].numpy()
    shown = []
    for pixels, warm in zip(images, heat, strict=True):
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
        image = image.resize((size, size), Image.Resampling.NEAREST)
        plain, grey = np.asarray(image), np.asarray(image.convert("L").convert("RGB"))
        mixed = (grey + OPAQUE * warm * (np.array(RED) - grey)).round().astype(np.uint8)
        shown.append(np.concatenate([plain, np.full((size, 4, 3), 255, np.uint8), mixed], axis=1))
    return np.stack(shown)
