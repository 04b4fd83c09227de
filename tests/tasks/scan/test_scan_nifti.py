import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tasks.scan.errors import CaseError, NonFiniteVoxels, UnreadableImage, UnsupportedImage, UnusableGeometry
from tasks.scan.records import Source
from tasks.scan.volume import read_geometry, read_header, read_voxels
from tests.phantoms import affine, box, picture, truncate, write_nifti

SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))


def source(*files: Path) -> Source:
    return Source(format="nifti", files=files)


def save(path: Path, image: nibabel.spatialimages.SpatialImage) -> Source:
    nibabel.save(image, path)
    return source(path)


def test_a_file_gives_back_its_voxels_on_ras_axes(tmp_path: Path):
    file = write_nifti(tmp_path / "a.nii.gz", VOXELS[::-1, ::-1], affine((1, 2, 3), "LPS", SHAPE))
    voxels, geometry = read_voxels(source(file), "a")
    np.testing.assert_array_equal(voxels, VOXELS)
    assert voxels.dtype == np.float32
    assert geometry.shape == SHAPE
    assert geometry.spacing_mm == (1, 2, 3)


def test_scaled_voxels_are_read_as_what_they_stand_for(tmp_path: Path):
    image = nibabel.Nifti1Image(VOXELS, np.eye(4))
    image.header.set_slope_inter(2, -5)
    voxels, _ = read_voxels(save(tmp_path / "a.nii", image), "a")
    np.testing.assert_array_equal(voxels, VOXELS * 2 - 5)


def test_nifti_2_is_read(tmp_path: Path):
    voxels, _ = read_voxels(save(tmp_path / "a.nii.gz", nibabel.Nifti2Image(VOXELS, np.eye(4))), "a")
    np.testing.assert_array_equal(voxels, VOXELS)


def test_a_header_and_image_pair_is_read(tmp_path: Path):
    nibabel.save(nibabel.Nifti1Pair(VOXELS, np.eye(4)), tmp_path / "a.hdr")
    voxels, _ = read_voxels(source(tmp_path / "a.hdr", tmp_path / "a.img"), "a")
    np.testing.assert_array_equal(voxels, VOXELS)


def test_a_header_without_its_image_is_unreadable(tmp_path: Path):
    nibabel.save(nibabel.Nifti1Pair(VOXELS, np.eye(4)), tmp_path / "a.hdr")
    with pytest.raises(UnreadableImage, match=r"'a\.hdr' is a header without its \.img file"):
        read_header(source(tmp_path / "a.hdr"), "a")


def test_big_endian_is_read(tmp_path: Path):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(VOXELS.dtype)
    voxels, _ = read_voxels(save(tmp_path / "a.nii", nibabel.Nifti1Image(VOXELS, np.eye(4), header)), "a")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    np.testing.assert_array_equal(voxels, VOXELS)


def test_four_dimensions_with_one_volume_are_a_volume(tmp_path: Path):
    voxels, _ = read_voxels(save(tmp_path / "a.nii", nibabel.Nifti1Image(VOXELS[..., None], np.eye(4))), "a")
    np.testing.assert_array_equal(voxels, VOXELS)


@pytest.mark.parametrize(
    ("voxels", "found"),
    [
        (np.zeros((4, 5, 6, 2), np.int16), "an image of 4 × 5 × 6 × 2 voxels"),
        (np.zeros((4, 5, 6, 1, 3), np.float32), "an image of 4 × 5 × 6 × 1 × 3 voxels"),
        (np.zeros((4, 5), np.int16), "an image of 4 × 5 voxels"),
        (np.zeros((4, 5, 1), np.int16), r"a single slice \(4 × 5 × 1 voxels\)"),
        (np.zeros((4, 5, 6), np.complex64), "colours or complex numbers"),
        (np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colours or complex numbers"),
    ],
)
def test_what_is_not_one_volume_of_numbers_is_refused(tmp_path: Path, voxels: np.ndarray, found: str):
    with pytest.raises(UnsupportedImage, match=found):
        read_header(save(tmp_path / "a.nii", nibabel.Nifti1Image(voxels, np.eye(4))), "a")


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_truncated_file_is_unreadable(tmp_path: Path, name: str, fraction: float):
    file = truncate(write_nifti(tmp_path / name, VOXELS), fraction)
    with pytest.raises(UnreadableImage, match=f"case 'a': '{name}'"):
        read_voxels(source(file), "a")


def test_a_wrong_gzip_checksum_is_noticed(tmp_path: Path):
    file = write_nifti(tmp_path / "a.nii.gz", VOXELS)
    content = bytearray(file.read_bytes())
    content[-8] ^= 1
    file.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"'a\.nii\.gz' cannot be read"):
        read_voxels(source(file), "a")


@pytest.mark.parametrize(
    "content", [b"", b"not a scan", bytes(400), gzip.compress(b"not a scan", mtime=0), b"\x1f\x8b"]
)
def test_a_file_that_is_no_nifti_is_unreadable(tmp_path: Path, content: bytes):
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"'a\.nii\.gz'"):
        read_header(source(tmp_path / "a.nii.gz"), "a")


