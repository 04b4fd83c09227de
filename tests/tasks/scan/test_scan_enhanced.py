from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage

from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.scan.errors import MissingSlice, TimeSeries, UnreadableImage
from tasks.scan.records import Source
from tasks.scan.volume import read_header, read_voxels
from tests.enhanced import write_enhanced
from tests.phantoms import affine, box, edit_dicom, oblique_affine, picture, write_dicom_series

REAL = Path(__file__).parents[3] / "../shared/data/dicom/enhanced/In"
needs_real_scans = pytest.mark.skipif(not REAL.is_dir(), reason="real DICOM scans are not part of this repository")

SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))
OTHER = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)), seed=1)
GRID = affine((1, 2, 3), "LPS", SHAPE, origin_mm=(-7, 5, 11))
MAGNITUDE, PHASE = ["ORIGINAL", "PRIMARY", "M", "NONE"], ["ORIGINAL", "PRIMARY", "P", "NONE"]


def whole(file: Path) -> Source:
    return Source(format="dicom", files=(file,))


def volumes_of(cohort: Path) -> list[np.ndarray]:
    cases = [ingest_case(found) for found in discover(cohort, None)[0]]
    assert len({case.name for case in cases}) == len(cases)
    return [read_voxels(case.image, case.name)[0] for case in cases]


def test_an_enhanced_object_gives_back_its_voxels_and_grid(tmp_path: Path):
    voxels, geometry = read_voxels(whole(write_enhanced(tmp_path / "a.dcm", [VOXELS], GRID)), "C07")
    np.testing.assert_array_equal(voxels, VOXELS[::-1, ::-1])
    np.testing.assert_allclose(geometry.affine, GRID, atol=1e-6)


def test_each_frame_has_its_own_rescale_tags(tmp_path: Path):
    kinds = [{"FrameType": MAGNITUDE, "RescaleSlope": 2, "RescaleIntercept": -9}, {"FrameType": PHASE}]
    write_enhanced(tmp_path / "a.dcm", [VOXELS, VOXELS], GRID, kinds)
    first, second = sorted(volumes_of(tmp_path), key=np.min)
    np.testing.assert_array_equal(first, VOXELS[::-1, ::-1] * 2 - 9)
    np.testing.assert_array_equal(second, VOXELS[::-1, ::-1])


def test_slices_of_one_volume_may_have_different_rescale_tags(tmp_path: Path):
    file = write_enhanced(tmp_path / "a.dcm", [VOXELS], GRID, [{"RescaleSlope": 1}])
    dataset = pydicom.dcmread(file)
    dataset.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence[0].RescaleSlope = 3
    dataset.save_as(file)
    expected = VOXELS[::-1, ::-1].copy()
    expected[:, :, 4] *= 3  # the second frame is the last slice but one
    np.testing.assert_array_equal(read_voxels(whole(file), "C07")[0], expected)


@pytest.mark.parametrize(
    "kinds",
    [
        [{"FrameType": MAGNITUDE}, {"FrameType": PHASE}],
        [{"EffectiveEchoTime": 4.9}, {"EffectiveEchoTime": 7.4}],
        [{"StackID": "1"}, {"StackID": "2"}],
    ],
)
def test_types_echoes_and_stacks_of_one_object_are_cases_of_their_own(tmp_path: Path, kinds: list[dict[str, object]]):
    write_enhanced(tmp_path / "a.dcm", [VOXELS, OTHER], GRID, kinds)
    found = volumes_of(tmp_path)
    assert len(found) == 2
    assert any(np.array_equal(one, VOXELS[::-1, ::-1]) for one in found)
    assert any(np.array_equal(one, OTHER[::-1, ::-1]) for one in found)


def test_two_echoes_of_two_types_are_four_cases(tmp_path: Path):
    kinds = [{"FrameType": kind, "EffectiveEchoTime": echo} for kind in (MAGNITUDE, PHASE) for echo in (4.9, 7.4)]
    write_enhanced(tmp_path / "a.dcm", [VOXELS, VOXELS, OTHER, OTHER], GRID, kinds)
    assert len(volumes_of(tmp_path)) == 4


