"""What happens around training, one concern a file; here are those that a configuration names."""

from cnnbench.training.callbacks.early_stopping import EarlyStopping
from cnnbench.training.callbacks.progress import Progress

__all__ = ["EarlyStopping", "Progress"]
