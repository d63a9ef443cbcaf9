"""Classification metrics, computed once an epoch.

Rows of a confusion matrix are the true class, columns the prediction, entries are counts. Accuracy is top-1 over all
images (micro); recall is TP / (TP + FN), averaged over the classes that occur (macro; report eq2425, section 1.3). A
class that never occurs has no recall: NaN per class, and left out of the average, which is then scikit-learn's balanced
accuracy.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.functional import classification as functional

from cnnbench.config.schema import CLASS_METRICS, LOGIT_METRICS, LOWER_IS_BETTER
from cnnbench.utils.errors import RequestError, did_you_mean

NAMES = ("loss", "accuracy", "recall")
TOP = 5  # of top5_accuracy
SPLITS = ("train", "val", "test")


def metric_mode(name: str, key: str = "objective") -> str:
    """``"min"`` or ``"max"``: the direction in which a metric is better; raises RequestError for an unknown name of the
    configuration's ``key``."""
    known = [f"{split}/{metric}" for split in SPLITS for metric in (*NAMES, *CLASS_METRICS)]
    known += [f"{split}/{metric}" for split in SPLITS[1:] for metric in LOGIT_METRICS]  # train logits are not kept
    if name not in known:
        every, kept = ",".join((*NAMES, *CLASS_METRICS)), ",".join(LOGIT_METRICS)
        choices = f"{{train,val}}/{{{every}}} and val/{{{kept}}}"
        offered = [one for one in known if not one.startswith("test/")]  # for those are refused
        raise RequestError(f"{key}={name!r} is not a metric; choose from {choices}{did_you_mean(name, offered)}")
    return "min" if name.endswith(LOWER_IS_BETTER) else "max"


def objectives(config: Mapping[str, Any]) -> dict[str, str]:
    """The metrics that the run and its callbacks go by, by their keys."""
    nodes = {f"callbacks.{name}.": node for name, node in config.get("callbacks", {}).items() if node}
    if wrong := [f"{name[:-1]}={node}" for name, node in nodes.items() if not isinstance(node, Mapping)]:
        raise RequestError(f"{wrong[0]} is no callback, which has a _target_")
    return {f"{key}objective": node["objective"] for key, node in {"": config, **nodes}.items() if "objective" in node}


def metrics_beside(config: Mapping[str, Any]) -> list[str]:
    """What is measured beside loss, accuracy and recall: ``metrics``, and the objectives that are among these."""
    asked = (*config.get("metrics", ()), *(name.rpartition("/")[2] for name in objectives(config).values()))
    return [name for name in (*CLASS_METRICS, *LOGIT_METRICS) if name in asked]


def check_classes(metrics: Sequence[str], classes: int) -> None:
    """Raise RequestError where a metric says nothing of so few classes."""
    if classes <= TOP and "top5_accuracy" in metrics:
        raise RequestError(f"top5_accuracy needs more than {TOP} classes, and this set has {classes}")


def recall_per_class(confusion: Tensor) -> Tensor:
    """TP / (TP + FN) per class, float64 (num_classes,); NaN for a class that never occurs."""
    return confusion.diagonal().double() / confusion.sum(dim=1)


def precision_per_class(confusion: Tensor) -> Tensor:
    """TP / (TP + FP) per class, float64 (num_classes,); 0 where it is never predicted, NaN where nor does it occur."""
    return _share(confusion.diagonal(), confusion.sum(dim=0), confusion)


def f1_per_class(confusion: Tensor) -> Tensor:
    """2 TP / (2 TP + FP + FN) per class, float64 (num_classes,); NaN where it neither occurs nor is predicted."""
    return _share(2 * confusion.diagonal(), confusion.sum(dim=0) + confusion.sum(dim=1), confusion)


def _share(part: Tensor, whole: Tensor, confusion: Tensor) -> Tensor:
    unknown = confusion.sum(dim=0) + confusion.sum(dim=1) == 0
    return (part.double() / whole.clamp(min=1)).masked_fill(unknown, torch.nan)


PER_CLASS = {"recall": recall_per_class, "precision": precision_per_class, "f1": f1_per_class}


def more_metrics(
    names: Sequence[str], confusion: Tensor, predictions: Tensor, targets: Tensor, logits: Tensor | None
) -> dict[str, float]:
    """Those of ``CLASS_METRICS`` and, with logits (N, num_classes), of ``LOGIT_METRICS`` among ``names``, on the CPU,
    from class indices (N,) and their confusion matrix.

    The area under the ROC curve is averaged over the classes that occur, but not in all images. The expected
    calibration error has 15 bins of equal width (Guo et al. 2017, equation 3), the Brier score sums over the classes
    (Brier 1950).
    """
    classes = len(confusion)
    options: dict[str, Any] = {"num_classes": classes, "validate_args": False}
    compute: dict[str, Callable[[], Tensor]] = {
        "precision": lambda: precision_per_class(confusion).nanmean(),
        "f1": lambda: f1_per_class(confusion).nanmean(),
        "kappa": lambda: functional.multiclass_cohen_kappa(predictions, targets, **options),
    }
    if logits is not None:
        shares = logits.double().softmax(dim=1)  # torchmetrics would take logits in [0, 1] for them
        true = torch.nn.functional.one_hot(targets, classes)
        top = logits.topk(min(TOP, classes)).indices
        occurs = (true.sum(dim=0) % len(targets)).nonzero().squeeze(1).tolist()
        one_vs_rest = partial(functional.binary_auroc, validate_args=False)
        compute |= {
            "top5_accuracy": lambda: (top == targets[:, None]).any(dim=1).double().mean(),
            "auroc": lambda: torch.tensor([one_vs_rest(shares[:, of], true[:, of]) for of in occurs]).mean(),
            "calibration_error": lambda: functional.multiclass_calibration_error(shares, targets, **options),
            "brier": lambda: (shares - true).square().sum(dim=1).mean(),
        }
    return {name: of().item() for name, of in compute.items() if name in names}


