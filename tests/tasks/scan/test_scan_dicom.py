from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from tasks.scan.dicom import decode_slice
from tasks.scan.errors import (
    CaseError,
    DuplicateSlice,
    MissingSlice,
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


@needs_real_scans
def test_nine_transfer_syntaxes_hold_one_picture():
    files = sorted((REAL / "transfer_syntaxes/In").iterdir())
    pictures = [decode_slice(pydicom.dcmread(file)) for file in files]
    assert len(pictures) == 9
    assert len(np.unique(pictures[0])) > 100
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


@needs_real_scans
@pytest.mark.parametrize("number", range(1, 10))
def test_a_slice_cut_short_is_unreadable_in_each_transfer_syntax(tmp_path: Path, number: int):
    content = (REAL / f"transfer_syntaxes/In/{number}.dcm").read_bytes()
    files = series(tmp_path)
    files[2].write_bytes(content[: int(len(content) * 0.9)])
    with pytest.raises(CaseError) as caught:
        read_voxels(source(files), "C07")
    assert caught.value.reason() in ("unreadable_image", "unsupported_image")


def test_a_truncated_slice_is_not_left_out(tmp_path: Path):
    files = series(tmp_path)
    truncate(files[-1], 0.99)
    with pytest.raises(UnreadableImage, match=r"case 'C07': '001\.dcm' cannot be read"):
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
    with pytest.raises(DuplicateSlice, match=r"1 of 7 slices .* 17\.00 mm"):
        read_header(source([*files, copy]), "C07")


def test_the_rescale_tags_of_each_slice_count(tmp_path: Path):
    files = series(tmp_path)
    edit_dicom(files[1], RescaleSlope="2", RescaleIntercept="-100")
    voxels, _ = read_voxels(source(files), "C07")
    expected = VOXELS[::-1, ::-1].astype(np.float32)
    expected[:, :, 1] = expected[:, :, 1] * 2 - 100
    np.testing.assert_array_equal(voxels, expected)


def test_monochrome1_is_inverted_within_its_bits(tmp_path: Path):
    files = series(tmp_path, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11, PixelRepresentation=0)
    voxels, _ = read_voxels(source(files), "C07")
    np.testing.assert_array_equal(voxels, 4095 - VOXELS[::-1, ::-1].astype(int))


def test_padding_becomes_the_lowest_real_value(tmp_path: Path):
    padded = VOXELS.copy()
    padded[0] = -2000
    files = write_dicom_series(tmp_path, padded, GRID, tags={"PixelPaddingValue": -2000})
    voxels, _ = read_voxels(source(files), "C07")
    assert voxels.min() == VOXELS[1:].min()
    np.testing.assert_array_equal(voxels[-1], np.full((5, 6), VOXELS[1:].min()))


def test_bits_above_those_stored_are_cleared():
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, 2, 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 1
    dataset.PixelData = np.array([0xF005, 0x0FFF], "<u2").tobytes()
    assert decode_slice(dataset).ravel().tolist() == [5, -1]


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_slice_that_does_not_say_where_it_is_is_refused(tmp_path: Path, tag: str):
    files = series(tmp_path)
    edit_dicom(files[3], **{tag: None})
    with pytest.raises(UnusableGeometry, match="a slice lacks its position, orientation or pixel spacing"):
        read_header(source(files), "C07")


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({"ImageOrientationPatient": ["1", "0", "0", "0", "0.8", "0.6"]}, "the slices are not parallel"),
        ({"PixelSpacing": ["2", "1.1"]}, "different pixel spacings"),
    ],
)
def test_a_slice_that_differs_from_the_others_is_refused(tmp_path: Path, tags: dict[str, list[str]], found: str):
    files = series(tmp_path)
    edit_dicom(files[3], **tags)
    with pytest.raises(UnusableGeometry, match=found):
        read_header(source(files), "C07")


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({"NumberOfFrames": "8"}, "a multi-frame image of 8 frames"),
        ({"SamplesPerPixel": 3}, "a series in colour"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]}, "mosaics"),
        ({"SeriesInstanceUID": "1.2.3"}, "2 series instead of one"),
        ({"Rows": 9}, "slices of different sizes"),
    ],
)
def test_what_is_no_series_of_grey_slices_is_refused(tmp_path: Path, tags: dict[str, object], found: str):
    files = series(tmp_path)
    edit_dicom(files[3], **tags)
    with pytest.raises(UnsupportedImage, match=found):
        read_header(source(files), "C07")


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
    with pytest.raises(UnreadableImage) as caught:
        read_voxels(source([named, *files[1:]]), "C07")
    assert str(caught.value).startswith("case 'C07': '7_….dcm' cannot be read")
    assert "Phantom" not in str(caught.value)


def test_an_odd_value_in_a_header_is_neither_logged_nor_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    files = series(tmp_path)
    uid = pydicom.dcmread(files[0]).SeriesInstanceUID.encode()
    for file in files:
        file.write_bytes(file.read_bytes().replace(uid, b"Doe^John".ljust(len(uid))))
    read_voxels(source(files), "C07")
    assert pydicom.dcmread(files[0]).SeriesInstanceUID.startswith("Doe^John")
    assert caplog.text == ""
