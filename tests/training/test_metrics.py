"""Accuracy, recall and the confusion matrix against scikit-learn and torchmetrics, on random predictions."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config
from sklearn import metrics as reference
from torchmetrics.functional.classification import multiclass_recall

from cnnbench.analysis.images import calibrate
from cnnbench.analysis.metric_names import higher_is_better
from cnnbench.analysis.report.write import build
from cnnbench.config.compose import compose, fingerprint, resolved
from cnnbench.config.schema import CLASS_METRICS, LOGIT_METRICS, check_values
from cnnbench.training.metrics import (
    EpochMeter,
    check_classes,
    f1_per_class,
    metric_mode,
    precision_per_class,
    recall_per_class,
)
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError


def epoch(
    logits: torch.Tensor, targets: torch.Tensor, names: tuple[str, ...] = ()
) -> tuple[dict[str, float], torch.Tensor]:
    """What an epoch in one batch comes to."""
    meter = EpochMeter(*logits.shape, torch.device("cpu"), keep_logits=True, metrics=names)
    meter.update(logits, targets, torch.zeros(()))
    return meter.compute()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("absent", [(), (3,), (0, 9)])
def test_metrics_equal_scikit_learns(seed: int, absent: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    present = [label for label in range(10) if label not in absent]
    truth = random.choice(present, 300)
    predicted = np.where(random.random(300) < 0.6, truth, random.integers(0, 10, 300))
    values, matrix = epoch(torch.eye(10)[predicted], torch.from_numpy(truth))
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(truth, predicted, labels=range(10)))
    assert values["accuracy"] == pytest.approx(reference.accuracy_score(truth, predicted), abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # predictions of classes that do not occur
        assert values["recall"] == pytest.approx(reference.balanced_accuracy_score(truth, predicted), abs=1e-12)
    each = reference.recall_score(truth, predicted, labels=present, average=None)
    np.testing.assert_allclose(recall_per_class(matrix)[present], each, atol=1e-12)
    assert recall_per_class(matrix)[list(absent)].isnan().all()


def test_macro_recall_equals_torchmetrics_where_every_class_occurs() -> None:
    truth = torch.arange(10).repeat(20)
    predicted = torch.randint(10, (200,), generator=torch.Generator().manual_seed(0))
    ours = epoch(torch.eye(10)[predicted], truth)[0]["recall"]
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


ALL = (*CLASS_METRICS, *LOGIT_METRICS)


def measure(logits: torch.Tensor, targets: torch.Tensor, names: tuple[str, ...] = ALL) -> dict[str, float]:
    return epoch(logits, targets, names)[0]


@pytest.mark.parametrize("scale", [0.1, 3.0])  # of logits that could be taken for probabilities, and of sure ones
@pytest.mark.parametrize("absent", [(), (3,)])
def test_more_metrics_equal_scikit_learns(scale: float, absent: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    truth = random.choice([label for label in range(8) if label not in absent], 400)
    logits = scale * (random.random((400, 8)) + (np.arange(8) == truth[:, None]) * random.random((400, 1)))
    found = measure(torch.from_numpy(logits), torch.from_numpy(truth))
    kept = logits.astype(np.float32).astype(float)
    shares = np.exp(kept) / np.exp(kept).sum(axis=1, keepdims=True)
    predicted, true = shares.argmax(axis=1), truth[:, None] == np.arange(8)
    occurring = [label for label in range(8) if label not in absent]
    expected = {
        "precision": reference.precision_score(truth, predicted, average="macro", zero_division=0),
        "f1": reference.f1_score(truth, predicted, average="macro", zero_division=0),
        "kappa": reference.cohen_kappa_score(truth, predicted),
        "top5_accuracy": reference.top_k_accuracy_score(truth, shares, k=5, labels=range(8)),
        "auroc": np.mean([reference.roc_auc_score(true[:, label], shares[:, label]) for label in occurring]),
        "brier": reference.brier_score_loss(truth, shares, labels=range(8)),
    }
    sure, right = shares.max(axis=1), predicted == truth
    inside = [(low / 15 <= sure) & (sure < (low + 1) / 15) for low in range(15)]
    expected["calibration_error"] = sum(abs(sure[rows].sum() - right[rows].sum()) for rows in inside) / 400
    assert calibrate(sure, right)[0] == pytest.approx(expected["calibration_error"], abs=1e-9)  # as the report has it
    assert {name: found[name] for name in ALL} == pytest.approx(expected, abs=1e-6)


def test_classes_that_are_never_predicted_count_and_classes_that_are_not_there_do_not() -> None:
    matrix = torch.tensor([[8, 0, 2, 0], [4, 0, 0, 0], [1, 0, 5, 0], [0, 0, 0, 0]])
    assert precision_per_class(matrix)[:3].tolist() == pytest.approx([8 / 13, 0, 5 / 7])
    assert f1_per_class(matrix)[:3].tolist() == pytest.approx([16 / 23, 0, 10 / 13])
    assert precision_per_class(matrix)[3].isnan() and f1_per_class(matrix)[3].isnan()


def test_only_what_is_asked_for_is_measured_and_the_objective_is() -> None:
    logits, targets = torch.randn(20, 6), torch.arange(20) % 6
    assert {*measure(logits, targets, ())} == {"loss", "accuracy", "recall"}
    assert {*measure(logits, targets, ("f1", "brier"))} == {"loss", "accuracy", "recall", "f1", "brier"}
    for name, mode in {
        "val/brier": "min",
        "val/calibration_error": "min",
        "train/f1": "max",
        "val/auroc": "max",
    }.items():
        assert (
            metric_mode(name)
            == resolved(compose([f"objective={name}", "scheduler=plateau"]))["scheduler"]["mode"]
            == mode
        )
        assert higher_is_better(name) == (mode == "max")
    with pytest.raises(RequestError, match="is not a metric"):
        metric_mode("train/auroc")  # train logits are not kept
    with pytest.raises(RequestError, match=r"metrics must be a list of precision or .*; did you mean 'precision'"):
        check_values(resolved(compose(["metrics=[f1,precison]"])))
    with pytest.raises(RequestError, match="needs more than 5 classes"):
        check_classes(("top5_accuracy",), 5)


def test_a_run_has_them_everywhere(tmp_path: Path) -> None:
    asked = config(f"metrics=[{','.join(ALL)}]", "objective=val/f1", "trainer.max_epochs=2")
    assert fingerprint(asked) == fingerprint({**asked, "metrics": []})
    record = train(asked, tmp_path)
    assert record["status"] == "completed", record["error"]
    assert {f"{split}/{name}" for split in ("val", "test") for name in ALL} <= record["metrics"].keys()
    assert {f"train/{name}" for name in CLASS_METRICS} <= record["history"].keys() and "train/auroc" not in record[
        "history"
    ]
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val/top5_accuracy", "val/kappa"} <= {*header}
    assert record["best"]["val/f1"] == max(record["history"]["val/f1"])
    assert np.nanmean(record["per_class"]["test/f1"]) == pytest.approx(record["metrics"]["test/f1"])
    page = build([tmp_path]).text
    for text in (
        "test calibration error",
        "test top5 accuracy",
        "Calibration",
        "Cohen&#39;s",
        "Accuracy against confidence",
    ):
        assert text in page, text
    assert "test/auroc mean" in (build([tmp_path], "csv").text)
