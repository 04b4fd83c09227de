from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from tasks.scan.errors import EmptyImage, GridMismatch, UnknownLabel
from tasks.scan.nifti import _GEOMETRY_FIELDS
from tasks.scan.records import Case, Source
from tasks.scan.volume import read_header, read_labels, read_voxels, write_mask
from tests.phantoms import affine, box, oblique_affine, picture, write_dicom_series, write_nifti

SHAPE = (4, 5, 6)
LABELS = box(SHAPE, (1, 1, 1), (2, 3, 4), label=3)
GRID = affine((1, 2, 3), "RAS", SHAPE, origin_mm=(-7, 5, 11))


def source(file: Path) -> Source:
    return Source(format="nifti", files=(file,))


def nifti_case(folder: Path, grid: np.ndarray = GRID, shape: tuple[int, int, int] = SHAPE) -> Case:
    file = write_nifti(folder / "scan.nii.gz", picture(np.zeros(shape, np.uint8)), grid)
    return Case(name="C07", image=source(file), geometry=read_header(source(file), "C07").geometry)


def test_a_constant_image_is_empty(tmp_path: Path):
    with pytest.raises(EmptyImage, match="every voxel has the value 7"):
        read_voxels(source(write_nifti(tmp_path / "a.nii", np.full(SHAPE, 7, np.int16))), "C07")


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_of_any_number_type_are_read(tmp_path: Path, kind: type):
    file = write_nifti(tmp_path / "a.nii.gz", LABELS.astype(kind), GRID)
    labels = read_labels(source(file), nifti_case(tmp_path).geometry, "C07")
    np.testing.assert_array_equal(labels, LABELS)
    assert labels.dtype == np.uint16


def test_a_reference_stored_in_another_order_of_axes_is_the_same_reference(tmp_path: Path):
    stored = LABELS[::-1].transpose(2, 0, 1)
    file = write_nifti(tmp_path / "a.nii.gz", stored, affine((3, 1, 2), "SLA", stored.shape, origin_mm=(-7, 5, 11)))
    np.testing.assert_array_equal(read_labels(source(file), nifti_case(tmp_path).geometry, "C07"), LABELS)


def test_a_reference_moved_by_a_hundredth_of_a_millimetre_is_refused(tmp_path: Path):
    moved = affine((1, 2, 3), "RAS", SHAPE, origin_mm=(-7, 5, 11.01))
    with pytest.raises(GridMismatch, match=r"a corner is 0\.01 mm apart"):
        read_labels(source(write_nifti(tmp_path / "a.nii", LABELS, moved)), nifti_case(tmp_path).geometry, "C07")


def test_a_reference_with_a_slice_less_is_refused(tmp_path: Path):
    file = write_nifti(tmp_path / "a.nii", LABELS[:, :, 1:], GRID)
    with pytest.raises(GridMismatch, match=r"image \(4, 5, 6\) and reference \(4, 5, 5\) are on different grids"):
        read_labels(source(file), nifti_case(tmp_path).geometry, "C07")


@pytest.mark.parametrize("value", [0.5, -1, 65536, np.nan, np.inf])
def test_a_value_that_is_no_label_is_refused(tmp_path: Path, value: float):
    voxels = LABELS.astype(np.float32)
    voxels[0, 0, 0] = value
    with pytest.raises(UnknownLabel, match=f"the reference holds {value:g} in 1 voxels"):
        read_labels(source(write_nifti(tmp_path / "a.nii", voxels, GRID)), nifti_case(tmp_path).geometry, "C07")


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SLA"])
def test_a_mask_lies_on_the_stored_grid_for_an_independent_reader(tmp_path: Path, axes: str):
    case = nifti_case(tmp_path, affine((1, 2, 3), axes, (6, 6, 6), origin_mm=(-7, 5, 11)), (6, 6, 6))
    labels = box((6, 6, 6), (1, 2, 3), (2, 3, 4))
    write_mask(labels, case, tmp_path / "mask.nii.gz")
    mask = SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    scan = SimpleITK.ReadImage(str(case.image.files[0]))
    index = [int(i) for i in np.argwhere(SimpleITK.GetArrayFromImage(mask).transpose())[0]]
    spacing = nibabel.load(case.image.files[0]).header.get_zooms()
    right, anterior, superior = (spacing[axes.index(next(a for a in axes if a in pair))] for pair in ("RL", "AP", "SI"))
    expected_lps = (-(-7 + 1 * right), -(5 + 2 * anterior), 11 + 3 * superior)
    assert mask.TransformIndexToPhysicalPoint(index) == pytest.approx(expected_lps)
    assert scan.GetSize() == mask.GetSize()


