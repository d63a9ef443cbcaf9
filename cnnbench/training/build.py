"""From nodes of the configuration to the things they name: data, network, optimizer, trainer."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import nn

from cnnbench.data import ImageDataModule
from cnnbench.models.weights import load_weights
from cnnbench.training.checkpoint_io import AtomicCheckpointIO
from cnnbench.training.distributed import FixedOrderDDP, external_launch
from cnnbench.training.loggers import build_loggers
from cnnbench.utils.environment import GPU_ACCELERATORS
from cnnbench.utils.errors import RequestError, one_line

AUTO_STEPS = 16  # optimizer steps in a Lightning step: more gains nothing measurable (benchmarks/README.md)
AUTO = "auto"  # of optimizer.lr: what a range test suggests; of devices: all
Config = dict[str, Any]


def build_data(config: Config) -> ImageDataModule:
    """The data module, prepared and split."""
    steps = config["steps_per_execution"]
    data: ImageDataModule = instantiate(
        config["data"], augment=instantiate(config["augment"]), accumulate=config["trainer"]["accumulate_grad_batches"],
        steps_per_execution=AUTO_STEPS if steps == AUTO else steps,
        _convert_="all",  # data.value_range becomes part of a JSON
    )  # fmt: skip
    data.setup()
    return data


def build_network(config: Config, data: ImageDataModule) -> nn.Module:
    """The network for the data's channels, classes and image size, channels_last, with the weights of ``init_from``."""
    for key in ("weights", "pretrained"):
        if config["init_from"] is not None and config["model"].get(key):
            raise RequestError(f"model.{key} and init_from both say where the weights come from; give one of them")
    images = data.prepared
    sizes = {"in_channels": images.channels, "num_classes": len(images.classes), "image_size": images.image_size}
    network: nn.Module = instantiate(config["model"], **sizes)
    load_weights(network, config["init_from"], "init_from")
    return network.to(memory_format=torch.channels_last)


def build_optimization(config: Config) -> dict[str, Any]:
    """The makers of ``optimizer`` and ``scheduler``, the ``interval`` at which the latter advances, and the ``warmup``
    before. ``optimizer.lr=auto`` is 1.0, for checks and for the range test; a run has its rate before it builds."""
    optimizer, schedule = dict(config["optimizer"]), dict(config["scheduler"])
    timing = {"interval": schedule.pop("interval"), "warmup": schedule.pop("warmup", 0.0)}
    if optimizer.get("lr") == AUTO:
        optimizer["lr"] = 1.0
    # lists as lists: what an optimizer keeps of its arguments goes into checkpoints, which hold plain values
    make = instantiate(schedule, _convert_="all") if schedule.get("_target_") else None
    return {"optimizer": instantiate(optimizer, _convert_="all"), "scheduler": make, **timing}


def count_devices(trainer: Config) -> int:
    """How many devices of each machine the run is asked to take."""
    devices = trainer["devices"]
    if devices == AUTO:
        return max(torch.cuda.device_count() if trainer["accelerator"] in GPU_ACCELERATORS else 0, 1)
    return len(devices) if isinstance(devices, list) else int(devices)


def count_ranks(trainer: Config) -> int:
    """How many devices there are of all machines."""
    return count_devices(trainer) * int(trainer.get("num_nodes", 1))


def cause_of(error: BaseException) -> BaseException:
    """What ``instantiate`` has failed with, or else the error itself."""
    return (error.__cause__ if isinstance(error, InstantiationException) else None) or error


def build_trainer(config: Config, folder: Path, callbacks: list[pl.Callback], resumed: int | None = None) -> pl.Trainer:
    """Lightning's trainer, of one process or of the ranks that there are; clipping and accumulation are the
    classifier's. ``resumed`` is how many whole epochs a killed run goes on from, for the loggers."""
    own = ("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")
    options = {key: value for key, value in config["trainer"].items() if key not in own}
    chosen = [instantiate(node) for node in config["callbacks"].values() if node and "_target_" in node]
    averages = [instantiate(config["average"])] if config.get("average", {}).get("_target_") else []
    ranks = external_launch()  # None is one process, whatever cluster it may run on
    return instantiate(
        options,
        strategy=AUTO if ranks is None else FixedOrderDDP(ranks, config["seed"]),
        plugins=[AtomicCheckpointIO(), *([LightningEnvironment()] if ranks is None else [])],
        callbacks=[*averages, *chosen[1:], *callbacks, *chosen[:1]],
        logger=build_loggers(config["logger"], folder, resumed), default_root_dir=str(folder),
        num_sanity_val_steps=0, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip


@contextmanager
def building(group: str) -> Iterator[None]:
    """Whatever is raised within this becomes a RequestError that names the config group."""
    try:
        yield
    except Exception as error:
        cause = cause_of(error)
        if isinstance(cause, RequestError):
            raise cause from None
        text = one_line(cause)
        if match := re.search(r"module (?:named )?'(timm|schedulefree|pytorch_optimizer)\b", text):
            text = f"{match[1]} is not installed: pip install 'cnnbench[{match[1]}]'"
        raise RequestError(f"{group}: {text}") from error
