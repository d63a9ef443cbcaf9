"""Figures of one run, each a function of plain arrays."""

from cnnbench.figures.confusion import confusion_sheet
from cnnbench.figures.kernels import kernel_sheet
from cnnbench.figures.per_class import per_class_sheet
from cnnbench.figures.predictions import prediction_sheet

__all__ = ["confusion_sheet", "kernel_sheet", "per_class_sheet", "prediction_sheet"]
