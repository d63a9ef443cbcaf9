"""Figures of one run, each a function of plain arrays."""

from cnnbench.training.figures.confusion import confusion_sheet
from cnnbench.training.figures.kernels import kernel_sheet
from cnnbench.training.figures.per_class import per_class_sheet
from cnnbench.training.figures.predictions import prediction_sheet

__all__ = ["confusion_sheet", "kernel_sheet", "per_class_sheet", "prediction_sheet"]
