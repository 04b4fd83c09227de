from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from tasks.scan.errors import (
    CaseError,
    DuplicateSlice,
    MissingSlice,
    TruncatedPixels,
    UnreadableImage,
    UnsupportedImage,
    UnusableGeometry,
)
from tasks.scan.geometry import to_canonical
from tasks.scan.records import Geometry, Source
from tasks.scan.volume import read_header, read_voxels
from tests.phantoms import affine, box, edit_dicom, oblique_affine, picture, truncate, write_dicom_series

REAL = Path(__file__).parents[3] / "../shared/data/dicom"
needs_real_scans = pytest.mark.skipif(not REAL.is_dir(), reason="real DICOM scans are not part of this repository")

SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))
GRID = affine((1, 2, 3), "LPS", SHAPE, origin_mm=(-7, 5, 11))


def source(files: list[Path]) -> Source:
    return Source(format="dicom", files=tuple(files))


def series(folder: Path, **tags: object) -> list[Path]:
    return write_dicom_series(folder, VOXELS, GRID, tags=tags)


def corners_by_simpleitk(files: tuple[Path, ...]) -> np.ndarray:
    """RAS+ positions (8, 3) of the corner voxels, and the array, both as SimpleITK's own reader has them."""
    image = SimpleITK.ReadImage([str(file) for file in files])
    ends = [(0, length - 1) for length in image.GetSize()]
    corners = [image.TransformIndexToPhysicalPoint((x, y, z)) for x in ends[0] for y in ends[1] for z in ends[2]]
    return np.array(corners) * (-1, -1, 1)


def corners(geometry: Geometry) -> np.ndarray:
    ends = [(0, length - 1) for length in geometry.shape]
    return np.array([(np.array(geometry.affine) @ (x, y, z, 1))[:3] for x in ends[0] for y in ends[1] for z in ends[2]])


def test_a_series_gives_back_its_voxels_and_grid_whatever_the_file_names(tmp_path: Path):
    files = series(tmp_path)
    voxels, geometry = read_voxels(source(sorted(files)), "C07")
    assert geometry.shape == SHAPE
    np.testing.assert_allclose(geometry.affine, GRID, atol=1e-6)
    np.testing.assert_array_equal(voxels, VOXELS[::-1, ::-1])


def test_files_come_back_in_the_order_of_positions(tmp_path: Path):
    files = series(tmp_path)
    assert read_header(source(sorted(files)), "C07").source.files == tuple(files)


def test_an_oblique_series_lies_where_simpleitk_puts_it(tmp_path: Path):
    header = read_header(source(write_dicom_series(tmp_path, VOXELS, oblique_affine((1, 2, 3)))), "C07")
    np.testing.assert_allclose(corners(header.geometry), corners_by_simpleitk(header.source.files), atol=1e-5)


@needs_real_scans
@pytest.mark.parametrize("name", ["HFS", "HFDL"])
def test_a_real_sagittal_series_lies_where_simpleitk_puts_it(name: str):
    header = read_header(source(sorted((REAL / "decubitus/In" / name).iterdir())), name)
    np.testing.assert_allclose(corners(header.geometry), corners_by_simpleitk(header.source.files), atol=1e-3)
    assert header.geometry.spacing_mm == pytest.approx((1.015625, 1.015625, 4.8))


@needs_real_scans
@pytest.mark.parametrize("name", ["HFS", "HFDL"])
def test_a_real_sagittal_series_has_the_voxels_that_simpleitk_reads(name: str):
    header = read_header(source(sorted((REAL / "decubitus/In" / name).iterdir())), name)
    image = SimpleITK.ReadImage([str(file) for file in header.source.files])
    expected = to_canonical(SimpleITK.GetArrayFromImage(image).transpose(), header.geometry)
    voxels, _ = read_voxels(header.source, name)
    np.testing.assert_array_equal(voxels, expected)
    assert voxels.shape == (35, 256, 256)


def test_a_truncated_slice_is_not_left_out(tmp_path: Path):
    files = series(tmp_path)
    truncate(files[-1], 0.99)
    with pytest.raises(TruncatedPixels, match=r"case 'C07': '001\.dcm' has \d+ of 40 bytes of pixels"):
        read_voxels(source(files), "C07")


def test_a_slice_cut_short_in_its_header_is_unreadable(tmp_path: Path):
    files = series(tmp_path)
    truncate(files[2], 0.5)
    with pytest.raises(UnreadableImage, match=r"'004\.dcm' ends before its pixels"):
        read_header(source(files), "C07")


def test_a_missing_slice_is_named_by_its_position(tmp_path: Path):
    files = series(tmp_path)
    del files[2]
    with pytest.raises(MissingSlice, match=r"1 slice missing: after 14\.00 mm the next is at 20\.00 mm"):
        read_header(source(files), "C07")