def test_the_names_of_an_objects_volumes_are_the_same_each_night(tmp_path: Path):
    write_enhanced(tmp_path / "a.dcm", [VOXELS, OTHER], GRID, [{"StackID": "1"}, {"StackID": "2"}])
    names = [found.name for found in discover(tmp_path, None)[0]]
    assert names == [found.name for found in discover(tmp_path, None)[0]]


def test_times_of_one_object_are_refused_by_name(tmp_path: Path):
    file = write_enhanced(tmp_path / "a.dcm", [VOXELS, OTHER], GRID, [{}, {}])
    with pytest.raises(TimeSeries, match="a series of 2 volumes: each position holds 2 slices"):
        read_header(whole(file), "C07")


def test_a_frame_that_lacks_among_the_others_is_missed(tmp_path: Path):
    file = write_enhanced(tmp_path / "a.dcm", [VOXELS], GRID)
    dataset = pydicom.dcmread(file)
    del dataset.PerFrameFunctionalGroupsSequence[2]
    dataset.NumberOfFrames = 5
    dataset.save_as(file)
    with pytest.raises(MissingSlice, match="1 slice missing"):
        read_header(whole(file), "C07")


def test_fewer_headers_than_frames_are_unreadable(tmp_path: Path):
    file = write_enhanced(tmp_path / "a.dcm", [VOXELS], GRID)
    dataset = pydicom.dcmread(file)
    dataset.NumberOfFrames = 7
    dataset.save_as(file)
    with pytest.raises(UnreadableImage, match=r"'a\.dcm' cannot be read"):
        read_header(whole(file), "C07")


def test_two_objects_of_one_series_are_one_volume_where_their_slices_are(tmp_path: Path):
    lower, upper = GRID.copy(), GRID.copy()
    upper[:, 3] = GRID @ (0, 0, 3, 1)
    files = (
        write_enhanced(tmp_path / "upper.dcm", [VOXELS[:, :, 3:]], upper),
        write_enhanced(tmp_path / "lower.dcm", [VOXELS[:, :, :3]], lower),
    )
    voxels, geometry = read_voxels(Source(format="dicom", files=files), "C07")
    np.testing.assert_array_equal(voxels, VOXELS[::-1, ::-1])
    np.testing.assert_allclose(geometry.affine, GRID, atol=1e-6)


@needs_real_scans
def test_a_real_object_of_magnitude_and_field_map_is_two_cases_on_one_grid():
    cases = [ingest_case(found) for found in discover(REAL / "Philips", None)[0]]
    assert [case.geometry.shape for case in cases] == [(64, 64, 32)] * 2
    assert cases[0].geometry.affine == cases[1].geometry.affine
    field_map, magnitude = sorted((read_voxels(case.image, case.name)[0] for case in cases), key=np.min)
    assert field_map.min() == pytest.approx(-500, abs=5)  # Hz: slope 0.2442, intercept -500
    assert magnitude.min() == 0


@needs_real_scans
def test_four_real_objects_at_the_same_positions_are_a_time_series():
    ((found,), _) = discover(REAL / "Siemens", None)
    with pytest.raises(TimeSeries, match="a series of 4 volumes"):
        ingest_case(found)


@needs_real_scans
def test_one_of_them_is_a_volume():
    header = read_header(whole(REAL / "Siemens/XA10/6_1.dcm"), "C07")
    assert header.geometry.shape == (64, 64, 6)
    assert header.geometry.spacing_mm == pytest.approx((3.375, 3.375, 2.4))


def test_an_object_that_highdicom_made_of_a_series_is_that_series(tmp_path: Path):
    files = write_dicom_series(tmp_path / "series", VOXELS, oblique_affine((1, 1.5, 2)))
    for file in files:
        edit_dicom(file, **dict.fromkeys(("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "PatientSex"), ""))
    slices = [pydicom.dcmread(file) for file in files]
    made = LegacyConvertedEnhancedCTImage(slices, "1.2.3.4", 9, "1.2.3.5", 1)
    (tmp_path / "object").mkdir()
    made.save_as(tmp_path / "object" / "a")
    cases = [ingest_case(found) for found in discover(tmp_path, None)[0]]
    (first, grid), (second, other_grid) = (read_voxels(case.image, "") for case in cases)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(grid.affine, other_grid.affine)