def batch_recall(predictions: Tensor, targets: Tensor, num_classes: int, batch_size: int) -> float:
    """The mean over consecutive batches of each batch's macro recall, as scikit-learn's ``recall_score`` has it: the
    average is over the classes that occur in the batch's targets or predictions (report eq2425; its notebook)."""
    recalls, occurs = [], []
    for guesses, truth in zip(predictions.split(batch_size), targets.split(batch_size), strict=True):
        matrix = functional.multiclass_confusion_matrix(guesses, truth, num_classes, validate_args=False)
        images = matrix.sum(dim=1)
        recalls.append(matrix.diagonal().double() / images.clamp(min=1))
        occurs.append(images + matrix.sum(dim=0) > 0)
    return (torch.stack(recalls).sum(dim=1) / torch.stack(occurs).sum(dim=1)).mean().item()


class EpochMeter:
    """Keeps an epoch's class predictions and losses on the device, without waiting for it, and turns them into metrics.

    Of several ranks each keeps what it has seen, at its places in the epoch; what they compute is of all, and all have
    to take part. ``count`` and ``batch_size`` are images over all ranks; only several need the latter. ``metrics``
    names what is computed beside loss, accuracy and recall, those of logits with ``keep_logits``; with ``recall_batch``
    there is ``batch_recall`` over batches of this size too.
    """

    def __init__(
        self, count: int, num_classes: int, device: torch.device, recall_batch: int | None = None, batch_size: int = 0,
        keep_logits: bool = False, metrics: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.metrics = metrics
        self.num_classes, self.recall_batch, self.batch_size = num_classes, recall_batch, batch_size
        self.rank, self.world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.classes = torch.zeros(2, count, dtype=torch.int64, device=device)
        self.predictions, self.targets = self.classes  # its rows
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)  # of this rank
        self._logits = torch.zeros(count if keep_logits else 0, num_classes, device=device)
        self.seen = 0

    def _next_batch(self) -> tuple[int, int]:
        """Images of the next batch of several ranks: of this one, and of all."""
        images = min(self.batch_size, len(self.targets) - self.seen)
        return len(range(self.rank, images, self.world_size)), images

    @property
    def share(self) -> float:
        """What part of the next batch is this rank's; 0 where it gets an image only to take part."""
        own, images = self._next_batch()
        return own / images

    def update(self, logits: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Add this rank's rows of a batch: logits (N, num_classes), targets (N,), or the probabilities (N, num_classes)
        of mixed images, whose greatest is then the target, and the mean loss over them (scalar)."""
        own = images = len(targets)
        targets = targets.argmax(dim=1) if targets.ndim == 2 else targets
        if self.world_size > 1:
            own, images = self._next_batch()
            logits, targets = logits[:own], targets[:own]
        if own:
            places = slice(self.seen + self.rank, self.seen + images, self.world_size)
            torch.argmax(logits, dim=1, out=self.predictions[places])
            self.targets[places] = targets
            if len(self._logits):
                self._logits[places] = logits.float()
            self.loss_sum.add_(loss, alpha=own)
        self.seen += images

    def _sum_over_ranks(self, values: Tensor) -> Tensor:
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def seen_by_all(self) -> Tensor:
        """Predictions and targets (2, N) of all images seen so far, in the epoch's order."""
        return self._sum_over_ranks(self.classes[:, : self.seen])

    def logits(self) -> Tensor:
        """Likewise the logits (N, num_classes), float32, where they are kept."""
        return self._sum_over_ranks(self._logits[: self.seen])

    def state_dict(self) -> dict[str, Tensor]:
        """What all ranks have seen of an unfinished epoch, and each one's sum of losses: a total would lose bits."""
        sums = torch.zeros(self.world_size, dtype=torch.float64, device=self.loss_sum.device)
        sums[self.rank] = self.loss_sum
        predictions, targets = self.seen_by_all()
        state = {"predictions": predictions, "targets": targets, "loss_sum": self._sum_over_ranks(sums)}
        return {name: value.cpu().clone() for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what as many ranks had seen of the same epoch."""
        self.seen = len(state["targets"])
        self.loss_sum.copy_(state["loss_sum"].reshape(-1)[self.rank])
        if self.rank == 0:  # which has them all
            self.classes[:, : self.seen] = torch.stack([state["predictions"], state["targets"]])

    def loss(self) -> float:
        """Mean loss over the images seen so far (waits for the device)."""
        return (self._sum_over_ranks(self.loss_sum) / max(self.seen, 1)).item()

    def accuracy(self) -> float:
        """Likewise the accuracy; NaN where there are none."""
        predictions, targets = self.seen_by_all()
        return (predictions == targets).double().mean().item()

    def compute(self) -> tuple[dict[str, float], Tensor]:
        """The metrics by name (loss, accuracy, recall, and those asked for) and the confusion matrix, on the CPU."""
        predictions, targets = self.seen_by_all().cpu()
        confusion = functional.multiclass_confusion_matrix(predictions, targets, self.num_classes, validate_args=False)
        accuracy = (predictions == targets).double().mean().item()
        values = {"loss": self.loss(), "accuracy": accuracy, "recall": recall_per_class(confusion).nanmean().item()}
        if self.recall_batch is not None:
            values["batch_recall"] = batch_recall(predictions, targets, self.num_classes, self.recall_batch)
        logits = self.logits().cpu() if len(self._logits) and not {*LOGIT_METRICS}.isdisjoint(self.metrics) else None
        return values | more_metrics(self.metrics, confusion, predictions, targets, logits), confusion
