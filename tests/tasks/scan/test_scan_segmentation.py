from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from tasks.scan.errors import (
    ForeignReference,
    GridMismatch,
    OverlappingSegments,
    TruncatedPixels,
    UnsupportedImage,
    UnusableGeometry,
)
from tasks.scan.records import Source
from tasks.scan.volume import read_header, read_label_values, read_labels
from tests.enhanced import write_segmentation
from tests.phantoms import affine, box, oblique_affine, picture, truncate, write_dicom_series, write_nifti

REAL = Path(__file__).parents[3] / "../shared/data/seg"
needs_real_scans = pytest.mark.skipif(not REAL.is_dir(), reason="real DICOM scans are not part of this repository")

SHAPE = (4, 5, 6)
GRID = affine((1, 2, 3), "LPS", SHAPE, origin_mm=(-7, 5, 11))
ONE, TWO = box(SHAPE, (0, 1, 1), (3, 3, 3)), box(SHAPE, (1, 3, 2), (4, 5, 5))
BOTH = ONE + 2 * TWO


def series(folder: Path, grid: np.ndarray = GRID, name: str = "one") -> list[Path]:
    return write_dicom_series(folder, picture(BOTH), grid, name)


def dicom(*files: Path) -> Source:
    return Source(format="dicom", files=files)


def read(file: Path, image: Source) -> np.ndarray:
    return read_labels(dicom(file), read_header(image, "C07").geometry, "C07", image)


def edit(file: Path, **tags: object) -> Path:
    dataset = pydicom.dcmread(file)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(file)
    return file


def test_two_segments_are_two_labels_in_the_voxels_of_the_scan(tmp_path: Path):
    files = series(tmp_path / "scan")
    file = write_segmentation(tmp_path / "seg.dcm", files, {1: ONE, 2: TWO})
    assert pydicom.dcmread(file).NumberOfFrames == 5  # of 12: those without a voxel are left out
    np.testing.assert_array_equal(read(file, dicom(*files)), BOTH[::-1, ::-1])


def test_an_oblique_scan_gets_its_segments_too(tmp_path: Path):
    files = write_dicom_series(tmp_path / "scan", picture(BOTH), oblique_affine((1, 2, 3)))
    file = write_segmentation(tmp_path / "seg.dcm", files, {1: ONE, 2: TWO})
    labels = read(file, dicom(*files))
    assert [int((labels == value).sum()) for value in (1, 2)] == [int(ONE.sum()), int(TWO.sum())]
    np.testing.assert_array_equal(labels, BOTH)


def test_the_same_scan_as_nifti_on_other_axes_gets_the_same_labels(tmp_path: Path):
    files = series(tmp_path / "scan")
    file = write_segmentation(tmp_path / "seg.dcm", files, {1: ONE, 2: TWO})
    turned = affine((3, 1, 2), "SRA", (6, 4, 5), origin_mm=(-7, 5, 11))
    image = Source(format="nifti", files=(write_nifti(tmp_path / "a.nii", np.zeros((6, 4, 5), np.int16), turned),))
    np.testing.assert_array_equal(read(file, image), BOTH[::-1, ::-1])


