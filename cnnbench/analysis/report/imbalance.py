"""What accuracy does not say of a set whose classes differ in size."""

from typing import Any

import numpy as np

from cnnbench.analysis import metric_names as names
from cnnbench.analysis.images import wilson
from cnnbench.analysis.report.tables import Cell, Table

IMBALANCED = 2.0  # the largest class has at least so many times the images of the smallest
MOST_ROWS = 24


def imbalance(classes: dict[str, Any] | None) -> dict[str, Any] | None:
    """Recall by class with its interval, rarest first, and the rare classes that accuracy hides: they have fewer images
    than the average class, and the whole interval of their recall lies below the accuracy. None where the classes have
    about as many images each.

    Args:
        classes: of the page, with the confusion matrix of one run.
    """
    confusion = (classes or {}).get("confusion")
    if not confusion:
        return None
    counts = np.array(confusion["counts"])
    images, correct = counts.sum(axis=1).astype(int), counts.diagonal().astype(int)
    order = [at for at in np.argsort(images, kind="stable") if images[at]]
    if not order or images[order[-1]] < IMBALANCED * images[order[0]]:
        return None
    rows, hidden = [], []
    for at in order:
        name, recall, (low, high) = confusion["classes"][at], correct[at] / images[at], wilson(correct[at], images[at])
        span = names.interval(low, high, "recall")
        rows.append([Cell(name, name), Cell(f"{images[at]:,}", int(images[at])),
                     Cell(names.number(recall, "recall"), float(recall)), Cell(span, low)])  # fmt: skip
        if high < confusion["accuracy"] and images[at] < images.sum() / len(order):
            hidden.append({"name": name, "images": images[at], "correct": correct[at], "span": span})
    shown = f"The {MOST_ROWS} rarest of {len(rows)} classes, by" if len(rows) > MOST_ROWS else "Classes by"
    caption = f"{shown} number of {names.SPLITS[(classes or {})['split']]} images, rarest first; {confusion['label']}."
    return {
        "table": Table(caption, ["class", "images", "recall, %", "95% interval"], rows[:MOST_ROWS]),
        "hidden": hidden,
        "times": images[order[-1]] / images[order[0]],
        "balanced": float(np.mean(correct[order] / images[order])),
    }
