"""``ImageClassifier``: the LightningModule that trains and evaluates any of the networks.

It drives the optimizer itself (Lightning's manual optimization), because one Lightning step here is
``steps_per_execution`` optimizer steps: Lightning's own time per step is then paid once in many. Everything that
depends on a step (learning-rate schedule, clipping, accumulation, the step count) is done for each optimizer step, so
that the results do not depend on how many of them share a Lightning step.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cnnbench.config.schema import LOGIT_METRICS
from cnnbench.data.loader import BatchGroup
from cnnbench.data.views import over_views
from cnnbench.models.fine_tune import freeze_backbone
from cnnbench.models.profile import eval_mode
from cnnbench.training.batch_norm import keep_statistics, recompute_statistics
from cnnbench.training.build import Config, build_optimization
from cnnbench.training.cuda_graph import CapturedStep, make_capturable, reason_not_capturable
from cnnbench.training.distributed import broadcast_tensors, sum_gradients
from cnnbench.training.losses import build_loss
from cnnbench.training.metrics import EpochMeter, metrics_beside
from cnnbench.training.optimizers import build_optimizer, parameter_groups, set_training
from cnnbench.training.quirks import CrossEntropy
from cnnbench.training.schedulers import build_scheduler, watches_a_metric

log = logging.getLogger(__name__)


class ImageClassifier(pl.LightningModule):
    """A network (images (N, C, H, W) to logits (N, num_classes)) with its loss, optimizer, schedule and metrics, as the
    configuration has them; ``counts`` is the training images of each class. Raises RequestError where the loss, the
    optimizer or the schedule cannot be built."""

    def __init__(self, config: Config, network: nn.Module, counts: Sequence[int]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.num_classes, self.config = network, len(counts), config
        self.optimization = build_optimization(config)
        self.gradient_clip_val: float | None = config["trainer"]["gradient_clip_val"]
        self.clip_by_value = config["trainer"].get("gradient_clip_algorithm") == "value"
        self.accumulate: int = config["trainer"]["accumulate_grad_batches"]
        self.quirks: dict[str, bool] = config["quirks"]
        self.train_loss = build_loss(config, counts)
        self.eval_loss = CrossEntropy(0.0, self.quirks["softmax_before_loss"])
        self.more_metrics = metrics_beside(config)
        self.test_views: str = config.get("test_time_augmentation", "none")
        self.needs_logits = not {*LOGIT_METRICS}.isdisjoint(self.more_metrics)
        self.confusion: dict[str, Tensor] = {}  # of the newest epoch, by split
        self.logits: dict[str, Tensor] = {}  # of test and val, after the test, where predictions are kept
        self.metrics: dict[str, float] = {}  # likewise, by name such as "val/accuracy"
        self.meters: dict[str, EpochMeter] = {}  # "train" while an epoch runs, and "eval"
        self.optimizer: Optimizer  # that a step uses
        self.total_steps = 0  # optimizer steps of the whole run, once it has begun
        self.average_weights: Callable[[], None] | None = None  # after each optimizer step (callbacks/average.py)
        self._scaler: torch.amp.GradScaler | None = None  # of trainer.precision=16-mixed
        self._several_ranks = False
        self._captured_step: CapturedStep | None = None
        self._resumed: dict[str, Tensor] = {}  # what the epoch had seen that a checkpoint goes on with

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), float, to logits (N, num_classes)."""
        return self.network(images)

    def predict_logits(self, images: Tensor) -> Tensor:
        """The logits of some images in eval mode, in 32 bits; not compiled, for which they are too few."""
        weight = next(self.network.parameters())
        with eval_mode(self.network):
            return self.network.forward(images.to(weight)).float()

    # The optimizer and its schedule

    def build_optimizer(self, steps: int) -> Optimizer:
        """The optimizer of a run of so many steps, which ``train_step`` uses from now on."""
        rates = {key: value for key, value in self.config["fine_tune"].items() if key != "frozen_epochs"}
        groups = parameter_groups(self.network, self.config["decay_norm_and_bias"], **rates)
        self.optimizer = build_optimizer(self.optimization["optimizer"], groups, steps)
        return self.optimizer

    def configure_optimizers(self) -> Any:
        """The optimizer and, where there is one, its schedule."""
        epochs = self.trainer.max_epochs or 1
        self.total_steps = steps = self.trainer.datamodule.steps_per_epoch * epochs  # type: ignore[attr-defined]
        optimizer, options = self.build_optimizer(steps), self.optimization
        if self.config["cuda_graph"] and self.device.type == "cuda":
            make_capturable(optimizer, self.device)
        length = steps if options["interval"] == "step" else epochs
        scheduler = build_scheduler(options["scheduler"], optimizer, length, options["warmup"], steps // length)
        return optimizer if scheduler is None else {"optimizer": optimizer, "lr_scheduler": scheduler}

    # Training: a Lightning step holds optimizer steps, and each of those the gradients of ``accumulate`` batches

    def on_train_start(self) -> None:
        self._several_ranks = self.trainer.world_size > 1
        self._scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if self.config["cuda_graph"] and self.device.type == "cuda":
            plain = self._scaler is None and not self._several_ranks
            reason = reason_not_capturable(self.optimizer, self.lr_schedulers(), plain, self.accumulate)
            if reason is None:
                make_capturable(self.optimizer, self.device)  # a checkpoint has brought its learning rates, on the CPU
                self._captured_step = CapturedStep(self.train_step, self.optimizer)
            else:
                log.info("the training step is not captured as a CUDA graph: %s", reason)

    def on_train_epoch_start(self) -> None:
        set_training(self.optimizer, True)
        loader = self.trainer.train_dataloader
        loader.set_epoch(self.current_epoch)  # type: ignore[union-attr]
        self.meters["train"] = self._new_meter(loader)
        if self._resumed:
            self.meters["train"].load_state_dict(self._resumed)
            self._resumed = {}
        if frozen_epochs := self.config["fine_tune"]["frozen_epochs"]:
            freeze_backbone(self.network, self._is_frozen())
            if self._captured_step is not None and self.current_epoch == frozen_epochs:
                self._captured_step = CapturedStep(self.train_step, self.optimizer)

    def _is_frozen(self) -> bool:
        return self.current_epoch < self.config["fine_tune"]["frozen_epochs"]

    def training_step(self, batches: BatchGroup, batch_idx: int) -> None:
        """Train on the batches of one Lightning step; what is left over at an epoch's end is an optimizer step too."""
        meter, step = self.meters["train"], self._captured_step or self.train_step
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress  # trainer.global_step
        scheduler: Any = self.lr_schedulers()
        warm_up = getattr(scheduler, "warm_up", None)
        scheduler = scheduler if self.optimization["interval"] == "step" else None
        autocast, accumulate = torch.is_autocast_enabled(self.device.type), self.accumulate
        for number, (images, labels) in enumerate(batches):
            first = number - number % accumulate
            summed = min(accumulate, len(batches) - first)
            update = number + 1 == first + summed
            loss, logits = step(images, labels, summed, update)
            meter.update(logits, labels, loss)
            if not update:
                continue
            progress.increment_ready()
            progress.increment_completed()
            if autocast:  # it keeps cast weights for a whole Lightning step, and these just changed
                torch.clear_autocast_cache()
            if self.average_weights is not None:
                self.average_weights()
            if warm_up is not None:
                warm_up()
            if scheduler is not None:
                scheduler.step()
        if self.trainer.is_last_batch and set_training(self.optimizer, False) and not self._is_frozen():
            recompute_statistics(self.network, self.trainer.datamodule.train_evaluation_loader())  # type: ignore[attr-defined]

    def train_step(self, images: Tensor, labels: Tensor, summed: int = 1, update: bool = True) -> tuple[Tensor, Tensor]:
        """Add the gradients of a batch, one of ``summed`` whose mean counts, and, with ``update``, move the weights by
        them; what a CUDA graph captures. Returns the batch's loss and its logits (N, num_classes), both detached."""
        loss, logits = self._add_gradients(images, labels, summed)
        if update:
            self._finish_gradients()
            if self._scaler is not None:
                self._scaler.step(self.optimizer)
                self._scaler.update()
            elif hasattr(self.optimizer, "first_step"):  # SAM, which has moved the weights when it calls this
                self.optimizer.step(lambda: self._second_pass(images, labels))
            else:
                self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.detach(), logits.detach()

    def _add_gradients(self, images: Tensor, labels: Tensor, summed: int) -> tuple[Tensor, Tensor]:
        logits = self.network(images.to(self.dtype))
        loss = self.train_loss(logits, labels)
        weighted = loss / summed if summed > 1 else loss
        if self._several_ranks:
            weighted = weighted * self.meters["train"].share
        (weighted if self._scaler is None else self._scaler.scale(weighted)).backward()
        return loss, logits

    def _finish_gradients(self) -> None:
        """Sum the gradients over the ranks, and clip them."""
        if self._several_ranks:
            sum_gradients(self.network.parameters())
        if self.gradient_clip_val is not None:
            if self._scaler is not None:
                self._scaler.unscale_(self.optimizer)
            clip = nn.utils.clip_grad_value_ if self.clip_by_value else nn.utils.clip_grad_norm_
            clip(self.network.parameters(), self.gradient_clip_val)

    def _second_pass(self, images: Tensor, labels: Tensor) -> float:
        """The gradients of the same batch at the weights as they are now; batch norm's statistics stay."""
        with keep_statistics(self.network):
            loss, _ = self._add_gradients(images, labels, 1)
        self._finish_gradients()
        return loss.detach()  # type: ignore[return-value]

    def on_train_epoch_end(self) -> None:
        self._finish("train", self.meters.pop("train"))
        scheduler: Any = self.lr_schedulers()
        if scheduler is not None and self.optimization["interval"] == "epoch":
            watched = (self.metrics[self.config["objective"]],) if watches_a_metric(scheduler) else ()
            scheduler.step(*watched)

    # What a checkpoint needs besides weights, optimizer and schedule

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        running = self.meters["train"].state_dict() if "train" in self.meters else {}
        checkpoint["classifier"] = {"metrics": self.metrics, "confusion": self.confusion, "running": running}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["classifier"]
        self.metrics, self.confusion = dict(state["metrics"]), dict(state["confusion"])
        self._resumed = state["running"]

    # Evaluation

    def on_validation_epoch_start(self) -> None:
        if self.trainer.world_size > 1:  # rank 0's statistics of batch norm, as checkpoints have them
            broadcast_tensors(self.network.buffers())
        self.meters["eval"] = self._new_meter(self.trainer.val_dataloaders, self.needs_logits)

    def on_test_epoch_start(self) -> None:
        keep_logits = self.config.get("keep_predictions", False) or self.needs_logits
        self.meters["eval"] = self._new_meter(self.trainer.test_dataloaders, keep_logits)

    def _new_meter(self, loader: Any, keep_logits: bool = False) -> EpochMeter:
        recall_batch = self.trainer.datamodule.batch_size if self.quirks["batch_recall"] else None  # type: ignore[attr-defined]
        sizes = loader.images, self.num_classes
        return EpochMeter(*sizes, self.device, recall_batch, loader.batch_size, keep_logits, self.more_metrics)

    def on_validation_model_eval(self) -> None:
        super().on_validation_model_eval()
        for module in self.network.modules() if self.quirks["dropout_in_evaluation"] else ():
            if isinstance(module, nn.Dropout):
                module.train()

    on_test_model_eval = on_validation_model_eval

    def validation_step(self, batches: BatchGroup, batch_idx: int) -> None:
        """Evaluate every batch of a chunk."""
        for images, labels in batches:
            logits = self.network(images.to(self.dtype))
            logits = logits.float() if logits.itemsize < 4 else logits  # a loss of 16 bits has three digits
            self.meters["eval"].update(logits, labels, self.eval_loss(logits, labels))

    def test_step(self, batches: BatchGroup, batch_idx: int) -> None:
        """Likewise, with ``test_time_augmentation``."""
        black = self.trainer.test_dataloaders.normalize.shift  # type: ignore[union-attr]
        for images, labels in batches:
            logits = over_views(self.network, images.to(self.dtype), self.test_views, black)
            logits = logits.float() if logits.itemsize < 4 else logits
            self.meters["eval"].update(logits, labels, self.eval_loss(logits, labels))

    def on_validation_epoch_end(self) -> None:
        self._finish("val", self.meters["eval"])
        if self.quirks["train_in_eval_mode"]:  # here, for the network is in eval mode, and gradients are off
            self._finish("train_eval", self._evaluate(self.trainer.datamodule.train_evaluation_loader()))  # type: ignore[attr-defined]

    def _evaluate(self, loader: Any, keep_logits: bool = False) -> EpochMeter:
        self.meters["eval"] = self._new_meter(loader, keep_logits)
        for batches in loader:
            self.validation_step(batches, 0)
        return self.meters["eval"]

    def on_test_epoch_end(self) -> None:
        self._finish("test", self.meters["eval"])
        self.test_predictions = self.meters["eval"].seen_by_all()[0].cpu()  # classes (N,), in the order of the set
        if self.config.get("keep_predictions", False):
            self.logits = {"test": self.meters["eval"].logits().cpu()}
            if loader := self.trainer.datamodule.val_dataloader():  # type: ignore[attr-defined]
                self.logits["val"] = self._evaluate(loader, keep_logits=True).logits().cpu()

    def _finish(self, split: str, meter: EpochMeter) -> None:
        """Turn the epoch's predictions into metrics, and log them in Lightning, for early stopping."""
        values, confusion = meter.compute()
        named = {f"{split}/{name}": value for name, value in values.items()}
        self.metrics.update(named)
        self.confusion[split] = confusion
        self.log_dict(named, logger=False)