def test_the_mask_of_an_oblique_dicom_series_lies_where_simpleitk_puts_the_series(tmp_path: Path):
    voxels = picture(np.zeros(SHAPE, np.uint8))
    files = write_dicom_series(tmp_path / "series", voxels, oblique_affine((1, 2, 3)))
    header = read_header(Source(format="dicom", files=tuple(files)), "C07")
    case = Case(name="C07", image=header.source, geometry=header.geometry)
    write_mask(LABELS, case, tmp_path / "mask.nii.gz")
    series = SimpleITK.ReadImage([str(file) for file in files])
    mask = SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    for corner in ((0, 0, 0), (3, 0, 0), (0, 4, 0), (0, 0, 5)):
        expected = series.TransformIndexToPhysicalPoint(corner)
        assert mask.TransformIndexToPhysicalPoint(corner) == pytest.approx(expected, abs=1e-4)
    assert SimpleITK.GetArrayFromImage(mask).sum() == LABELS.sum()


def test_a_mask_reads_back_as_the_labels(tmp_path: Path):
    case = nifti_case(tmp_path, affine((1, 2, 3), "PIR", (5, 6, 4)), (5, 6, 4))
    write_mask(LABELS, case, tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_labels(source(tmp_path / "mask.nii.gz"), case.geometry, "C07"), LABELS)


def test_a_mask_has_every_geometry_field_of_the_scan_and_none_of_its_text(tmp_path: Path):
    image = nibabel.Nifti1Image(picture(np.zeros(SHAPE, np.uint8)), None)
    image.set_sform(affine((1, 2, 3), "LAS", SHAPE), code=2)
    image.set_qform(oblique_affine((1, 2, 3)), code=3)
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = b"Doe^John"
    image.header["cal_max"] = 77
    nibabel.save(image, tmp_path / "scan.nii")
    header = read_header(source(tmp_path / "scan.nii"), "C07")
    write_mask(LABELS, Case(name="C07", image=header.source, geometry=header.geometry), tmp_path / "mask.nii.gz")
    before, after = nibabel.load(tmp_path / "scan.nii").header, nibabel.load(tmp_path / "mask.nii.gz").header
    for field in _GEOMETRY_FIELDS:
        np.testing.assert_array_equal(before[field], after[field])
    assert b"Doe" not in after.binaryblock
    assert (after["cal_max"], after.get_data_dtype()) == (0, np.uint8)


def test_the_mask_of_a_nifti_2_scan_is_nifti_2(tmp_path: Path):
    nibabel.save(nibabel.Nifti2Image(picture(LABELS), GRID + 1e-9), tmp_path / "scan.nii")
    header = read_header(source(tmp_path / "scan.nii"), "C07")
    write_mask(LABELS, Case(name="C07", image=header.source, geometry=header.geometry), tmp_path / "mask.nii.gz")
    assert isinstance(nibabel.load(tmp_path / "mask.nii.gz"), nibabel.Nifti2Image)


def test_the_same_mask_is_the_same_bytes_and_leaves_no_other_file(tmp_path: Path):
    case = nifti_case(tmp_path)
    (tmp_path / "out").mkdir()
    write_mask(LABELS, case, tmp_path / "out" / "a.nii.gz")
    write_mask(LABELS, case, tmp_path / "out" / "b.nii.gz")
    assert [file.name for file in sorted((tmp_path / "out").iterdir())] == ["a.nii.gz", "b.nii.gz"]
    assert (tmp_path / "out/a.nii.gz").read_bytes() == (tmp_path / "out/b.nii.gz").read_bytes()


def test_labels_of_another_shape_are_not_written(tmp_path: Path):
    with pytest.raises(ValueError, match=r"shape \(4, 5, 5\) are not on the grid \(4, 5, 6\)"):
        write_mask(LABELS[:, :, 1:], nifti_case(tmp_path), tmp_path / "mask.nii.gz")
    assert not (tmp_path / "mask.nii.gz").exists()


def test_sixteen_bit_labels_are_written_as_such(tmp_path: Path):
    write_mask(LABELS.astype(np.uint16) * 1000, nifti_case(tmp_path), tmp_path / "mask.nii.gz")
    assert np.asarray(nibabel.load(tmp_path / "mask.nii.gz").dataobj).max() == 3000
