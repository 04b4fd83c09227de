from itertools import product

import numpy as np
import pydicom
import pytest
import SimpleITK

from tasks.demo.dicom_series import Patient, write_series
from tasks.scan.geometry import as_affine
from tasks.scan.records import Geometry
from tests.phantoms import affine, oblique_affine

SHAPE = (4, 5, 6)
VOXELS = np.random.default_rng(0).uniform(0, 900, SHAPE).astype(np.float32)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
GRIDS = {
    "axial": affine((1, 1.5, 4), "LPS", SHAPE, origin_mm=(-70.25, 5, 11)),
    "sagittal": affine((1, 1.5, 2), "PIR", SHAPE, origin_mm=(-70.25, 5, 11)),
    "coronal": affine((1, 1.5, 3), "LIP", SHAPE, origin_mm=(-70.25, 5, 11)),
    "oblique": oblique_affine((1, 1.5, 4), degrees=12),
}


def write(folder, grid="axial", identifier="7"):
    geometry = Geometry(shape=SHAPE, affine=as_affine(GRIDS[grid]))
    return write_series(folder, VOXELS, geometry, Patient(name="Canary^Neverprint", identifier=identifier))


def read_with_simpleitk(folder) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    (series,) = reader.GetGDCMSeriesIDs(str(folder))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
    return reader.Execute()


@pytest.mark.parametrize("grid", GRIDS)
def test_another_reader_finds_every_corner_where_the_affine_puts_it(tmp_path, grid):
    write(tmp_path, grid)
    image = read_with_simpleitk(tmp_path)
    assert image.GetSize() == SHAPE
    for corner in product((0, 3), (0, 4), (0, 5)):
        expected_mm = (LPS @ GRIDS[grid] @ [*corner, 1])[:3]
        assert image.TransformIndexToPhysicalPoint(corner) == pytest.approx(expected_mm, abs=1e-3)


@pytest.mark.parametrize("grid", GRIDS)
def test_another_reader_finds_every_voxel_value(tmp_path, grid):
    write(tmp_path, grid)
    array = SimpleITK.GetArrayFromImage(read_with_simpleitk(tmp_path))  # (slice, row, column)
    assert array.transpose() == pytest.approx(VOXELS, abs=0.25)


def test_values_are_kept_with_a_slope_and_an_intercept(tmp_path):
    dataset = pydicom.dcmread(write(tmp_path)[2])
    assert (dataset.RescaleSlope, dataset.RescaleIntercept) == (0.5, -20)
    assert dataset.pixel_array[4, 3] * 0.5 - 20 == pytest.approx(VOXELS[3, 4, 2], abs=0.25)


def test_slices_share_one_series_and_have_an_identity_each(tmp_path):
    datasets = [pydicom.dcmread(file) for file in write(tmp_path)]
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 1
    assert len({dataset.StudyInstanceUID for dataset in datasets}) == 1
    assert len({dataset.FrameOfReferenceUID for dataset in datasets}) == 1
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 6
    assert [dataset.InstanceNumber for dataset in datasets] == [1, 2, 3, 4, 5, 6]


def test_two_patients_share_no_identity(tmp_path):
    first, second = (pydicom.dcmread(write(tmp_path / name, identifier=name)[0]) for name in ("7", "8"))
    for tag in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
        assert first[tag].value != second[tag].value


def test_a_slice_says_what_a_magnetic_resonance_slice_must(tmp_path):
    dataset = pydicom.dcmread(write(tmp_path, "oblique")[0])
    assert (dataset.Modality, dataset.SOPClassUID.name) == ("MR", "MR Image Storage")
    assert (dataset.Rows, dataset.Columns) == (5, 4)
    assert (dataset.PixelSpacing, dataset.SliceThickness, dataset.SpacingBetweenSlices) == ([1.5, 1], 4, 4)
    assert str(dataset.PatientName) == "Canary^Neverprint"


def test_the_same_series_has_the_same_bytes(tmp_path):
    first, second = write(tmp_path / "first"), write(tmp_path / "second")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
