"""Before anything runs: build everything that a configuration names, at no cost, and say what is wrong in one line."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as pl
import torch
import yaml
from torch import nn
from torch.optim import Optimizer

from cnnbench.config.groups import groups, read_yaml
from cnnbench.data import ImageDataModule
from cnnbench.models.fine_tune import classifier_of
from cnnbench.training import build, grad_cam
from cnnbench.training.build import Config, building
from cnnbench.training.callbacks.checkpoint import BestAndLast
from cnnbench.training.callbacks.figures import last_linear
from cnnbench.training.distributed import external_launch
from cnnbench.training.loggers import check_packages
from cnnbench.training.losses import build_loss
from cnnbench.training.metrics import check_classes, metric_mode, metrics_beside, objectives
from cnnbench.training.optimizers import build_optimizer, inner_optimizers, parameter_groups
from cnnbench.training.schedulers import build_scheduler, watches_a_metric
from cnnbench.utils.console import print_info, silence_libraries
from cnnbench.utils.environment import GPU_ACCELERATORS
from cnnbench.utils.errors import RequestError, did_you_mean

# Arguments of the Trainer beside those that conf/trainer has; they count neither steps nor batches.
TRAINER_OPTIONS = {"gradient_clip_algorithm", "detect_anomaly", "benchmark", "inference_mode", "profiler"}
MOST_NAMED = 6  # classes in a sentence

_checked: set[str] = set()


def check(config: Config) -> None:
    """Build everything that this configuration names; raises RequestError, which says what cannot be built."""
    # once for all seeds, by all keys, as some that change no result can be wrong too; paths may be relative
    but_seeds = {**config, "seed": 0, "sweep": 0, "data": {**config["data"], "seed": 0}}
    if (key := f"{Path.cwd()} {but_seeds}") in _checked:
        return
    silence_libraries()
    check_keys(config)
    for name, objective in objectives(config).items():
        metric_mode(objective, name)
    data = check_data(config)
    check_objectives(config, data)
    check_network(config, data)
    with building("loss"):
        build_loss(config, data.class_counts())
    optimizer = check_optimization(config, data)
    check_trainer(config["trainer"])
    check_steps(config, optimizer)
    check_devices(config, build.count_devices(config["trainer"]))
    check_packages(config["logger"])
    with building("trainer"):
        checkpoint = BestAndLast(Path(), config["objective"])
        build.build_trainer({**config, "logger": {}}, Path(), [checkpoint])
    _checked.add(key)


def check_data(config: Config) -> ImageDataModule:
    """The data, prepared; prints what its keys do otherwise than they say, once in this process."""
    with building("data"):
        data = build.build_data(config)
        data.statistics()
    for note in [note for note in [*data.prepared.notes, *notes_on(config, data)] if note not in _checked]:
        print_info(f"  {note}")
        _checked.add(note)
    return data


def check_objectives(config: Config, data: ImageDataModule) -> None:
    """Raises RequestError where what chooses or is reported is not measured, or on the test set in silence."""
    check_classes(metrics_beside(config), len(data.classes))
    for key, objective in objectives(config).items():
        if objective.startswith("val/") and not data.count("val"):
            raise RequestError(
                f"{key}=val/... needs a validation split; with data.validation=none use {key}=train/loss"
            )
        if objective.startswith("test/"):
            raise RequestError(
                f"{key}=test/... would select on the test set; to do as published, say {key}=val/... with data.validation=test"
            )
    if config["quirks"]["train_in_eval_mode"] and not data.count("val"):
        raise RequestError(
            "quirks.train_in_eval_mode=true is measured after validation, so not with data.validation=none"
        )


def check_network(config: Config, data: ImageDataModule) -> None:
    """Raises RequestError where the network cannot be built for these images, trained, or looked into as asked."""
    with building("model"), torch.device("meta"):
        network = build.build_network(config, data)
        check_last_batch(network, data, config["trainer"])
    figures = config["callbacks"].get("figures") or {}
    if figures.get("projector") and last_linear(network) is None:
        raise RequestError(f"callbacks.figures.projector: {type(network).__name__} has no linear layer, so no features")
    if figures.get("explain", "none") != "none":
        grad_cam.check("callbacks.figures.explain=gradcam", network, data.prepared.channels, data.prepared.image_size)
    if config["fine_tune"]["frozen_epochs"]:
        classifier_of(network)
    parameter_groups(network, **{key: value for key, value in config["fine_tune"].items() if key != "frozen_epochs"})


def check_optimization(config: Config, data: ImageDataModule) -> Optimizer:
    """The optimizer, of a weight that stands for the network's; raises RequestError where it or the schedule cannot be."""
    with building("optimizer"):
        parts = build.build_optimization(config)
        epochs = config["trainer"]["max_epochs"]
        steps = data.steps_per_epoch * epochs
        optimizer = build_optimizer(parts["optimizer"], [nn.Parameter(torch.zeros(1))], steps)
    with building("scheduler"):
        length = steps if parts["interval"] == "step" else epochs
        scheduler = build_scheduler(parts["scheduler"], optimizer, length, parts["warmup"], steps // length)
    if parts["interval"] == "step" and watches_a_metric(scheduler):
        raise RequestError(
            "scheduler.interval=step: this schedule follows the objective, which is measured once an epoch; "
            "use scheduler.interval=epoch"
        )
    return optimizer


def check_keys(config: Config) -> None:
    """Raises RequestError where +KEY=... or a YAML has set a key that nobody would read, or has not said what is made."""
    if config.get("experiment"):
        wrong = "the experiment's keys would go below 'experiment'"
        raise RequestError(f"{wrong}: its YAML must begin with # @package _global_")
    for group in ("model", "data", "optimizer", "augment", "trainer"):
        if not isinstance(config[group], dict) or not config[group].get("_target_"):
            raise RequestError(f"{group} has no _target_, which names the class or function that makes it")
    own = yaml.safe_load(read_yaml("", "config"))
    nodes = {name: (config[name], own[name]) for name in ("quirks", "checkpoint", "divergence", "sweep")}
    nodes["fine_tune"] = config["fine_tune"], yaml.safe_load(read_yaml("fine_tune", "none"))
    figures = yaml.safe_load(read_yaml("callbacks", "default"))["figures"]
    nodes["study"] = config["study"], ("name", "row", "form", "change", "reported")
    nodes["callbacks.figures"] = config["callbacks"].get("figures") or {}, figures
    for name, (given, known) in nodes.items():
        if given is None:
            raise RequestError(f"{name}=null: it has keys of its own, {', '.join(known)}")
        for key in given.keys() - known:
            raise RequestError(f"{name}.{key} is no key; {name} has {', '.join(known)}{did_you_mean(key, known)}")


def notes_on(config: Config, data: ImageDataModule) -> Iterator[str]:
    """What the data's keys and the augmentations do otherwise than their names say."""
    chosen, validation = config["augment"], config["data"]["validation"]
    if "val_labels" in data.prepared.arrays and validation != "own":
        yield f"the set's own val images are not used: data.validation={validation} (own uses them)"
    if data.limit_train is not None:
        stored = data.prepared.arrays["train_labels"]
        gone = [data.classes[i] for i, n in enumerate(data.class_counts()) if not n and (stored == i).any()]
        if gone:
            more = f" and {len(gone) - MOST_NAMED} more" if len(gone) > MOST_NAMED else ""
            yield f"data.limit_train={data.limit_train} leaves no training image of class {', '.join(gone[:MOST_NAMED])}{more}"
    if data.value_range is not None and data.prepared.value_range is None:
        yield "data.value_range changes nothing: no image has grey of more than 8 bits"
    if chosen.get("saturation") and data.prepared.channels == 1:
        yield "augment.saturation changes nothing: these images are grey"
    if chosen.get("mixup") or chosen.get("cutmix"):
        yield "train accuracy and recall are of mixed images, which count as the label with the greater share"
    if data.sampling == "balanced" and str(config.get("loss")).count("WeightedCrossEntropy"):
        yield "data.sampling=balanced with loss=weighted: rare classes are counted more twice"


def check_last_batch(network: nn.Module, data: ImageDataModule, trainer: Config) -> None:
    """Raises RequestError where an epoch ends with a batch of which a device has one image, whose map is one pixel where
    batch norm takes it."""
    images, ranks = data.count("train"), build.count_ranks(trainer)
    last = images % data.batch_size or data.batch_size
    if last >= 2 * ranks or trainer.get("sync_batchnorm"):
        return
    try:
        network.train()(torch.zeros(1, data.prepared.channels, *[data.prepared.image_size] * 2, device="meta"))
    except Exception as error:  # any other is of the meta device
        if "more than 1 value" in str(error):
            raise RequestError(
                f"an epoch's last batch has {last} of {images} images for {ranks} device{'s' * (ranks > 1)}, and of one image "
                "batch norm has one value a channel: "
                f"use another data.batch_size, data.limit_train={images - last or 2 * ranks} or a larger data.image_size"
            ) from error


def check_trainer(options: Config) -> None:
    """Raises RequestError where an argument of Lightning's Trainer cannot be used, or a precision on this device. One
    Lightning step is several optimizer steps here, so an argument that counts steps or batches would not do what it
    says.
    """
    known = TRAINER_OPTIONS.union(*(yaml.safe_load(read_yaml("trainer", choice)) for choice in groups()["trainer"]))
    for key in options:
        if key not in known and key in inspect.signature(pl.Trainer.__init__).parameters:
            raise RequestError(
                f"trainer.{key} is not supported: a Lightning step is several optimizer steps here "
                "(trainer.max_epochs and data.limit_train make a run shorter)"
            )
        if key not in known:
            near = did_you_mean(key, sorted(known))
            raise RequestError(f"trainer.{key} is no argument of Lightning's Trainer{near}")
    on_gpu = options["accelerator"] in GPU_ACCELERATORS and torch.cuda.is_available()
    if not on_gpu and options["precision"] in ("16-mixed", "16-true"):
        raise RequestError(
            f"trainer.precision={options['precision']} needs a GPU; on a CPU use bf16-mixed or bf16-true"
        )


def check_steps(config: Config, optimizer: Optimizer) -> None:
    """Raises RequestError where the optimizer, one of other packages, does not go with the rest."""
    trainer, parts = config["trainer"], inner_optimizers(optimizer)
    if hasattr(optimizer, "first_step") and (
        trainer["accumulate_grad_batches"] > 1 or trainer["precision"] == "16-mixed"
    ):
        raise RequestError(
            "optimizer: SAM takes two passes over a batch, so it needs trainer.accumulate_grad_batches=1, and a precision "
            "without a gradient scaler, which is all but 16-mixed"
        )
    if len(parts) > 1 and any(hasattr(part, "first_step") or hasattr(part, "train") for part in parts):
        raise RequestError("optimizer=switch: SAM and schedule-free optimizers cannot be one of its two")
    if config.get("average", {}).get("_target_") and any(hasattr(part, "train") for part in parts):
        raise RequestError("average: a schedule-free optimizer averages by itself; use average=none")
    if config.get("average", {}).get("_target_") and str(trainer["precision"]).endswith("16-true"):
        raise RequestError(
            "average: 16 bits do not hold what a step adds to an average; use trainer.precision=bf16-mixed"
        )


def check_devices(config: Config, devices: int) -> None:
    """Raises RequestError where this run cannot be on so many devices."""
    trainer = config["trainer"]
    there = torch.cuda.device_count() if trainer["accelerator"] in GPU_ACCELERATORS else 0
    nodes = int(trainer.get("num_nodes", 1))
    ranks, launched = devices * nodes, external_launch()
    if there and devices > there:
        has = f"{there} GPU{'s' * (there > 1)}"
        raise RequestError(f"trainer.devices={trainer['devices']}, but this machine has {has}")
    if launched is None and nodes > 1:
        raise RequestError(
            f"trainer.num_nodes={nodes}, but this was started on 1: start it on each machine with "
            f"torchrun --nnodes={nodes} --nproc-per-node={devices} (docs/howto/devices.md)"
        )
    if launched is not None and (started := launched.world_size()) != ranks:
        raise RequestError(
            f"{started} processes of this were started, so trainer.devices times trainer.num_nodes must be {started}, "
            f"and is {ranks}"
        )
    for key in ("batch_size", "eval_batch_size"):
        if (size := config["data"][key]) < ranks:
            raise RequestError(f"data.{key}={size} is shared by {ranks} devices, so it must be at least {ranks}")
    if trainer.get("sync_batchnorm") and not there:
        raise RequestError("trainer.sync_batchnorm=true needs GPUs: torch has it for no other device")
