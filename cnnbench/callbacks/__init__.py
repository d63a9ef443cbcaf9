"""What happens around training, one concern a file."""

from cnnbench.callbacks.board import Board
from cnnbench.callbacks.checkpoint import BestAndLast
from cnnbench.callbacks.divergence import Diverged, StopWhenDiverged
from cnnbench.callbacks.early_stopping import EarlyStopping
from cnnbench.callbacks.figures import Figures
from cnnbench.callbacks.history import History
from cnnbench.callbacks.progress import Progress
from cnnbench.callbacks.resume import Resume

__all__ = [
    "BestAndLast",
    "Board",
    "Diverged",
    "EarlyStopping",
    "Figures",
    "History",
    "Progress",
    "Resume",
    "StopWhenDiverged",
]
