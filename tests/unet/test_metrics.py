"""Overlap and error, on values one can count."""

import math

import pytest
import torch

from unet.metrics import dice, jaccard, mean_absolute_error, mean_squared_error


def mask(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


def test_overlap_is_counted():
    prediction, reference = mask(1, 1, 1, 0, 0), mask(0, 1, 1, 1, 1)
    assert dice(prediction, reference) == pytest.approx(4 / 7)
    assert jaccard(prediction, reference) == pytest.approx(2 / 5)


def test_what_is_found_nowhere_has_no_overlap():
    assert dice(mask(1, 0), mask(0, 1)) == jaccard(mask(1, 0), mask(0, 1)) == 0


def test_two_empty_masks_have_no_number():
    assert math.isnan(dice(mask(0, 0), mask(0, 0)))
    assert math.isnan(jaccard(mask(0, 0), mask(0, 0)))


def test_errors_are_means_over_all_values():
    output, target = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 4.0], [3.0, 0.0]])
    assert mean_squared_error(output, target) == 5.0
    assert mean_absolute_error(output, target) == 1.5
