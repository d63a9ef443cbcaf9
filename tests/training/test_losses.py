"""Losses against their formulas written out, and class weights against scikit-learn's and the paper's."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import config
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from cnnbench.config.compose import fingerprint
from cnnbench.training.build import building
from cnnbench.training.callbacks.early_stopping import Diverged, StopWhenDiverged
from cnnbench.training.losses import build_loss, class_weights, guessing_losses
from cnnbench.utils.errors import RequestError

COUNTS = [50, 5, 20]
LOGITS = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


def loss_of(*overrides: str) -> torch.nn.Module:
    return build_loss(config(*overrides), COUNTS)


def one_against_the_rest(gamma: float, alpha: float | None, smoothing: float = 0.0) -> float:
    """Lin et al. 2017, equation 5, image by image and class by class."""
    total = 0.0
    for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        for at, logit in enumerate(row):
            p = 1 / (1 + math.exp(-logit))
            true = (1 - smoothing) * (at == label) + smoothing / 3
            for share, p_t, side in ((true, p, alpha), (1 - true, 1 - p, None if alpha is None else 1 - alpha)):
                total -= share * (1 if side is None else side) * (1 - p_t) ** gamma * math.log(p_t)
    return total / len(LABELS)


def test_focal_and_binary_losses_are_their_formulas() -> None:
    assert loss_of("loss=focal")(LOGITS, LABELS).item() == pytest.approx(one_against_the_rest(2, 0.25), rel=1e-5)
    asked = loss_of("loss=focal", "loss.gamma=1.5", "loss.alpha=null")
    assert asked(LOGITS, LABELS).item() == pytest.approx(one_against_the_rest(1.5, None), rel=1e-5)
    assert loss_of("loss=bce")(LOGITS, LABELS).item() == pytest.approx(one_against_the_rest(0, None), rel=1e-5)
    smooth = loss_of("loss=bce", "label_smoothing=0.2")
    assert smooth(LOGITS, LABELS).item() == pytest.approx(one_against_the_rest(0, None, 0.2), rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_class_weights_are_those_of_the_effective_number(beta: float) -> None:
    effective = [sum(beta**power for power in range(count)) for count in COUNTS]  # the geometric series itself
    weights = class_weights(COUNTS, beta).double()
    np.testing.assert_allclose(weights / weights[0], effective[0] / np.array(effective), rtol=1e-5)
    assert (weights * torch.tensor(COUNTS)).sum() == pytest.approx(sum(COUNTS), rel=1e-6)


def test_the_limits_are_no_weights_and_scikit_learns_balanced_ones() -> None:
    assert class_weights(COUNTS, 0.0).tolist() == [1, 1, 1]
    labels = np.repeat(np.arange(3), COUNTS)
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(COUNTS, 1 - 1e-9), balanced, rtol=1e-4)
    assert class_weights([4, 0, 4], 0.9).tolist() == pytest.approx([1, 0, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_weighted_loss_is_a_mean_over_images_and_so_the_same_in_parts(smoothing: float) -> None:
    loss, weights = loss_of("loss=weighted", f"label_smoothing={smoothing}"), class_weights(COUNTS, 0.999).double()
    targets = functional.one_hot(LABELS).double() * (1 - smoothing) + smoothing / 3
    expected = -(targets * weights * LOGITS.double().log_softmax(1)).sum(1).mean()
    assert loss(LOGITS, LABELS).item() == pytest.approx(expected.item(), rel=1e-5)
    parts = [loss(LOGITS[rows], LABELS[rows]) * len(LABELS[rows]) / 12 for rows in (slice(0, 5), slice(5, 12))]
    assert sum(parts).item() == pytest.approx(expected.item(), rel=1e-5)
    assert not loss.state_dict()  # a checkpoint has no more in it


def test_what_does_not_go_together_is_refused_and_old_configurations_hold() -> None:
    with (
        pytest.raises(RequestError, match="loss=focal has no smoothed labels; use label_smoothing=0"),
        building("loss"),
    ):
        loss_of("loss=focal", "label_smoothing=0.1")
    with pytest.raises(RequestError, match="a quirk of loss=cross_entropy alone"):
        loss_of("loss=bce", "quirks.softmax_before_loss=true")
    old = config()
    del old["loss"], old["data"]["sampling"]
    assert build_loss(old, COUNTS)(LOGITS, LABELS).item() == functional.cross_entropy(LOGITS, LABELS).item()
    assert fingerprint(old) == fingerprint(config()) != fingerprint(config("loss=bce"))
    assert fingerprint(old) != fingerprint(config("data.sampling=balanced"))


@pytest.mark.parametrize("name", ["cross_entropy", "bce", "focal"])
def test_guessing_costs_the_least_that_the_same_answer_for_every_image_can(name: str) -> None:
    cfg = config(f"loss={name}")
    loss, target = build_loss(cfg, [10] * 5), torch.arange(5)
    costs = [float(loss(torch.full((5, 5), logit), target)) for logit in np.linspace(-6, 6, 1201)]
    assert guessing_losses(loss, 5) == pytest.approx((min(costs), costs[600]), rel=1e-4)


def test_an_untrained_network_of_many_classes_has_not_diverged() -> None:
    """Its focal loss is 24 times that of the best answer for all."""
    loss = build_loss(config("loss=focal"), [10] * 100)
    best, untrained = guessing_losses(loss, 100)
    callback = StopWhenDiverged(above=10, epochs=1, at_chance=True)
    trainer = SimpleNamespace(current_epoch=0, global_step=1)
    for value, diverges in ((untrained, False), (9 * untrained, False), (11 * untrained, True), (best, True)):
        classifier = SimpleNamespace(metrics={"train/loss": value}, train_loss=loss, num_classes=100)
        with pytest.raises(Diverged) if diverges else nullcontext():
            callback.on_train_epoch_end(trainer, classifier)  # type: ignore[arg-type]
