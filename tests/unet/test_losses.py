"""The loss on masks small enough to count."""

import pytest
import torch

from unet import segmentation_loss, soft_dice_loss

CERTAIN = 100.0


def logits_of(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float() * CERTAIN


def test_a_perfect_prediction_costs_nothing():
    labels = torch.tensor([[[0, 1], [2, 1]]])
    assert segmentation_loss(logits_of(labels, 3), labels).item() == pytest.approx(0, abs=1e-4)


def test_half_overlap_is_a_dice_of_one_half():
    labels, prediction = torch.tensor([[[1, 1, 0, 0]]]), torch.tensor([[[0, 1, 1, 0]]])
    assert soft_dice_loss(logits_of(prediction, 2), labels).item() == pytest.approx(0.5, abs=1e-4)


def test_the_background_does_not_count_in_dice():
    labels, prediction = torch.tensor([[[0, 0, 0, 1]]]), torch.tensor([[[0, 0, 0, 0]]])
    assert soft_dice_loss(logits_of(prediction, 2), labels).item() == pytest.approx(1.0, abs=1e-4)


def test_one_class_has_no_foreground():
    with pytest.raises(ValueError, match="at least one foreground class"):
        soft_dice_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))
