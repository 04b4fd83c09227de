"""The DICOM SEG that goes back to an archive: the same voxels in the same places, whoever reads it."""

import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest

from tasks.dicom_seg import colour
from tasks.export import export_case
from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.scan.errors import UnsupportedImage
from tasks.scan.records import Case, Scores, Segmentation, Source
from tasks.scan.volume import read_labels, read_voxels, write_mask
from tests.enhanced import write_enhanced
from tests.phantoms import affine, box, edit_dicom, oblique_affine, picture, write_dicom_series, write_nifti
from tests.tasks.report.cases import GRID

REAL = Path(__file__).parents[2] / "../shared/data/dicom"
SHAPE = (12, 10, 8)
LABELS = {2: "left part", 7: "right part", 9: "what is not there"}
needs_scans = pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not there")


def mask_of(shape):
    """Label 2 in one corner region, 7 in another, and in a single voxel: no symmetry that could hide a flip."""
    x, y, z = shape
    labels = box(shape, (1, 1, 1), (x // 2, y // 3, z // 2), 2) + box(shape, (x // 2, y // 2, z // 2), (x - 1, y, z), 7)
    labels[0, -1, 0] = 7
    return labels


def scores_of(case: Case, folder: Path, labels: np.ndarray) -> Scores:
    """A case whose mask, on RAS+ axes, holds `labels`."""
    mask = folder / f"{case.name}.nii.gz"
    write_mask(labels, case, mask)
    segmentation = Segmentation(case=case, mask=mask, mask_sha256="m", input_sha256="i", volumes_ml={})
    return Scores(segmentation=segmentation, scores=())


def exported(cohort: Path, folder: Path, number: int = 0, labels=None):
    """The case of that number in `cohort`, its label map on RAS+ axes, and its DICOM SEG."""
    case = ingest_case(discover(cohort, None)[0][number])
    voxels, grid = read_voxels(case.image, case.name)
    case = replace(case, geometry=grid)
    labels = mask_of(voxels.shape) if labels is None else labels
    scores = export_case(scores_of(case, folder, labels), LABELS, folder / "dicom")
    return case, labels, scores.segmentation.dicom_seg


def numbered(labels):
    """`labels` with the number of the segment in place of the value."""
    return np.where(labels == 2, 1, np.where(labels == 7, 2, 0))


def as_highdicom_reads(file: Path, case: Case, shape) -> np.ndarray:
    """The segments' numbers on the case's RAS+ axes, put there by the places in space that highdicom gives."""
    volume = highdicom.seg.segread(file).get_volume(combine_segments=True)
    index = np.argwhere(volume.array)
    places = np.diag([-1, -1, 1, 1]) @ volume.affine @ np.c_[index, np.ones(len(index))].T
    _, grid = read_voxels(case.image, case.name)
    stored = np.rint(np.linalg.inv(np.array(grid.affine)) @ places).astype(int)[:3]
    found = np.zeros(grid.shape, int)
    found[tuple(stored)] = volume.array[tuple(index.T)]
    return found


def check(case, labels, file):
    """Both readers find the mask: ours on RAS+ axes, highdicom's in the stored order, as the NIfTI mask has it."""
    ours = read_labels(Source(format="dicom", files=(file,)), case.geometry, case.name, case.image)
    assert (ours == numbered(labels)).all()
    mask = Source(format="nifti", files=(file.parents[1] / f"{case.name}.nii.gz",))
    assert (read_labels(mask, case.geometry, case.name) == labels).all()
    theirs = as_highdicom_reads(file, case, labels.shape)
    counts = [int((theirs == number).sum()) for number in (1, 2)]
    assert counts == [int((labels == value).sum()) for value in (2, 7)]
    stored = np.asarray(nibabel.load(mask.files[0]).dataobj)
    assert (theirs == numbered(stored)).all()


@pytest.mark.parametrize(
    "grid",
    [affine((1, 1, 3), "LPS", SHAPE), affine((1, 2, 3), "PIR", SHAPE), oblique_affine((1, 1, 3))],
    ids=["axial", "sagittal", "oblique"],
)
def test_a_series_and_its_segmentation_lie_in_the_same_place(tmp_path, grid):
    write_dicom_series(tmp_path / "in" / "a", picture(box(SHAPE, (2, 2, 2), (8, 5, 6))), grid)
    check(*exported(tmp_path / "in", tmp_path))


@needs_scans
@pytest.mark.parametrize("number", [0, 1])
def test_the_segmentation_of_a_patient_on_the_side_lies_where_the_scan_does(tmp_path, number):
    check(*exported(REAL / "decubitus", tmp_path, number))


@pytest.mark.parametrize("number", [0, 1])
def test_of_two_echoes_in_one_enhanced_object_each_has_its_own(tmp_path, number):
    (tmp_path / "in").mkdir()
    echoes = [{"EffectiveEchoTime": 4.9}, {"EffectiveEchoTime": 7.4}]
    volumes = [picture(box(SHAPE, (2, 2, 2), (8, 5, 6)), seed) for seed in (0, 1)]
    write_enhanced(tmp_path / "in" / "a.dcm", volumes, oblique_affine((1, 1, 10 / 3)), echoes)
    check(*exported(tmp_path / "in", tmp_path, number))


@needs_scans
def test_of_two_volumes_in_one_enhanced_object_each_has_its_own(tmp_path):
    cases = discover(REAL / "enhanced", None)[0]
    philips = [number for number, case in enumerate(cases) if "Philips" in case.name]
    assert len(philips) == 2
    for number in philips:
        check(*exported(REAL / "enhanced", tmp_path, number))


@pytest.fixture
def series(tmp_path):
    grid = affine((1, 1, 3), "LPS", SHAPE)
    return write_dicom_series(tmp_path / "in" / "a", picture(box(SHAPE, (2, 2, 2), (8, 5, 6))), grid)


def test_it_says_what_it_is_of_whom_and_of_what_series(tmp_path, series):
    file = exported(tmp_path / "in", tmp_path)[2]
    written, source = pydicom.dcmread(file), pydicom.dcmread(series[0])
    for tag in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert written[tag].value == source[tag].value
    assert written.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    segments = written.SegmentSequence
    assert [segment.SegmentNumber for segment in segments] == [1, 2, 3]
    assert [segment.SegmentLabel for segment in segments] == list(LABELS.values())
    assert [segment.TrackingID for segment in segments] == ["label 2", "label 7", "label 9"]
    assert len({tuple(segment.RecommendedDisplayCIELabValue) for segment in segments}) == 3
    assert colour(1) != colour(2)


def test_the_same_mask_has_the_same_identifiers_and_is_its_owners_alone(tmp_path, series):
    file = exported(tmp_path / "in", tmp_path)[2]
    first = pydicom.dcmread(file)
    second = pydicom.dcmread(exported(tmp_path / "in", tmp_path)[2])
    assert (first.SOPInstanceUID, first.SeriesInstanceUID) == (second.SOPInstanceUID, second.SeriesInstanceUID)
    assert first.SeriesInstanceUID != pydicom.dcmread(series[0]).SeriesInstanceUID
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file)] == [0o700, 0o600]