def test_a_duplicate_slice_is_refused(tmp_path: Path):
    files = series(tmp_path)
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(files[2].read_bytes())
    with pytest.raises(DuplicateSlice, match="1 of 7 slices are copies of another one, under the same identifier"):
        read_header(source([*files, copy]), "C07")


def test_two_slices_at_one_position_are_refused(tmp_path: Path):
    files = series(tmp_path)
    edit_dicom(files[2], ImagePositionPatient=pydicom.dcmread(files[3]).ImagePositionPatient)
    with pytest.raises(DuplicateSlice, match=r"1 of 6 slices lie where another one does, the first at 20\.00 mm"):
        read_header(source(files), "C07")


def test_one_identifier_for_all_slices_makes_no_copies_of_them(tmp_path: Path):
    assert read_header(source(series(tmp_path, SOPInstanceUID="1.2.3")), "C07").geometry.shape == SHAPE


def test_a_series_exported_twice_is_no_time_series(tmp_path: Path):
    files = [*series(tmp_path / "a"), *series(tmp_path / "b")]
    with pytest.raises(DuplicateSlice, match="6 of 12 slices are copies"):
        read_header(source(files), "C07")


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_slice_that_does_not_say_where_it_is_is_refused(tmp_path: Path, tag: str):
    files = series(tmp_path)
    edit_dicom(files[3], **{tag: None})
    with pytest.raises(UnusableGeometry, match="a slice lacks its position, orientation or pixel spacing"):
        read_header(source(files), "C07")


@pytest.mark.parametrize("spacing", [["-1", "-1"], ["1", "0"]])
def test_pixels_without_a_side_are_refused(tmp_path: Path, spacing: list[str]):
    files = series(tmp_path, PixelSpacing=spacing)
    with pytest.raises(UnusableGeometry, match="a slice has pixels whose sides are not above 0 mm"):
        read_header(source(files), "C07")


@pytest.mark.parametrize(
    ("tags", "reason", "found"),
    [
        (
            {"ImageOrientationPatient": ["1", "0", "0", "0", "0.8", "0.6"]},
            "mixed_orientations",
            "the slices are not parallel",
        ),
        ({"PixelSpacing": ["2", "1.1"]}, "unusable_geometry", "different pixel spacings"),
    ],
)
def test_a_slice_that_differs_from_the_others_is_refused(
    tmp_path: Path, tags: dict[str, list[str]], reason: str, found: str
):
    files = series(tmp_path)
    edit_dicom(files[3], **tags)
    with pytest.raises(CaseError, match=found) as caught:
        read_header(source(files), "C07")
    assert caught.value.reason() == reason


@pytest.mark.parametrize(
    ("tags", "reason", "found"),
    [
        ({"NumberOfFrames": "8"}, "unsupported_image", "a multi-frame image of 8 frames, none with a position"),
        ({"SamplesPerPixel": 3}, "colour_image", "a series in colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour_image", "a series in colour"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]}, "mosaic_image", "mosaics"),
        ({"SeriesInstanceUID": "1.2.3"}, "unsupported_image", "2 series instead of one"),
        ({"Rows": 9}, "unsupported_image", "slices of different sizes"),
    ],
)
def test_what_is_no_series_of_grey_slices_is_refused(tmp_path: Path, tags: dict[str, object], reason: str, found: str):
    files = series(tmp_path)
    edit_dicom(files[3], **tags)
    with pytest.raises(CaseError, match=found) as caught:
        read_header(source(files), "C07")
    assert caught.value.reason() == reason


def test_a_single_slice_is_refused(tmp_path: Path):
    with pytest.raises(UnsupportedImage, match="a series of a single slice"):
        read_header(source(series(tmp_path)[:1]), "C07")


def test_orientations_that_differ_in_the_seventh_decimal_are_one(tmp_path: Path):
    files = series(tmp_path)
    edit_dicom(files[3], ImageOrientationPatient=["1", "0.0000001", "0", "0", "1", "0"])
    assert read_header(source(files), "C07").geometry.shape == SHAPE


def test_no_message_tells_the_patient_or_a_uid(tmp_path: Path):
    files = series(tmp_path)
    named = files[0].rename(tmp_path / "7_1.2.840.113619.2.55.3.dcm")
    truncate(named, 0.99)
    with pytest.raises(TruncatedPixels) as caught:
        read_voxels(source([named, *files[1:]]), "C07")
    assert str(caught.value).startswith("case 'C07': '7_….dcm' has ")
    assert "Phantom" not in str(caught.value)


def test_an_odd_value_in_a_header_is_neither_logged_nor_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    files = series(tmp_path)
    uid = pydicom.dcmread(files[0]).SeriesInstanceUID.encode()
    for file in files:
        file.write_bytes(file.read_bytes().replace(uid, b"Doe^John".ljust(len(uid))))
    read_voxels(source(files), "C07")
    assert pydicom.dcmread(files[0]).SeriesInstanceUID.startswith("Doe^John")
    assert caplog.text == ""
