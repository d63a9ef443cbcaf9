"""Accuracy, recall and the confusion matrix against scikit-learn and torchmetrics, on random predictions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torchmetrics.functional.classification import multiclass_recall

from cnnbench.training.metrics import (
    EpochMeter,
    accuracy,
    confusion_matrix,
    macro_recall,
    metric_mode,
    recall_per_class,
)
from cnnbench.utils.errors import RequestError


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("absent", [(), (3,), (0, 9)])
def test_metrics_equal_scikit_learns(seed: int, absent: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    present = [label for label in range(10) if label not in absent]
    truth = random.choice(present, 300)
    predicted = np.where(random.random(300) < 0.6, truth, random.integers(0, 10, 300))
    matrix = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(truth), 10)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(truth, predicted, labels=range(10)))
    assert accuracy(matrix) == pytest.approx(reference.accuracy_score(truth, predicted), abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # predictions of classes that do not occur
        assert macro_recall(matrix) == pytest.approx(reference.balanced_accuracy_score(truth, predicted), abs=1e-12)
    each = reference.recall_score(truth, predicted, labels=present, average=None)
    np.testing.assert_allclose(recall_per_class(matrix)[present], each, atol=1e-12)
    assert recall_per_class(matrix)[list(absent)].isnan().all()


def test_macro_recall_equals_torchmetrics_where_every_class_occurs() -> None:
    truth = torch.arange(10).repeat(20)
    predicted = torch.randint(10, (200,), generator=torch.Generator().manual_seed(0))
    ours = macro_recall(confusion_matrix(predicted, truth, 10))
    assert ours == pytest.approx(multiclass_recall(predicted, truth, 10, average="macro").item(), abs=1e-6)


def test_an_epoch_in_batches_equals_an_epoch_at_once() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, targets = torch.randn(100, 7, generator=generator), torch.randint(7, (100,), generator=generator)
    meter = EpochMeter(100, 7, torch.device("cpu"))
    for rows in torch.arange(100).split(33):  # the last batch is a single image
        loss = torch.nn.functional.cross_entropy(logits[rows], targets[rows])
        meter.update(logits[rows], targets[rows], loss)
    values, matrix = meter.compute()
    assert values["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item(), rel=1e-6)
    assert values["accuracy"] == pytest.approx(reference.accuracy_score(targets, logits.argmax(1)))
    assert matrix.sum() == 100


def test_the_direction_of_a_metric_is_known() -> None:
    assert metric_mode("val/loss") == "min" and metric_mode("test/recall") == "max"
    with pytest.raises(RequestError, match="did you mean 'val/accuracy'"):
        metric_mode("val/acuracy")
