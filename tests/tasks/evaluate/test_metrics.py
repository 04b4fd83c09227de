"""Metrics on masks that can be counted on paper."""

import math

import numpy as np
import pytest

from tasks.evaluate.distances import nearest_mm
from tasks.evaluate.metrics import Measures, Overlap, SurfaceDistances, measure

NOTHING = np.zeros((6, 5, 4), bool)


def voxels(*indices: tuple[int, int, int]) -> np.ndarray:
    mask = NOTHING.copy()
    for index in indices:
        mask[index] = True
    return mask


def of_one_label(reference, prediction, spacing_mm=(1.0, 1.0, 1.0), tolerance_mm=1.0) -> Measures:
    maps = (np.asarray(mask, np.uint16) for mask in (reference, prediction))
    return measure(*maps, spacing_mm, {1: tolerance_mm})[1]


def overlap(reference, prediction) -> Overlap:
    return of_one_label(reference, prediction).overlap


def surface_distances(reference, prediction, spacing_mm, tolerance_mm) -> SurfaceDistances:
    return of_one_label(reference, prediction, spacing_mm, tolerance_mm).surface


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
    places = np.argwhere(reference), np.argwhere(prediction)
    there, back = nearest_mm(*places, (1.0, 1.0, 1.0)), nearest_mm(*places[::-1], (1.0, 1.0, 1.0))
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


def test_every_label_is_measured_by_itself():
    reference, prediction = np.zeros((6, 5, 4), np.uint16), np.zeros((6, 5, 4), np.uint16)
    reference[1, 1, 1], prediction[1, 1, 1] = 300, 300
    reference[4, 1, 1], prediction[4, 1, 3] = 7, 7
    measured = measure(reference, prediction, (1.0, 1.0, 1.0), {300: 1.0, 7: 1.0, 5: 1.0})
    assert [(value, measured[value].overlap.status) for value in (7, 300, 5)] == [
        (7, "scored"), (300, "scored"), (5, "both_empty"),
    ]  # fmt: skip
    assert (measured[300].overlap.dice, measured[7].overlap.dice) == (1.0, 0.0)
    assert (measured[300].surface.hd95_mm, measured[7].surface.hd95_mm) == (0.0, 2.0)


def test_each_label_has_its_own_tolerance():
    reference, prediction = np.zeros((9, 5, 4), np.uint16), np.zeros((9, 5, 4), np.uint16)
    reference[1, 1, 1], prediction[2, 1, 1] = 1, 1
    reference[6, 1, 1], prediction[7, 1, 1] = 2, 2
    measured = measure(reference, prediction, (2.0, 1.0, 1.0), {1: 2.0, 2: 1.9})
    assert measured[1].surface.nsd == 1.0
    assert measured[2].surface.nsd < 1.0


def test_a_value_that_is_no_label_is_background():
    reference = np.full((4, 4, 4), 9, np.uint16)
    assert measure(reference, reference, (1.0, 1.0, 1.0), {1: 1.0})[1].overlap.status == "both_empty"


def test_more_labels_than_a_byte_holds():
    labels = np.arange(300, dtype=np.uint16).reshape(10, 10, 3)
    measured = measure(labels, labels, (1.0, 1.0, 1.0), dict.fromkeys(range(1, 300), 1.0))
    assert {one.overlap.both for one in measured.values()} == {1}
    assert {one.surface.nsd for one in measured.values()} == {1.0}


def test_the_volume_error_is_relative_to_the_reference_and_undefined_without_one_of_them():
    two, three = voxels((1, 1, 1), (2, 1, 1)), voxels((1, 1, 1), (2, 1, 1), (3, 1, 1))
    assert overlap(two, three).volume_error == 0.5
    assert overlap(three, two).volume_error == pytest.approx(-1 / 3)
    assert all(math.isnan(overlap(*pair).volume_error) for pair in ((two, NOTHING), (NOTHING, two)))


def test_voxels_that_share_a_corner_are_one_component():
    one, two = voxels((1, 1, 1), (2, 2, 2)), voxels((1, 1, 1), (3, 1, 1))
    measured = of_one_label(one, two)
    assert (measured.components_reference, measured.components_prediction) == (1, 2)


def test_touching_labels_are_components_of_their_own():
    labels = np.zeros((6, 5, 4), np.uint16)
    labels[1, 1, 1], labels[2, 1, 1], labels[3, 1, 1] = 1, 2, 1
    measured = measure(labels, labels, (1.0, 1.0, 1.0), {1: 1.0, 2: 1.0})
    assert [measured[value].components_reference for value in (1, 2)] == [2, 1]


def test_two_empty_maps_without_labels_have_no_measures():
    empty = np.zeros((4, 4, 4), np.uint16)
    assert measure(empty, empty, (1.0, 1.0, 1.0), {}) == {}