def test_a_missing_file_is_unreadable_and_said_to_be_missing(tmp_path: Path):
    with pytest.raises(UnreadableImage, match=r"'a\.nii\.gz' does not exist"):
        read_header(source(tmp_path / "a.nii.gz"), "a")


def test_sform_comes_before_qform_and_a_distance_is_a_warning(tmp_path: Path):
    image = nibabel.Nifti1Image(VOXELS, np.eye(4))
    image.set_sform(affine(origin_mm=(1, 2, 3)), code=1)
    image.set_qform(affine(origin_mm=(1, 2, 8)), code=1)
    header = read_header(save(tmp_path / "a.nii", image), "a")
    assert header.geometry.affine[2][3] == 3
    assert header.warnings == ("sform and qform place a corner 5.0 mm apart; the sform is used",)


def test_qform_alone_is_used(tmp_path: Path):
    image = nibabel.Nifti1Image(VOXELS, None)
    image.set_qform(affine((1, 1, 2), origin_mm=(1, 2, 8)), code=1)
    header = read_header(save(tmp_path / "a.nii", image), "a")
    assert header.geometry.affine[2] == (0, 0, 2, 8)
    assert header.warnings == ()


def test_without_sform_and_qform_there_is_no_geometry(tmp_path: Path):
    image = nibabel.Nifti1Image(VOXELS, None)
    with pytest.raises(UnusableGeometry, match="neither sform nor qform"):
        read_geometry(save(tmp_path / "a.nii", image), "a")


def test_a_spacing_of_zero_is_refused_and_not_repaired_to_1_mm(tmp_path: Path):
    image = nibabel.Nifti1Image(VOXELS, None)
    image.set_qform(np.eye(4), code=1)
    file = save(tmp_path / "a.nii", image).files[0]
    content = bytearray(file.read_bytes())
    content[80:84] = bytes(4)  # pixdim[1]
    file.write_bytes(content)
    with pytest.raises(UnusableGeometry, match="a side of 0 mm"):
        read_geometry(source(file), "a")


def test_a_sign_of_the_third_axis_that_was_left_at_zero_is_plus(tmp_path: Path):
    image = nibabel.Nifti1Image(VOXELS, None)
    image.set_qform(affine((1, 1, 2), origin_mm=(1, 2, 8)), code=1)
    file = save(tmp_path / "a.nii", image).files[0]
    content = bytearray(file.read_bytes())
    content[76:80] = bytes(4)  # pixdim[0]
    file.write_bytes(content)
    assert read_geometry(source(file), "a").affine[2] == (0, 0, 2, 8)


def test_an_offset_that_was_left_at_zero_does_not_make_voxels_of_the_header(tmp_path: Path):
    file = write_nifti(tmp_path / "a.nii", VOXELS)
    content = bytearray(file.read_bytes())
    content[108:112] = bytes(4)  # vox_offset
    file.write_bytes(content)
    np.testing.assert_array_equal(read_voxels(source(file), "a")[0], VOXELS)


def test_microns_become_millimetres_with_a_warning(tmp_path: Path):
    image = nibabel.Nifti1Image(VOXELS, affine((500, 500, 500)))
    image.header.set_xyzt_units("micron")
    header = read_header(save(tmp_path / "a.nii", image), "a")
    assert header.geometry.spacing_mm == pytest.approx((0.5, 0.5, 0.5))
    assert header.warnings == ("the header's lengths are not in mm; they were converted",)


def test_nan_voxels_are_refused_with_their_number(tmp_path: Path):
    voxels = VOXELS.astype(np.float32)
    voxels[1, 1, :2] = np.nan, np.inf
    with pytest.raises(NonFiniteVoxels, match="2 of 120 voxels are NaN or infinite"):
        read_voxels(source(write_nifti(tmp_path / "a.nii.gz", voxels)), "a")


def test_doubles_too_large_for_float32_are_refused(tmp_path: Path):
    voxels = VOXELS.astype(np.float64)
    voxels[0, 0, 0] = 1e300
    with pytest.raises(NonFiniteVoxels, match="1 of 120"):
        read_voxels(source(write_nifti(tmp_path / "a.nii.gz", voxels)), "a")


def test_an_away_file_system_is_no_fault_of_the_case(tmp_path: Path):
    file = tmp_path / "a.nii"
    file.symlink_to(
        "/proc/self/mem"
    )  # what lies at address 0 cannot be read: an input/output error, as of a lost share
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_header(source(file), "a")
    assert not isinstance(caught.value, CaseError)


@pytest.mark.parametrize("tail", [b"\x1b", b" ", b"1"])
def test_a_damaged_magic_is_no_nifti(tmp_path: Path, tail: bytes):
    file = write_nifti(tmp_path / "a.nii", VOXELS)
    content = bytearray(file.read_bytes())
    content[347:348] = tail
    file.write_bytes(content)
    with pytest.raises(UnreadableImage, match="does not begin with a NIfTI header"):
        read_header(source(file), "a")


def test_a_name_too_long_for_the_file_system_is_a_fault_of_the_case(tmp_path: Path):
    with pytest.raises(UnreadableImage, match="has a name that is too long"):
        read_header(source(tmp_path / ("a" * 300 + ".nii")), "a")
