import numpy as np
import pytest
from nibabel import aff2axcodes
from scipy.ndimage import map_coordinates

from tasks.demo.fields import Field, field_at
from tasks.demo.scanner import Protocol, expose, extent_mm, interpolate, label_tissue, place_grid, see
from tasks.demo.template import AIR
from tasks.scan.records import Geometry
from tests.tasks.demo.tiny_template import tiny_template

PROTOCOLS = [
    Protocol(axes="RAS", spacing_mm=(1, 1, 1)),
    Protocol(axes="PIR", spacing_mm=(1, 1, 2)),
    Protocol(axes="LIP", spacing_mm=(2, 1, 3)),
    Protocol(axes="LPS", spacing_mm=(1, 1, 4), tilt_degrees=12),
]


def grid_of(protocol, seed=0) -> Geometry:
    return place_grid(tiny_template(), protocol, np.random.default_rng(seed))


def centres_mm(geometry: Geometry) -> np.ndarray:
    """RAS+ places (3, X, Y, Z) of the voxels."""
    indices = np.indices(geometry.shape).reshape(3, -1)
    matrix = np.array(geometry.affine)
    return (matrix[:3, :3] @ indices + matrix[:3, 3:]).reshape(3, *geometry.shape)


def ramp(weights=(1, 2, 3)) -> tuple[np.ndarray, np.ndarray]:
    """A map that rises by `weights` per mm along R, A and S from 1 at (0, 0, 0), with air around it, and its affine."""
    rising = (np.tensordot(weights, np.indices((40, 40, 40)), 1) + 1).astype(np.uint8)
    affine = np.eye(4)
    affine[:3, 3] = -AIR
    return np.pad(rising, AIR), affine


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_grid_has_the_axes_and_spacing_of_its_protocol(protocol):
    geometry = grid_of(protocol)
    assert "".join(aff2axcodes(np.array(geometry.affine))) == protocol.axes
    assert geometry.spacing_mm == pytest.approx(protocol.spacing_mm)


def test_a_tilted_grid_is_turned_about_two_axes():
    matrix = np.array(grid_of(PROTOCOLS[3]).affine)
    assert matrix[2, 2] / 4 == pytest.approx(0.9781, abs=1e-4)  # the cosine of 12°
    assert -matrix[0, 0] == pytest.approx(0.9945, abs=1e-4)  # the cosine of 6°


@pytest.mark.parametrize("protocol", PROTOCOLS[:3])
def test_a_scan_shows_the_whole_brain_with_air_around_it(protocol):
    template, geometry = tiny_template(), grid_of(protocol)
    (grey,) = see([template.grey], template.affine, geometry, None)
    volume_ml = np.prod(geometry.spacing_mm) * grey.sum() / 255 / 1000
    assert volume_ml == pytest.approx(template.grey.sum() / 255 / 1000, rel=0.02)
    assert not grey[[0, -1]].any()
    assert not grey[:, [0, -1]].any()
    assert not grey[:, :, [0, -1]].any()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_voxel_shows_the_place_that_the_affine_gives_it(protocol):
    one, affine = ramp()
    geometry = grid_of(protocol)
    place = centres_mm(geometry)
    (view,) = see([one], affine, geometry, None)
    inside = ((place > 4) & (place < 12)).all(axis=0)
    assert inside.sum() > 40
    assert view[inside] == pytest.approx(np.tensordot((1, 2, 3), place, 1)[inside] + 1, abs=1e-3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_deformed_voxel_shows_the_place_that_lies_the_displacement_away(protocol):
    one, affine = ramp()
    geometry = grid_of(Protocol(axes=protocol.axes, spacing_mm=(1, 1, 1), tilt_degrees=protocol.tilt_degrees))
    heights = np.zeros((3, 12, 12, 12), np.float32)
    heights[:, 4:8, 4:8, 4:8] = np.reshape([3, 2, 1], (3, 1, 1, 1))
    deformation = Field(heights=heights, width_mm=20, strength=1)
    axes_mm = [np.arange(length, dtype=np.float32) + 0.5 for length in geometry.shape]
    moved_mm = np.tensordot(np.array(geometry.affine)[:3, :3], field_at(deformation, *axes_mm), 1)
    place = centres_mm(geometry) + moved_mm
    (view,) = see([one], affine, geometry, deformation)
    inside = ((place > 4) & (place < 12)).all(axis=0)
    assert np.linalg.norm(moved_mm, axis=0)[inside].min() > 1
    assert view[inside] == pytest.approx(np.tensordot((1, 2, 3), place, 1)[inside] + 1, abs=1e-3)


def test_a_thick_slice_is_the_mean_of_its_layers():
    one = np.zeros((9, 9, 12), np.uint8)
    one[3:6, 3:6, 4] = 200  # one of the four layers of the slice that begins at index 4
    geometry = Geometry(shape=(9, 9, 3), affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 4, 1.5), (0, 0, 0, 1)))
    (view,) = see([one], np.eye(4), geometry, None)
    assert view[4, 4].tolist() == [0, 50, 0]


def test_interpolation_agrees_with_scipy():
    random = np.random.default_rng(0)
    one = random.integers(0, 256, (5, 6, 7), dtype=np.uint8)
    indices = random.uniform(0, [[3.9], [4.9], [5.9]], (3, 200)).astype(np.float32)
    (values,) = interpolate([one], indices)
    assert values == pytest.approx(map_coordinates(one.astype(float), indices, order=1), abs=1e-3)


@pytest.mark.parametrize(
    ("grey", "white", "label"),
    [(0, 0, 0), (120, 0, 0), (130, 0, 1), (0, 130, 2), (100, 90, 1), (90, 100, 2), (80, 80, 0)],
)
def test_the_tissue_with_the_largest_share_names_the_voxel(grey, white, label):
    labels = label_tissue(np.float32([grey]), np.float32([white]))
    assert labels.dtype == np.uint8
    assert labels.tolist() == [label]


def test_a_picture_is_never_negative_and_noisy_where_there_is_air():
    geometry = grid_of(PROTOCOLS[0])
    picture = expose(np.zeros(geometry.shape, np.float32), geometry, np.random.default_rng(0))
    assert picture.min() >= 0
    assert 8 < np.sqrt((picture**2).mean() / 2) < 24  # each of the two parts of Rician noise


def test_a_picture_is_shaded_smoothly():
    geometry = Geometry(shape=(20, 20, 20), affine=((9, 0, 0, 0), (0, 9, 0, 0), (0, 0, 9, 0), (0, 0, 0, 1)))
    picture = expose(np.full(geometry.shape, 200, np.float32), geometry, np.random.default_rng(0))
    assert 0.05 < picture.std() / picture.mean() < 0.25
    assert np.abs(np.diff(picture, axis=0)).mean() < picture.std() / 2


def test_the_extent_of_a_grid_reaches_from_border_to_border():
    geometry = Geometry(shape=(2, 3, 4), affine=((0, 0, 5, 9), (1, 0, 0, 9), (0, -2, 0, 9), (0, 0, 0, 1)))
    assert extent_mm(geometry) == (2, 6, 20)
