from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.ingest.series import shear_tilted
from tasks.scan.dicom import read_stack
from tasks.scan.errors import GantryTilt
from tasks.scan.records import Geometry, Source
from tasks.scan.tilt import move, read_stored
from tasks.scan.volume import read_header, read_labels, read_voxels, write_mask
from tests.phantoms import affine, box, picture, write_dicom_series

SHAPE = (4, 5, 3)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 2))) + 7


def tilted(folder: Path, pixels_a_slice: float, voxels: np.ndarray = VOXELS) -> Source:
    """A series of 1 x 2 x 3 mm of which each slice lies that many rows further down than the one before."""
    grid = affine((1, 2, 3), "LPS", voxels.shape)
    grid[:3, 2] += pixels_a_slice * grid[:3, 1]
    return Source(format="sheared", files=tuple(write_dicom_series(folder, voxels, grid)))


def position(geometry: Geometry, voxels: np.ndarray, value: float) -> np.ndarray:
    """Where the one voxel of that value lies, in RAS+ mm."""
    return (np.array(geometry.affine) @ (*np.argwhere(voxels == value)[0], 1))[:3]


@pytest.mark.parametrize(("pixels", "tops"), [(1, [0, 1, 2]), (-1, [2, 1, 0])])
def test_slices_moved_by_whole_pixels_keep_every_value(tmp_path: Path, pixels: int, tops: list[int]):
    moved, geometry = read_stored(tilted(tmp_path, pixels), "C07")
    assert geometry.shape == (4, 7, 3)
    for index, top in enumerate(tops):
        np.testing.assert_array_equal(moved[:, top : top + 5, index], VOXELS[:, :, index])
        assert np.delete(moved[:, :, index], range(top, top + 5), axis=1).tolist() == [[VOXELS.min()] * 2] * 4


@pytest.mark.parametrize("pixels", [1, -1])
def test_a_voxel_stays_where_it_is_in_the_patient(tmp_path: Path, pixels: int):
    marked = VOXELS.copy()
    marked[3, 4, 2] = 999
    source = tilted(tmp_path, pixels, marked)
    first = np.array(read_stack(source, "C07").frames[0].position_mm) * (-1, -1, 1)
    grid = affine((1, 2, 3), "LPS", SHAPE)
    expected = first + grid[:3, :3] @ (3, 4, 2) + 2 * pixels * grid[:3, 1]
    moved, geometry = read_stored(source, "C07")
    np.testing.assert_allclose(position(geometry, moved, 999), expected, atol=1e-6)


def test_half_a_pixel_is_halfway_between_two_values(tmp_path: Path):
    moved, geometry = read_stored(tilted(tmp_path, 0.5), "C07")
    assert geometry.shape == (4, 6, 3)
    np.testing.assert_allclose(moved[:, 1:5, 1], (VOXELS[:, :-1, 1] + VOXELS[:, 1:, 1]) / 2)
    np.testing.assert_array_equal(moved[:, 1:6, 2], VOXELS[:, :, 2])


def test_a_move_along_the_first_axis():
    pixels = np.array([[1], [3]], np.float32)
    assert move(pixels, 1.25, 4, outside=0).ravel().tolist() == [0, 0.75, 2.5, 0.75]


@pytest.mark.parametrize("degrees", [15, -15])
def test_a_known_field_is_itself_again_on_the_upright_grid(tmp_path: Path, degrees: int):
    grid = affine((1, 1, 4), "LPS", (40, 48, 12))
    grid[:3, 2] += 4 * np.tan(np.radians(degrees)) * grid[:3, 1]
    files = write_dicom_series(tmp_path, field(grid, (40, 48, 12)), grid)
    moved, geometry = read_stored(Source(format="sheared", files=tuple(files)), "C07")
    expected = field(np.array(geometry.affine), geometry.shape)
    assert np.abs(moved - expected)[:, 13:-13].max() < 10  # of 2000: what is between pixels is not quite linear


def field(grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A smooth function of the place in the patient, from -2000 to 2000, in the voxels of `grid`."""
    x, y, z = np.einsum("ij,jklm->iklm", grid[:3, :3], np.indices(shape)) + grid[:3, 3, None, None, None]
    return np.rint(2000 * np.sin(x / 7) * np.cos(y / 6) * np.sin(z / 15 + 0.3)).astype(np.int16)


def test_a_tilt_along_the_rows_too_is_sheared_out(tmp_path: Path):
    grid = affine((1, 2, 3), "LPS", SHAPE)
    grid[:3, 2] += grid[:3, 0] - grid[:3, 1]
    source = Source(format="sheared", files=tuple(write_dicom_series(tmp_path, VOXELS, grid)))
    moved, geometry = read_stored(source, "C07")
    assert geometry.shape == (6, 7, 3)
    np.testing.assert_array_equal(moved[1:5, 1:6, 1], VOXELS[:, :, 1])


def test_a_tilted_series_is_refused_unless_the_setting_says_otherwise(tmp_path: Path):
    tilted(tmp_path / "a", 0.5)
    ((found,), _) = discover(tmp_path, None)
    with pytest.raises(GantryTilt, match=r'18\.4° away .*; set ingest\.tilt = "shear"'):
        ingest_case(found)
    case = ingest_case(shear_tilted(found))
    assert case.warnings == (
        "gantry tilt of 18.4° sheared out: the mask lies on the upright grid, not on the scan's slices",
    )
    assert case.geometry.spacing_mm == pytest.approx((1, 2, 3))


def test_a_series_without_tilt_is_read_as_ever_by_either_setting(tmp_path: Path):
    source = tilted(tmp_path, 0)
    header = read_header(source, "C07")
    assert header == read_header(replace(source, format="dicom"), "C07")
    np.testing.assert_array_equal(read_voxels(source, "C07")[0], read_voxels(replace(source, format="dicom"), "C07")[0])


def test_what_no_gantry_tilts_is_refused_by_either_setting(tmp_path: Path):
    with pytest.raises(GantryTilt, match="53° away from their normal; needed: a gantry tilt of at most 45°"):
        read_header(tilted(tmp_path, 2), "C07")


def test_the_mask_of_a_sheared_scan_lies_on_the_upright_grid(tmp_path: Path):
    tilted(tmp_path / "a", 0.5)
    ((found,), _) = discover(tmp_path, None)
    case = ingest_case(shear_tilted(found))
    labels = box((4, 6, 3), (1, 1, 1), (2, 5, 3))
    write_mask(labels, case, tmp_path / "a.nii.gz")
    read = read_labels(Source(format="nifti", files=(tmp_path / "a.nii.gz",)), case.geometry, "a")
    np.testing.assert_array_equal(read, labels)
