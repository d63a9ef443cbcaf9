"""Figures of one run, each a function of plain arrays."""

from cnnbench.figures.confusion import confusion_figure
from cnnbench.figures.drawing import pixels
from cnnbench.figures.kernels import kernel_sheet
from cnnbench.figures.per_class import per_class_figure
from cnnbench.figures.predictions import prediction_sheet

__all__ = ["confusion_figure", "kernel_sheet", "per_class_figure", "pixels", "prediction_sheet"]
