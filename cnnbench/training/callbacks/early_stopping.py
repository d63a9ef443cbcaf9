"""Early stopping on the objective, in the direction that the metric's name implies."""

from __future__ import annotations

from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from cnnbench.training.metrics import metric_mode


class EarlyStopping(LightningEarlyStopping):
    """Ends training once the objective has not improved for ``patience`` epochs.

    Args:
        objective: a metric's name, such as val/accuracy.
        patience: epochs.
        min_delta: an improvement must be larger than this, in the unit of the metric.
    """

    def __init__(self, objective: str, patience: int = 10, min_delta: float = 0.0) -> None:
        super().__init__(
            monitor=objective,
            mode=metric_mode(objective),
            patience=patience,
            min_delta=min_delta,
            check_on_train_epoch_end=True,
        )