def test_a_label_map_segmentation_holds_the_numbers_themselves(tmp_path: Path):
    files = series(tmp_path / "scan")
    file = write_segmentation(tmp_path / "seg.dcm", files, {1: np.ones(SHAPE, np.uint8)})
    frames = [pydicom.dcmread(one) for one in files]
    pixels = np.concatenate([BOTH[:, :, index].T.ravel() for index in range(len(frames))])
    edit(file, SegmentationType="LABELMAP", BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=pixels.tobytes())
    edit(file, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7")
    np.testing.assert_array_equal(read(file, dicom(*files)), BOTH[::-1, ::-1])


def test_the_segments_that_are_described_are_its_values(tmp_path: Path):
    file = write_segmentation(tmp_path / "seg.dcm", series(tmp_path / "scan"), {3: ONE, 7: TWO})
    assert read_label_values(dicom(file), "C07") == {3, 7}


def test_a_segmentation_of_another_series_is_refused_by_name(tmp_path: Path):
    own, other = series(tmp_path / "a"), series(tmp_path / "b", name="two")
    file = write_segmentation(tmp_path / "seg.dcm", other, {1: ONE})
    with pytest.raises(ForeignReference, match="case 'C07': a segmentation that was made on another series"):
        read(file, dicom(*own))


def test_a_segmentation_that_names_images_but_no_series_is_known_by_them(tmp_path: Path):
    files = series(tmp_path / "scan")
    file = write_segmentation(tmp_path / "seg.dcm", files, {1: ONE})
    source = pydicom.Dataset()
    source.ReferencedSOPInstanceUID = pydicom.dcmread(files[4]).SOPInstanceUID
    derivation = pydicom.Dataset()
    derivation.SourceImageSequence = [source]
    dataset = pydicom.dcmread(file)
    del dataset.ReferencedSeriesSequence
    dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = [derivation]
    dataset.save_as(file)
    assert read(file, dicom(*files)).sum() == ONE.sum()
    source.ReferencedSOPInstanceUID = "1.2.3"
    dataset.save_as(file)
    with pytest.raises(ForeignReference):
        read(file, dicom(*files))


def test_planes_between_those_of_the_scan_are_refused_with_their_distance(tmp_path: Path):
    moved = GRID.copy()
    moved[2, 3] += 1.5
    files = series(tmp_path / "scan")
    file = write_segmentation(tmp_path / "seg.dcm", series(tmp_path / "other", moved), {1: ONE})
    with pytest.raises(GridMismatch, match=r"lies 1\.5 mm beside the image's voxels"):
        read(file, dicom(*files))


def test_planes_beyond_those_of_the_scan_are_refused(tmp_path: Path):
    files = series(tmp_path / "scan")
    file = write_segmentation(tmp_path / "seg.dcm", files, {1: TWO})
    with pytest.raises(GridMismatch, match="reaches beyond the image"):
        read(file, dicom(*files[:4]))


def test_segments_that_overlap_are_refused(tmp_path: Path):
    files = series(tmp_path / "scan")
    overlapping = TWO.copy()
    overlapping[2, 2, 2] = 1
    file = write_segmentation(tmp_path / "seg.dcm", files, {1: ONE, 2: overlapping})
    with pytest.raises(OverlappingSegments, match="1 voxels of a slice in two segments"):
        read(file, dicom(*files))


def test_fractions_are_refused(tmp_path: Path):
    files = series(tmp_path / "scan")
    file = write_segmentation(tmp_path / "seg.dcm", files, {1: ONE}, SegmentationType="FRACTIONAL")
    with pytest.raises(UnsupportedImage, match="a segmentation of fractions"):
        read(file, dicom(*files))


def test_a_segmentation_cut_short_is_refused(tmp_path: Path):
    files = series(tmp_path / "scan")
    file = truncate(write_segmentation(tmp_path / "seg.dcm", files, {1: ONE, 2: TWO}), 0.995)
    with pytest.raises(TruncatedPixels, match="of 13 bytes"):
        read(file, dicom(*files))


def test_a_frame_without_a_place_is_refused(tmp_path: Path):
    files = series(tmp_path / "scan")
    file = write_segmentation(tmp_path / "seg.dcm", files, {1: ONE})
    dataset = pydicom.dcmread(file)
    del dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    dataset.save_as(file)
    with pytest.raises(UnusableGeometry, match="a frame of the segmentation lacks its position"):
        read(file, dicom(*files))


@needs_real_scans
def test_a_real_segmentation_is_the_label_map_that_was_exported_beside_it():
    image = dicom(*sorted((REAL / "ct-3slice").iterdir()))
    labels = read(REAL / "liver.dcm", image)
    exported = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(REAL / "liver_seg.nrrd")).transpose()
    np.testing.assert_array_equal(labels, exported[::-1, ::-1])
    assert labels.sum() > 10000


@needs_real_scans
@pytest.mark.parametrize(("name", "values"), [("liver", {1}), ("heart", {3}), ("spine", {2})])
def test_real_label_maps_in_nrrd_lie_on_the_grid_of_the_real_scan(name: str, values: set[int]):
    image = dicom(*sorted((REAL / "ct-3slice").iterdir()))
    source = Source(format="itk", files=(REAL / f"{name}_seg.nrrd",))
    labels = read_labels(source, read_header(image, "C07").geometry, "C07", image)
    assert set(np.unique(labels).tolist()) - {0} == values == read_label_values(source, "C07")
