import itertools

import numpy as np
import pytest

from tasks.scan.errors import UnusableGeometry
from tasks.scan.geometry import (
    as_affine,
    canonical_geometry,
    canonical_shape,
    canonical_spacing_mm,
    check_geometry,
    from_canonical,
    grid_distance_mm,
    to_canonical,
)
from tasks.scan.records import Geometry
from tests.phantoms import affine, oblique_affine

SHAPE = (3, 4, 5)
ORIENTATIONS = [
    "".join(axes) for order in itertools.permutations(("RL", "AP", "SI")) for axes in itertools.product(*order)
]


def grid(matrix: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> Geometry:
    return Geometry(shape=shape, affine=as_affine(matrix))


def test_there_are_48_orientations_to_try():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_canonical_voxels_come_back_in_the_stored_order(axes: str):
    voxels = np.arange(60).reshape(SHAPE)
    geometry = grid(affine((1, 2, 3), axes, SHAPE))
    canonical = to_canonical(voxels, geometry)
    assert canonical.shape == canonical_shape(geometry)
    np.testing.assert_array_equal(from_canonical(canonical, geometry), voxels)


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_a_voxel_keeps_its_place_in_the_patient(axes: str):
    geometry = grid(affine((1, 2, 3), axes, SHAPE, origin_mm=(-7, 5, 11)))
    voxels = np.zeros(SHAPE)
    voxels[2, 1, 3] = 1
    moved = np.argwhere(to_canonical(voxels, geometry))[0]
    before = np.array(geometry.affine) @ (2, 1, 3, 1)
    np.testing.assert_allclose(np.array(canonical_geometry(geometry).affine) @ (*moved, 1), before)


def test_the_canonical_grid_of_a_sagittal_scan_has_its_slices_along_x():
    geometry = grid(affine((1, 2, 6), "PIR", SHAPE))
    assert canonical_shape(geometry) == (5, 3, 4)
    assert canonical_spacing_mm(geometry) == (6, 1, 2)


def test_a_ras_grid_is_its_own_canonical_grid():
    geometry = grid(affine((1, 2, 3), "RAS", SHAPE))
    assert canonical_geometry(geometry) == geometry


def test_an_oblique_grid_is_usable():
    check_geometry(grid(oblique_affine((1, 2, 3))), "C07")


def test_a_sheared_grid_is_refused_with_its_angle():
    matrix = np.eye(4)
    matrix[0, 1] = 1
    with pytest.raises(UnusableGeometry, match=r"case 'C07': the grid is sheared: two axes meet at 45\.00° instead"):
        check_geometry(grid(matrix), "C07")


def test_a_singular_grid_is_refused():
    matrix = np.eye(4)
    matrix[:3, 1] = matrix[:3, 0]
    with pytest.raises(UnusableGeometry, match="singular"):
        check_geometry(grid(matrix), "C07")


def test_a_spacing_of_zero_is_refused():
    with pytest.raises(UnusableGeometry, match="a side of 0 mm"):
        check_geometry(grid(np.diag([1.0, 0.0, 1.0, 1.0])), "C07")


def test_an_affine_with_nan_is_refused():
    with pytest.raises(UnusableGeometry, match="NaN"):
        check_geometry(grid(np.diag([1.0, np.nan, 1.0, 1.0])), "C07")


def test_grids_moved_by_3_and_4_mm_are_5_mm_apart():
    moved = affine(origin_mm=(3, 4, 0))
    assert grid_distance_mm(grid(affine()), grid(moved)) == 5


def test_grids_with_another_spacing_are_apart_at_the_far_corner():
    assert grid_distance_mm(grid(affine((1, 1, 1))), grid(affine((1, 1, 2)))) == 4


def test_grids_of_different_shapes_are_infinitely_apart():
    assert grid_distance_mm(grid(affine()), grid(affine(), (3, 4, 6))) == float("inf")
