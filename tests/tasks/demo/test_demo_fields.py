import numpy as np
import pytest

from tasks.demo.fields import SMALLEST_JACOBIAN, Field, draw_deformation, draw_field, field_at, smallest_jacobian

HEAD_MM = (167, 204, 177)


def axes(extent_mm, step_mm=4):
    return [np.arange(0, length, step_mm, dtype=np.float32) for length in extent_mm]


def one_bump(strength: float) -> Field:
    """One function over a box of 40 mm; its only bump is 10 mm wide and has its centre at (20, 0, 0) mm."""
    heights = np.zeros((3, 13, 13, 13), np.float32)
    heights[0, 6, 4, 4] = 1
    return Field(heights=heights, width_mm=10, strength=strength)


def test_a_field_is_as_strong_in_the_corner_as_in_the_middle():
    places_mm = [np.float32([0, 30])] * 3
    fields = [draw_field(1, (60, 60, 60), 20, np.random.default_rng(seed)) for seed in range(400)]
    values = [field_at(field, *places_mm)[0] for field in fields]
    assert np.std(values, axis=0)[0, 0, 0] == pytest.approx(1, abs=0.1)
    assert np.std(values, axis=0)[1, 1, 1] == pytest.approx(1, abs=0.1)
    assert np.mean(values) == pytest.approx(0, abs=0.1)


def test_a_bump_is_highest_at_its_centre_and_falls_as_a_gaussian():
    x, y, z = field_at(one_bump(1), np.float32([20, 30]), np.float32([0]), np.float32([0]))
    assert x[1, 0, 0] / x[0, 0, 0] == pytest.approx(np.exp(-0.5))
    assert x[0, 0, 0] == pytest.approx(np.pi**-0.75)
    assert not y.any()
    assert not z.any()


def test_no_displacement_leaves_every_volume_as_it_is():
    assert smallest_jacobian(one_bump(0), (40, 40, 40)) == pytest.approx(1)


def test_a_fold_has_a_negative_jacobian():
    assert smallest_jacobian(one_bump(100), (40, 40, 40)) < 0


@pytest.mark.parametrize("seed", range(6))
def test_no_person_is_folded(seed):
    deformation = draw_deformation(HEAD_MM, np.random.default_rng(seed))
    assert smallest_jacobian(deformation, HEAD_MM) >= SMALLEST_JACOBIAN


def test_displacements_are_several_millimetres():
    deformation = draw_deformation(HEAD_MM, np.random.default_rng(0))
    lengths_mm = np.linalg.norm(field_at(deformation, *axes(HEAD_MM)), axis=0)
    assert 6 < np.sqrt((lengths_mm**2).mean()) < 10
