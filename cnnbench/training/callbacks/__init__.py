"""What happens around training, one concern a file."""

from cnnbench.training.callbacks.checkpoint import BestAndLast
from cnnbench.training.callbacks.early_stopping import Diverged, EarlyStopping, Pruned, Pruning, StopWhenDiverged
from cnnbench.training.callbacks.figures import Figures
from cnnbench.training.callbacks.history import History
from cnnbench.training.callbacks.progress import Progress
from cnnbench.training.callbacks.resume import Resume
from cnnbench.training.callbacks.tensorboard import TensorBoardCallback

__all__ = [
    "BestAndLast",
    "Diverged",
    "EarlyStopping",
    "Figures",
    "History",
    "Progress",
    "Pruned",
    "Pruning",
    "Resume",
    "StopWhenDiverged",
    "TensorBoardCallback",
]
