from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from tasks.scan.errors import NonFiniteVoxels, TruncatedPixels, UnsupportedImage
from tasks.scan.frames import read_frames
from tasks.scan.pixels import read_pixels
from tasks.scan.records import Source
from tasks.scan.volume import read_voxels
from tests.phantoms import affine, box, edit_dicom, picture, write_dicom_series

SYNTAXES = Path(__file__).parents[3] / "../shared/data/dicom/transfer_syntaxes/In"
needs_real_scans = pytest.mark.skipif(not SYNTAXES.is_dir(), reason="real DICOM scans are not part of this repository")

SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))
STORED_AS_RAS = VOXELS[::-1, ::-1]  # the phantom is stored along L and P


def read(files: list[Path]) -> np.ndarray:
    return read_voxels(Source(format="dicom", files=tuple(files)), "C07")[0]


def series(folder: Path, voxels: np.ndarray = VOXELS, **tags: object) -> list[Path]:
    return write_dicom_series(folder, voxels, affine((1, 2, 3), "LPS", SHAPE, origin_mm=(-7, 5, 11)), tags=tags)


@needs_real_scans
@pytest.mark.parametrize("number", range(1, 10))
def test_each_of_nine_files_in_several_transfer_syntaxes_holds_one_picture(number: int):
    uncompressed = pydicom.dcmread(SYNTAXES / "1.dcm")
    expected = np.frombuffer(uncompressed.PixelData, "<u2").reshape(384, 384)
    pixels = read_pixels(read_frames(SYNTAXES / f"{number}.dcm", "C07"), "C07")
    assert (uncompressed.RescaleSlope, uncompressed.RescaleIntercept) == (1, 0) if "RescaleSlope" in uncompressed else 1
    np.testing.assert_array_equal(pixels[:, :, 0], expected.T)


@needs_real_scans
@pytest.mark.parametrize("number", range(1, 10))
@pytest.mark.parametrize("fraction", [0.5, 0.99])
def test_a_slice_cut_short_is_named_so_in_each_transfer_syntax(tmp_path: Path, number: int, fraction: float):
    content = (SYNTAXES / f"{number}.dcm").read_bytes()
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(TruncatedPixels, match="'….dcm' (has|ends before)"):
        read_pixels(read_frames(cut, "C07"), "C07")


@pytest.mark.parametrize(
    ("syntax", "plugin"),
    [
        ("1.2.840.10008.1.2.5", "pydicom"),  # RLE
        ("1.2.840.10008.1.2.4.50", "pylibjpeg"),  # JPEG baseline
        ("1.2.840.10008.1.2.4.51", "pylibjpeg"),  # JPEG extended
        ("1.2.840.10008.1.2.4.57", "pylibjpeg"),  # JPEG lossless
        ("1.2.840.10008.1.2.4.70", "pylibjpeg"),  # JPEG lossless, first order
        ("1.2.840.10008.1.2.4.80", "pylibjpeg"),  # JPEG-LS lossless
        ("1.2.840.10008.1.2.4.81", "pylibjpeg"),  # JPEG-LS near lossless
        ("1.2.840.10008.1.2.4.90", "pylibjpeg"),  # JPEG 2000 lossless
        ("1.2.840.10008.1.2.4.91", "pylibjpeg"),  # JPEG 2000
        ("1.2.840.10008.1.2.4.201", "pylibjpeg"),  # high-throughput JPEG 2000 lossless
    ],
)
def test_each_compressed_transfer_syntax_has_its_plugin(syntax: str, plugin: str):
    assert plugin in get_decoder(UID(syntax)).available_plugins


def test_pixels_of_files_without_a_preamble_are_read(tmp_path: Path):
    files = series(tmp_path)
    for file in files:
        body = file.read_bytes().split(b"DICM", 1)[1]
        file.write_bytes(body[body.index(b"\x08\0\x08\0CS") :])
    np.testing.assert_array_equal(read(files), STORED_AS_RAS)


def test_the_rescale_tags_of_each_slice_count(tmp_path: Path):
    files = series(tmp_path)
    edit_dicom(files[1], RescaleSlope="2", RescaleIntercept="-100")
    expected = STORED_AS_RAS.astype(np.float32)
    expected[:, :, 1] = expected[:, :, 1] * 2 - 100
    np.testing.assert_array_equal(read(files), expected)


def test_empty_rescale_tags_change_nothing(tmp_path: Path):
    np.testing.assert_array_equal(read(series(tmp_path, RescaleSlope="", RescaleIntercept=None)), STORED_AS_RAS)


def test_monochrome1_is_inverted_within_its_bits(tmp_path: Path):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}
    np.testing.assert_array_equal(read(series(tmp_path, **tags)), 4095 - STORED_AS_RAS.astype(int))


def test_signed_monochrome1_is_inverted_about_minus_one_half(tmp_path: Path):
    files = series(tmp_path, VOXELS - 50, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(files), 49 - STORED_AS_RAS)


def test_unsigned_pixels_above_the_signed_range_stay_positive(tmp_path: Path):
    high = VOXELS.copy()
    high[0, 0, 0] = -1
    assert read(series(tmp_path, high, PixelRepresentation=0)).max() == 65535


def test_padding_becomes_the_lowest_real_value(tmp_path: Path):
    padded = VOXELS.copy()
    padded[0] = -2000
    voxels = read(series(tmp_path, padded, PixelPaddingValue=-2000))
    np.testing.assert_array_equal(voxels[-1], np.full((5, 6), VOXELS[1:].min()))
    np.testing.assert_array_equal(voxels[:-1], STORED_AS_RAS[:-1])


def test_padding_written_without_its_sign_is_padding_all_the_same(tmp_path: Path):
    padded = VOXELS.copy()
    padded[0] = -2000
    files = series(tmp_path, padded)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.add_new("PixelPaddingValue", "US", 63536)
        dataset.save_as(file)
    assert read(files).min() == VOXELS[1:].min()


def test_a_range_of_padding_is_padding_and_its_rescaled_values_do_not_count(tmp_path: Path):
    padded = VOXELS.copy()
    padded[0], padded[1] = -2000, -1990
    tags = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990, "RescaleIntercept": "-1024"}
    assert read(series(tmp_path, padded, **tags)).min() == VOXELS[2:].min() - 1024


def test_bits_above_those_stored_are_cleared(tmp_path: Path):
    pixels = np.full(SHAPE, 0x0FFF, np.uint16).view(np.int16)
    pixels[0] = np.uint16(0xF005).view(np.int16)
    voxels = read(series(tmp_path, pixels, BitsStored=12, HighBit=11, PixelRepresentation=1))
    assert np.unique(voxels).tolist() == [-1, 5]


def test_values_from_a_table_are_refused(tmp_path: Path):
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [1, 0, 16], [7]
    with pytest.raises(UnsupportedImage, match="looked up in a table"):
        read(series(tmp_path, ModalityLUTSequence=[table]))


def test_a_stored_nan_is_not_taken_for_padding(tmp_path: Path):
    files = series(tmp_path)
    for file in files:
        dataset = pydicom.dcmread(file)
        pixels = np.frombuffer(dataset.PixelData, "<i2").astype("<f4")
        pixels[3] = np.nan
        del dataset.PixelData
        dataset.BitsAllocated, dataset.FloatPixelData = 32, pixels.tobytes()
        dataset.save_as(file)
    with pytest.raises(NonFiniteVoxels, match="6 of 120 voxels"):
        read(files)