def test_a_mask_that_is_empty_and_a_scan_that_is_no_dicom_series_have_none(tmp_path, series):
    assert exported(tmp_path / "in", tmp_path, labels=np.zeros(SHAPE, np.uint8))[2] is None
    scan = write_nifti(tmp_path / "scan.nii.gz", mask_of(GRID.shape))
    case = Case(name="n", image=Source(format="nifti", files=(scan,)), geometry=GRID)
    mask = Segmentation(case=case, mask=scan, mask_sha256="m", input_sha256="i", volumes_ml={})
    assert export_case(Scores(segmentation=mask, scores=()), LABELS, tmp_path / "dicom").segmentation.dicom_seg is None
    assert not (tmp_path / "dicom").exists()


def test_a_series_that_lacks_what_a_segmentation_needs_is_refused_without_a_word_of_its_header(tmp_path, series):
    for file in series:
        edit_dicom(file, FrameOfReferenceUID=None, PatientName="CANARY^ONE")
    with pytest.raises(UnsupportedImage, match="headers that no DICOM SEG can be made for") as refused:
        exported(tmp_path / "in", tmp_path)
    assert "CANARY" not in str(refused.value)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy is not installed (apt-get install dicom3tools)")
def test_the_validator_finds_no_error(tmp_path, series):
    file = exported(tmp_path / "in", tmp_path)[2]
    said = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True, check=False).stderr
    assert [line for line in said.splitlines() if line.startswith("Error")] == []
    assert "Segmentation" in said
