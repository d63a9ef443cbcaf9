"""Any network of timm or torchvision by its name there, and the images that its published weights were trained on.

A name is one that the library lists, so that a saved run reaches neither a file (timm's ``local-dir:``) nor anybody's
repository (``hf-hub:``).
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
import torchvision
from torch import nn

from cnnbench.models.layers import stem_convolution
from cnnbench.models.weights import is_loading_skipped, load_weights
from cnnbench.utils.errors import RequestError, did_you_mean, one_line, refuse

log = logging.getLogger(__name__)
CONVOLUTION = ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
SAFE = "model.safetensors"  # how the hub keeps timm's weights


def timm_network(
    in_channels: int, num_classes: int, image_size: int, name: str, pretrained: bool = False, small_stem: bool = False
) -> nn.Module:
    """``timm.create_model(name)`` for these images and classes; raises RequestError where timm has no such network or
    no weights for it, they cannot be had, the network has no small stem, or the images are too small for it."""
    import timm

    config = _timm_config(name, pretrained)
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
    if config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    if not pretrained or is_loading_skipped.get():
        network = _build(timm.create_model, name, options, image_size)
    else:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(config.hf_hub_id, SAFE) if config.hf_hub_id and not config.custom_load else None
        options["pretrained_cfg_overlay"] = {"file": path} if isinstance(path, str) else {}  # so that nobody is asked
        origin, hub = config.hf_hub_id or config.url, logging.getLogger("huggingface_hub")
        level = hub.level
        hub.setLevel(logging.ERROR)  # it warns of each of its tries
        try:
            with torch.device("cpu"):
                network = timm.create_model(name, pretrained=True, **options)
        except Exception as error:
            wrong = f"timm's weights {origin} could not be had ({one_line(error)[:200]})"
            kept = "they are downloaded once, into the cache of huggingface_hub (HF_HOME names its folder)"
            remedy = f"{kept}; or give a file: model.pretrained=false init_from=FILE"
            raise RequestError(f"model.pretrained=true: {wrong}; {remedy}") from error
        finally:
            hub.setLevel(level)
        log.info("started from timm's %s", origin)
    return _finish(network, name, in_channels, num_classes, image_size, pretrained, small_stem)


def torchvision_network(
    in_channels: int, num_classes: int, image_size: int, name: str, pretrained: bool = False, small_stem: bool = False
) -> nn.Module:
    """The network of ``torchvision.models`` for these images and classes; raises as ``timm_network``."""
    weights = _torchvision_weights(name)
    options: dict[str, Any] = {"num_classes": num_classes}
    if name.startswith("vit"):
        options["image_size"] = image_size
    elif name.startswith("maxvit"):
        options["input_size"] = (image_size, image_size)
    elif name in ("googlenet", "inception_v3"):
        if pretrained and in_channels != 3 and not is_loading_skipped.get():
            raise RequestError(f"model.pretrained=true: {name}'s weights are for colour images on a scale of their own")
        # whose conversion to that scale it does itself
        options |= {"aux_logits": False, "init_weights": True, "transform_input": pretrained and in_channels == 3}
    network = _build(torchvision.models.get_model, name, options, image_size)
    outputs = [(key, vars(module)) for key, module in network.named_modules()]
    giving = [key for key, has in outputs if num_classes in (has.get("out_features"), has.get("out_channels"))]
    network.classifier_name = giving[-1]
    if in_channels != 3:
        key, first = next((key, m) for key, m in network.named_modules() if isinstance(m, nn.Conv2d))
        same: Any = {of: getattr(first, of) for of in CONVOLUTION}
        network.set_submodule(key, nn.Conv2d(in_channels, **same, bias=first.bias is not None))
    if pretrained:
        adapts = name.startswith(("densenet", "googlenet", "inception"))
        built = partial(_published_network, name, weights) if adapts else None
        load_weights(network, str(weights), "model.pretrained", weights, built)
    return _finish(network, name, in_channels, num_classes, image_size, pretrained, small_stem)


def images_of_weights(builder: str, name: str) -> dict[str, Any]:
    """``image_size`` in pixels, ``mean`` and ``std`` per channel, of the images that the published weights were trained on.
    ``builder`` is the name of a function of this module. Raises RequestError where there is no such network, or it has no
    weights."""
    if builder == timm_network.__name__:
        from timm.data import resolve_data_config

        known = resolve_data_config(pretrained_cfg=_timm_config(name, True).to_dict())
        return {"image_size": known["input_size"][-1], "mean": [*known["mean"]], "std": [*known["std"]]}
    transforms = _torchvision_weights(name).transforms()
    return {"image_size": transforms.crop_size[0], "mean": [*transforms.mean], "std": [*transforms.std]}


def _timm_config(name: str, pretrained: bool) -> Any:
    """timm's PretrainedCfg of a network; None where it has none, and none is needed."""
    import timm

    _check_name("timm", name, [*timm.list_models(), *(tagged := timm.list_models(pretrained=True))])
    if timm.models.is_model_pretrained(name):
        return timm.models.get_pretrained_cfg(name)
    if pretrained:
        raise RequestError(f"model.pretrained=true: timm has no weights of {name}{did_you_mean(name, tagged)}")
    return None


def _torchvision_weights(name: str) -> Any:
    """The newest weights that torchvision has of a network."""
    _check_name("torchvision", name, torchvision.models.list_models(module=torchvision.models))
    return torchvision.models.get_model_weights(name).DEFAULT


def _published_network(name: str, weights: Any) -> nn.Module:
    network: Any = torchvision.models.get_model(name, weights=weights, progress=False)
    if hasattr(network, "AuxLogits"):  # of inception_v3; googlenet leaves its own out
        network.AuxLogits = None
    return network


def _check_name(library: str, name: str, names: list[str]) -> None:
    if name not in names:
        raise RequestError(f"model.name={name!r} is no network of {library}{did_you_mean(name, names)}")


def _taking(name: str, image_size: int) -> AbstractContextManager[None]:
    """What a network says of images that it cannot take, in a line."""
    wrong = f"model.name={name} takes no images of {image_size}x{image_size}"
    return refuse(wrong, RuntimeError, AssertionError, ValueError, most=200)


def _build(make: Callable[..., nn.Module], name: str, options: dict[str, Any], image_size: int) -> Any:
    with _taking(name, image_size):
        try:
            return make(name, **options)
        except NotImplementedError:  # regnets compute while they are built, which the meta device cannot
            with torch.device("cpu"):
                network = make(name, **options)
            return network.to(torch.get_default_device())


def _finish(
    network: Any, name: str, channels: int, classes: int, image_size: int, pretrained: bool, small_stem: bool
) -> nn.Module:
    """The network with its small stem, if it is to have one, tried on an image."""
    if small_stem and pretrained:
        raise RequestError("model.small_stem=true: the weights are of the other stem; use model.pretrained=false")
    if small_stem:
        first, pool = getattr(network, "conv1", None), getattr(network, "maxpool", None)
        if not isinstance(first, nn.Conv2d) or not isinstance(pool, nn.MaxPool2d):
            raise RequestError(f"model.small_stem=true: {name} has no such stem; resnets such as resnet18 have")
        network.conv1, network.maxpool = stem_convolution(channels, first.out_channels, 3, 1), nn.Identity()
    with _taking(name, image_size), torch.no_grad(), next(network.parameters()).device:
        logits = network.eval()(torch.zeros(1, channels, image_size, image_size))
    if logits.shape != (1, classes):
        raise RequestError(f"model.name={name} is no classifier: it gives {'x'.join(map(str, logits.shape))} numbers")
    return network.train()
