"""Metrics on masks that can be counted on paper."""

import math

import numpy as np
import pytest

from tasks.evaluate.metrics import directed_distances_mm, overlap, surface_distances

NOTHING = np.zeros((6, 5, 4), bool)


def voxels(*indices: tuple[int, int, int]) -> np.ndarray:
    mask = NOTHING.copy()
    for index in indices:
        mask[index] = True
    return mask


def test_half_overlap_has_dice_one_half_and_jaccard_one_third():
    counts = overlap(voxels((1, 1, 1), (2, 1, 1)), voxels((2, 1, 1), (3, 1, 1)))
    assert (counts.both, counts.only_prediction, counts.only_reference) == (1, 1, 1)
    assert counts.dice == 0.5
    assert counts.jaccard == pytest.approx(1 / 3)
    assert counts.status == "scored"


@pytest.mark.parametrize(
    ("reference", "prediction", "status", "dice"),
    [
        (NOTHING, NOTHING, "both_empty", math.nan),
        (NOTHING, voxels((1, 1, 1)), "false_positive", 0.0),
        (voxels((1, 1, 1)), NOTHING, "missed", 0.0),
    ],
)
def test_an_empty_mask_has_its_own_status(reference, prediction, status, dice):
    counts = overlap(reference, prediction)
    assert counts.status == status
    assert counts.dice == pytest.approx(dice, nan_ok=True)
    assert counts.jaccard == pytest.approx(dice, nan_ok=True)


def test_two_voxels_two_mm_apart_have_hausdorff_distance_two():
    distances = surface_distances(voxels((1, 1, 1)), voxels((2, 1, 1)), (2.0, 1.0, 1.0), tolerance_mm=1.0)
    assert distances.hd95_mm == 2.0
    assert distances.assd_mm == 2.0


def test_the_spacing_of_each_axis_counts():
    distances = surface_distances(voxels((1, 1, 1)), voxels((1, 1, 3)), (2.0, 1.0, 5.0), tolerance_mm=1.0)
    assert distances.hd95_mm == 10.0


def test_a_missed_structure_is_infinitely_far():
    distances = surface_distances(voxels((1, 1, 1)), NOTHING, (1.0, 1.0, 1.0), tolerance_mm=1.0)
    assert (distances.hd95_mm, distances.assd_mm, distances.nsd) == (math.inf, math.inf, 0.0)


def test_two_empty_masks_have_no_distance():
    distances = surface_distances(NOTHING, NOTHING, (1.0, 1.0, 1.0), tolerance_mm=1.0)
    assert all(math.isnan(value) for value in (distances.hd95_mm, distances.assd_mm, distances.nsd))


def test_equal_masks_are_at_distance_zero_also_at_the_border():
    mask = np.ones((4, 4, 4), bool)
    distances = surface_distances(mask, mask, (1.0, 1.0, 1.0), tolerance_mm=1.0)
    assert (distances.hd95_mm, distances.assd_mm, distances.nsd) == (0.0, 0.0, 1.0)


def test_hd95_is_the_larger_of_the_two_directions():
    reference, prediction = voxels((1, 1, 1)), voxels((1, 1, 1), (5, 1, 1))
    there, back = directed_distances_mm(reference, prediction, (1.0, 1.0, 1.0))
    assert (there.tolist(), back.tolist()) == ([0.0], [0.0, 4.0])
    assert surface_distances(reference, prediction, (1.0, 1.0, 1.0), 1.0).hd95_mm == pytest.approx(3.8)
    assert surface_distances(prediction, reference, (1.0, 1.0, 1.0), 1.0).hd95_mm == pytest.approx(3.8)


def test_assd_pools_the_distances_of_both_directions():
    distances = surface_distances(voxels((1, 1, 1)), voxels((1, 1, 1), (5, 1, 1)), (1.0, 1.0, 1.0), 1.0)
    assert distances.assd_mm == pytest.approx(4 / 3)


def test_the_tolerance_of_nsd_is_in_millimetres():
    cube, shifted = np.zeros((9, 8, 8), bool), np.zeros((9, 8, 8), bool)
    cube[2:6, 2:6, 2:6] = shifted[3:7, 2:6, 2:6] = True
    near, far = (surface_distances(cube, shifted, (2.0, 2.0, 2.0), tolerance).nsd for tolerance in (2.0, 0.5))
    assert near == 1.0
    assert 0.2 < far < 0.9
