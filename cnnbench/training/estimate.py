"""What a run would take, from some steps of it: how long, and with which batch size it fits in memory."""

import traceback
from collections.abc import Callable

import torch

from cnnbench.data import ImageDataModule
from cnnbench.models.profile import eval_mode, flops_per_image
from cnnbench.training.build import Config, build_data, build_network
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.environment import GPU_ACCELERATORS
from cnnbench.utils.memory import is_out_of_memory

# of a batch's forward pass: with less a second thread gains a fifth at most, and beside a busy core it loses 90% (benchmarks)
FLOPS_PER_THREAD = 50_000_000


def build_classifier(config: Config) -> tuple[ImageClassifier, ImageDataModule]:
    """The classifier of a run, on the device and with the threads, of those there are, that it would take, and its data;
    without a trainer."""
    data = build_data(config)
    gpu = torch.cuda.is_available() and config["trainer"]["accelerator"] in GPU_ACCELERATORS
    classifier = ImageClassifier(config, build_network(config, data), data.class_counts())
    flops = flops_per_image(classifier.network, data.prepared.channels, data.prepared.image_size)
    torch.set_num_threads(config["threads"] or useful_threads(torch.get_num_threads(), flops, config))
    return classifier.to("cuda" if gpu else "cpu"), data


def useful_threads(most: int, flops_per_image: int, config: Config) -> int:
    """How many of ``most`` threads a run takes that is not told how many: few, where its batches are little work."""
    return min(most, max(flops_per_image * config["data"]["batch_size"] // FLOPS_PER_THREAD, 1))


def run_seconds(config: Config) -> float:
    """Estimated seconds of training and evaluation of one run."""
    classifier, data = build_classifier(config)
    classifier.build_optimizer(steps=1000)
    images, labels = (tensor.to(classifier.device) for tensor in next(iter(next(iter(data.train_dataloader())))))
    with torch.no_grad():
        evaluation = _mean_seconds(lambda: classifier.network(images))
    evaluated = data.count("val") + (data.count("train") if classifier.quirks["train_in_eval_mode"] else 0)
    step = _mean_seconds(lambda: classifier.train_step(images, labels))
    data.teardown()
    epoch = data.steps_per_epoch * data.accumulate * step + evaluated / len(images) * evaluation
    return epoch * config["trainer"]["max_epochs"]


def _mean_seconds(call: Callable[[], object]) -> float:
    from torch.utils.benchmark import Timer  # says on import where there is a CUDA compiler but no GPU

    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    timer.timeit(1)
    return timer.blocked_autorange(min_run_time=0.2).mean


def suggest_batch_size(error: Exception, model: ImageClassifier, data: ImageDataModule, device: torch.device) -> str:
    """Which batch size fits, in words: tried with a run's network on ``device`` after freeing ``error``'s frames."""
    traceback.clear_frames(error.__traceback__)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    network, store = model.to(device).network, data.prepared  # Lightning has moved it to the CPU at the end

    def fits(size: int, training: bool) -> bool:
        shape = size, store.channels, store.image_size, store.image_size
        try:
            images = torch.empty(shape, device=device, dtype=model.dtype, memory_format=torch.channels_last).zero_()  # type: ignore[arg-type]
            if training:
                labels = torch.zeros(size, dtype=torch.int64, device=device)
                model.train_loss(network.train()(images), labels).backward()
                network.zero_grad()
            else:
                with eval_mode(network):
                    network(images)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    for key, training in (("batch_size", True), ("eval_batch_size", False)):
        size = fitting = getattr(data, key)
        # one that is suggested leaves a quarter for what else a run has, such as the next batches
        while fitting and not fits(size if fitting == size else -(-fitting * 5 // 4), training):
            fitting //= 2
        if not fitting:
            return f"not even data.{key}=1 fits; a smaller network or data.image_size may"
        if fitting < size:
            return f"data.{key}={size} is too much; data.{key}={fitting} fits"
    return "a step fits by itself, so augmentation, views of the test images or something else takes the memory"
