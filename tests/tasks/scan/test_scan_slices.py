import numpy as np
import pytest

from tasks.scan.errors import DuplicateSlice, GantryTilt, MissingSlice, TimeSeries, UnevenSlices, UnusableGeometry
from tasks.scan.slices import check_gaps, check_upright, uneven_steps

UP = np.array([0.0, 0.0, 1.0])


def stack(*heights_mm: float) -> np.ndarray:
    return np.array([(10.0, 20.0, height) for height in heights_mm])


def test_the_spacing_is_the_distance_of_positions():
    assert check_gaps(stack(0, 6.5, 13, 19.5), UP, "C07") == 6.5


def test_positions_rounded_to_hundredths_are_even():
    assert check_gaps(stack(0, 0.63, 1.25, 1.88, 2.5), UP, "C07") == 0.625


def test_positions_rounded_to_tenths_are_even_and_said_to_be_rounded():
    heights_mm = np.round(np.arange(20) * 0.625, 1)
    assert check_gaps(stack(*heights_mm), UP, "C07") == pytest.approx(11.9 / 19)
    assert uneven_steps(heights_mm) == "0.60 to 0.70 mm"
    assert uneven_steps(np.arange(20) * 0.625) == ""


def test_a_slice_more_than_a_tenth_of_a_millimetre_beside_its_place_is_uneven():
    assert check_gaps(stack(0, 1, 2.09, 3, 4), UP, "C07") == 1.0
    with pytest.raises(UnevenSlices, match=r"steps from 0\.89 to 1\.11 mm"):
        check_gaps(stack(0, 1, 2.11, 3, 4), UP, "C07")


def test_a_tilt_that_rounding_makes_of_an_oblique_stack_is_none():
    normal = np.array([0.0, np.sin(0.3), np.cos(0.3)])
    check_upright(np.round(np.outer([0, 1, 2, 3], normal), 1), normal, "C07")
    with pytest.raises(GantryTilt, match=r"0\.3° away"):
        check_upright(np.outer([0, 100], normal + np.array([0.3 / 57.3, 0, 0])), normal, "C07")


def test_a_gap_of_two_steps_is_a_missing_slice():
    with pytest.raises(MissingSlice, match=r"1 slice missing: after 4\.00 mm the next is at 8\.00 mm"):
        check_gaps(stack(0, 2, 4, 8, 10), UP, "C07")


def test_the_message_counts_slices_and_gaps():
    with pytest.raises(MissingSlice) as caught:
        check_gaps(stack(0, 1, 2, 5, 6, 8), UP, "C07")
    assert caught.value.found == (
        "3 slices missing: after 2.00 mm the next is at 5.00 mm, where the usual step is 1.00 mm (2 such gaps)"
    )


def test_a_slice_is_missed_among_three():
    with pytest.raises(MissingSlice, match=r"after 1\.00 mm the next is at 3\.00 mm"):
        check_gaps(stack(0, 1, 3), UP, "C07")


def test_two_slices_at_one_position_are_a_duplicate():
    with pytest.raises(DuplicateSlice, match=r"1 of 4 slices lie where another one does, the first at 1\.00 mm"):
        check_gaps(stack(0, 1, 1, 2), UP, "C07")


def test_two_slices_at_each_position_are_two_volumes():
    with pytest.raises(TimeSeries, match="a series of 2 volumes"):
        check_gaps(stack(0, 0, 1, 1, 2, 2), UP, "C07")


def test_steps_of_a_real_uneven_series_are_refused():
    with pytest.raises(UnevenSlices, match=r"steps from 1\.08 to 7\.00 mm"):
        check_gaps(stack(0, 4, 8, 9.08, 16.08), UP, "C07")


def test_small_steps_that_add_up_are_a_drift():
    gaps = [1.0] * 40 + [1.0199] * 40
    with pytest.raises(UnevenSlices, match=r"drift up to 0\.39 mm"):
        check_gaps(stack(*np.cumsum(gaps)), UP, "C07")


def test_a_tilted_stack_is_refused_with_its_angle():
    positions = np.array([(0.0, height * np.tan(np.radians(15)), height) for height in range(5)])
    with pytest.raises(GantryTilt, match=r"15\.0° away from their normal \(gantry tilt\)"):
        check_upright(positions, UP, "C07")


def test_one_slice_beside_the_others_is_refused():
    positions = stack(0, 1, 2, 3)
    positions[1, 0] += 0.5
    with pytest.raises(UnusableGeometry, match=r"0\.50 mm beside the line"):
        check_gaps(positions, UP, "C07")


def test_the_step_of_a_tilted_stack_is_along_the_normal():
    positions = np.array([(0.0, height * np.tan(np.radians(15)), height) for height in (0, 2, 4)])
    assert check_gaps(positions, UP, "C07") == 2.0
