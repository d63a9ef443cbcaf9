"""``ImageClassifier``: the LightningModule that trains and evaluates any of the networks.

One Lightning step here is ``steps_per_execution`` optimizer steps, so that Lightning's own time per step is paid once
in many. Everything that depends on a step (schedule, clipping, accumulation, the step count) is therefore done here for
each optimizer step (Lightning's manual optimization): results do not depend on how many share a Lightning step.
"""

from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from cnnbench.config.schema import LOGIT_METRICS
from cnnbench.data.loader import BatchGroup
from cnnbench.data.views import over_views
from cnnbench.models.fine_tune import freeze_backbone
from cnnbench.models.profile import eval_mode
from cnnbench.training import optimizers
from cnnbench.training.build import Config, build_optimization
from cnnbench.training.cuda_graph import CapturedStep, capture, make_capturable
from cnnbench.training.distributed import broadcast_tensors, sum_gradients
from cnnbench.training.losses import build_loss
from cnnbench.training.metrics import EpochMeter, metrics_beside
from cnnbench.training.quirks import CrossEntropy
from cnnbench.training.schedulers import RunScheduler, build_scheduler, watches_a_metric


class ImageClassifier(pl.LightningModule):
    """A network (images (N, C, H, W) to logits (N, num_classes)) with its loss, optimizer, schedule and metrics, as
    configured; ``counts`` is the training images of each class. Raises RequestError where one cannot be built."""

    def __init__(self, config: Config, network: nn.Module, counts: Sequence[int]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.num_classes, self.config = network, len(counts), config
        self.quirks: dict[str, bool] = config["quirks"]
        self.frozen_epochs: int = config["fine_tune"]["frozen_epochs"]
        self.train_loss = build_loss(config, counts)
        self.eval_loss = CrossEntropy(0.0, self.quirks["softmax_before_loss"])
        self.test_views: str = config.get("test_time_augmentation", "none")
        self.optimization = build_optimization(config)
        self.accumulate: int = config["trainer"]["accumulate_grad_batches"]
        self.optimizer: torch.optim.Optimizer  # that a step uses
        self.total_steps = 0  # optimizer steps of the whole run, once it has begun
        self.trained_with: tuple[float, float | None]  # rate and momentum at the end of the newest epoch
        self.average_weights: Callable[[], None] | None = None  # after each optimizer step (callbacks/average.py)
        self._scaler: torch.amp.GradScaler | None = None  # of trainer.precision=16-mixed
        self._several_ranks = False
        self._captured_step: CapturedStep | None = None
        self.more_metrics = metrics_beside(config)
        self.needs_logits = not {*LOGIT_METRICS}.isdisjoint(self.more_metrics)
        self.meters: dict[str, EpochMeter] = {}  # "train" while an epoch runs, and "eval"
        self.metrics: dict[str, float] = {}  # of the newest epoch, by name such as "val/accuracy"
        self.confusion: dict[str, Tensor] = {}  # likewise, by split
        self.logits: dict[str, Tensor] = {}  # of test and val, after the test, where predictions are kept
        self._resumed: dict[str, Tensor] = {}  # what the epoch had seen that a checkpoint goes on with

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), float, to logits (N, num_classes)."""
        return self.network(images)

    def predict_logits(self, images: Tensor) -> Tensor:
        """The logits of some images in eval mode, in 32 bits; not compiled, for which they are too few."""
        weight = next(self.network.parameters())
        with eval_mode(self.network):
            return self.network.forward(images.to(weight)).float()

    def build_optimizer(self, steps: int) -> torch.optim.Optimizer:
        """The optimizer of a run of so many steps, which ``train_step`` uses from now on."""
        rates = {key: value for key, value in self.config["fine_tune"].items() if key != "frozen_epochs"}
        groups = optimizers.parameter_groups(self.network, self.config["decay_norm_and_bias"], **rates)
        self.optimizer = optimizers.build_optimizer(self.optimization["optimizer"], groups, steps)
        return self.optimizer

    def configure_model(self) -> None:
        """Take the precision's type before a checkpoint's weights are copied into these: 32 bits would round those of 64."""
        self.trainer.precision_plugin.convert_module(self)

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

    def on_train_start(self) -> None:
        self._several_ranks = self.trainer.world_size > 1
        self._scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if self.config["cuda_graph"] and self.device.type == "cuda":
            plain = self._scaler is None and not self._several_ranks
            self._captured_step = capture(self.train_step, self.optimizer, self.lr_schedulers(), plain, self.accumulate)

    def on_train_epoch_start(self) -> None:
        optimizers.set_training(self.optimizer, True)
        loader = self.trainer.train_dataloader
        loader.set_epoch(self.current_epoch)  # type: ignore[union-attr]
        meter = self.meters["train"] = self._new_meter(loader)
        if self._resumed:
            meter.load_state_dict(self._resumed)
            self._resumed = {}
        if self.frozen_epochs:
            freeze_backbone(self.network, self.current_epoch < self.frozen_epochs)
            if self._captured_step is not None and self.current_epoch == self.frozen_epochs:
                self._captured_step = CapturedStep(self.train_step, self.optimizer)

    def training_step(self, batches: BatchGroup, batch_idx: int) -> None:
        """Train on the batches of one Lightning step: ``accumulate`` to an optimizer step, at the end the rest."""
        meter, step, accumulate = self.meters["train"], self._captured_step or self.train_step, self.accumulate
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress  # trainer.global_step
        scheduler: Any = self.lr_schedulers()
        warm_up = scheduler.warm_up if isinstance(scheduler, RunScheduler) and scheduler.steps else None
        scheduler = scheduler if self.optimization["interval"] == "step" else None
        autocast = torch.is_autocast_enabled(self.device.type)
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
        averages = self.trainer.is_last_batch and optimizers.set_training(self.optimizer, False)
        if averages and self.current_epoch >= self.frozen_epochs:  # batch norm's statistics, for these weights
            loader = self.trainer.datamodule.train_evaluation_loader()  # type: ignore[attr-defined]
            weight = next(self.network.parameters())
            update_bn((images.to(weight) for batches in loader for images, _ in batches), self.network)

    def train_step(self, images: Tensor, labels: Tensor, summed: int = 1, update: bool = True) -> tuple[Tensor, Tensor]:
        """Add the gradients of a batch, one of ``summed`` whose mean counts, and, with ``update``, move the weights by
        them. Returns the batch's loss and its logits (N, num_classes), both detached."""
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
        options = self.config["trainer"]
        if options["gradient_clip_val"] is not None:
            if self._scaler is not None:
                self._scaler.unscale_(self.optimizer)
            by_value = options.get("gradient_clip_algorithm") == "value"
            clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
            clip(self.network.parameters(), options["gradient_clip_val"])

    def _second_pass(self, images: Tensor, labels: Tensor) -> float:
        """The gradients of the same batch at the weights as they are now; batch norm's statistics stay."""
        with optimizers.keep_statistics(self.network):
            loss, _ = self._add_gradients(images, labels, 1)
        self._finish_gradients()
        return loss.detach()  # type: ignore[return-value]

    def on_train_epoch_end(self) -> None:
        self._finish("train", self.meters.pop("train"))
        group = self.trainer.optimizers[0].param_groups[0]  # before the schedule changes it for the next epoch
        self.trained_with = float(group["lr"]), group.get("momentum", group.get("betas", (None,))[0])
        scheduler: Any = self.lr_schedulers()
        if scheduler is not None and self.optimization["interval"] == "epoch":
            scheduler.step(*([self.metrics[self.config["objective"]]] if watches_a_metric(scheduler) else []))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        running = self.meters["train"].state_dict() if "train" in self.meters else {}
        checkpoint["classifier"] = {"metrics": self.metrics, "confusion": self.confusion, "running": running}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["classifier"]
        self.metrics, self.confusion = dict(state["metrics"]), dict(state["confusion"])
        self._resumed = state["running"]

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

    def validation_step(self, batches: BatchGroup, batch_idx: int, views: str = "none", black: Any = None) -> None:
        """Evaluate every batch of a chunk, over these views of its images."""
        for images, labels in batches:
            logits = over_views(self.network, images.to(self.dtype), views, black)
            logits = logits.float() if logits.itemsize < 4 else logits  # a loss of 16 bits has three digits
            self.meters["eval"].update(logits, labels, self.eval_loss(logits, labels))

    def test_step(self, batches: BatchGroup, batch_idx: int) -> None:
        """Likewise, with ``test_time_augmentation``."""
        black = self.trainer.test_dataloaders.normalize.shift  # type: ignore[union-attr]
        self.validation_step(batches, batch_idx, self.test_views, black)

    def on_validation_epoch_end(self) -> None:
        self._finish("val", self.meters["eval"])
        if self.quirks["train_in_eval_mode"]:  # here, for the network is in eval mode, and gradients are off
            self._finish("train_eval", self._evaluate(self.trainer.datamodule.train_evaluation_loader()))  # type: ignore[attr-defined]

    def _evaluate(self, loader: Any, keep_logits: bool = False) -> EpochMeter:
        self.meters["eval"] = self._new_meter(loader, keep_logits)
        with self.trainer.precision_plugin.val_step_context():  # of mixed precision, which hooks are outside of
            for batches in loader:
                self.validation_step(batches, 0)
        return self.meters["eval"]

    def on_test_epoch_end(self) -> None:
        meter = self.meters["eval"]
        self._finish("test", meter)
        self.test_predictions = meter.seen_by_all()[0].cpu()  # classes (N,), in the order of the set
        if self.config.get("keep_predictions", False):
            self.logits = {"test": meter.logits().cpu()}
            if loader := self.trainer.datamodule.val_dataloader():  # type: ignore[attr-defined]
                self.logits["val"] = self._evaluate(loader, keep_logits=True).logits().cpu()

    def _finish(self, split: str, meter: EpochMeter) -> None:
        """Turn the epoch's predictions into metrics, and log them in Lightning, for early stopping."""
        values, self.confusion[split] = meter.compute()
        named = {f"{split}/{name}": value for name, value in values.items()}
        self.metrics.update(named)
        self.log_dict(named, logger=False)
