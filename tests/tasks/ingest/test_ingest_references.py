from pathlib import Path

import pydicom
import pytest

from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.scan.errors import UnsupportedImage
from tasks.scan.volume import read_labels
from tests.enhanced import write_enhanced, write_segmentation
from tests.phantoms import affine, box, picture, truncate, write_dicom_series, write_nifti

SHAPE = (4, 5, 6)
LABELS = box(SHAPE, (1, 1, 1), (3, 3, 3))


def series(folder: Path, name: str) -> list[Path]:
    return write_dicom_series(folder, picture(LABELS), affine((1, 2, 3), "LPS", SHAPE), name)


def references(tmp_path: Path) -> dict[str, str | None]:
    cases, _ = discover(tmp_path / "cohort", tmp_path / "references")
    return {case.name: case.reference.files[0].name if case.reference else None for case in cases}


def reasons(tmp_path: Path) -> list[str]:
    return [item.reason for item in discover(tmp_path / "cohort", tmp_path / "references")[1]]


def test_a_segmentation_goes_to_the_case_it_was_made_on_whatever_its_name(tmp_path: Path):
    (tmp_path / "references").mkdir()
    first, second = series(tmp_path / "cohort/a", "one"), series(tmp_path / "cohort/b", "two")
    write_segmentation(tmp_path / "references/x.dcm", second, {1: LABELS})
    write_segmentation(tmp_path / "references/y.dcm", first, {1: LABELS})
    assert references(tmp_path) == {"a": "y.dcm", "b": "x.dcm"}
    assert reasons(tmp_path) == []


def test_a_segmentation_under_the_name_of_a_case_goes_to_it(tmp_path: Path):
    (tmp_path / "references").mkdir()
    write_nifti(tmp_path / "cohort/a.nii.gz", picture(LABELS))
    write_segmentation(tmp_path / "references/a.dcm", series(tmp_path / "elsewhere", "one"), {1: LABELS})
    assert references(tmp_path) == {"a": "a.dcm"}


def test_a_label_map_of_the_cases_name_comes_before_a_segmentation_of_its_series(tmp_path: Path):
    files = series(tmp_path / "cohort/a", "one")
    write_nifti(tmp_path / "references/a.nii.gz", LABELS)
    write_segmentation(tmp_path / "references/x.dcm", files, {1: LABELS})
    assert references(tmp_path) == {"a": "a.nii.gz"}


def test_two_segmentations_of_one_series_are_used_by_no_case_and_said(tmp_path: Path):
    (tmp_path / "references").mkdir()
    files = series(tmp_path / "cohort/a", "one")
    for name in ("x.dcm", "y.dcm"):
        write_segmentation(tmp_path / "references" / name, files, {1: LABELS})
    assert references(tmp_path) == {"a": None}
    assert reasons(tmp_path) == ["several references of one series: 2 DICOM segmentations, for example 'x'"]


def test_a_segmentation_of_a_series_that_is_not_there_is_said(tmp_path: Path):
    (tmp_path / "references").mkdir()
    series(tmp_path / "cohort/a", "one")
    write_segmentation(tmp_path / "references/x.dcm", series(tmp_path / "elsewhere", "two"), {1: LABELS})
    assert references(tmp_path) == {"a": None}
    assert reasons(tmp_path) == ["references without a case of their name: 1, nor of their series, for example 'x'"]


def test_a_segmentation_that_cannot_be_read_to_its_end_is_a_reference_of_no_case(tmp_path: Path):
    (tmp_path / "references").mkdir()
    files = series(tmp_path / "cohort/a", "one")
    file = write_segmentation(tmp_path / "references/x.dcm", files, {1: LABELS})
    dataset = pydicom.dcmread(file)
    dataset.NumberOfFrames = 99
    dataset.save_as(file)
    assert references(tmp_path) == {"a": "x.dcm"}  # what it was made on can be read; its voxels will be refused
    truncate(file, 0.3)
    assert references(tmp_path) == {"a": None}


def test_a_manifest_may_name_a_segmentation(tmp_path: Path):
    files = series(tmp_path / "a", "one")
    write_segmentation(tmp_path / "x.dcm", files, {1: LABELS})
    (tmp_path / "cohort.csv").write_text("case,image,reference\none,a,x.dcm\n")
    ((found,), _) = discover(tmp_path / "cohort.csv", None)
    case = ingest_case(found)
    assert case.reference
    labels = read_labels(case.reference, case.geometry, case.name, case.image)
    assert labels.sum() == LABELS.sum()


def test_a_manifest_that_names_a_folder_of_several_volumes_is_told_so(tmp_path: Path):
    (tmp_path / "a").mkdir()
    kinds = [{"EffectiveEchoTime": 4.9}, {"EffectiveEchoTime": 7.4}]
    write_enhanced(tmp_path / "a/x.dcm", [picture(LABELS)] * 2, affine((1, 2, 3), "LPS", SHAPE), kinds)
    (tmp_path / "cohort.csv").write_text("case,image\none,a\n")
    ((found,), _) = discover(tmp_path / "cohort.csv", None)
    with pytest.raises(UnsupportedImage, match="a folder of 2 scans"):
        ingest_case(found)


def test_a_segmentation_in_the_cohort_is_no_scan(tmp_path: Path):
    files = series(tmp_path / "cohort/a", "one")
    write_segmentation(tmp_path / "cohort/a/x.dcm", files, {1: LABELS})
    cases, (item,) = discover(tmp_path / "cohort", None)
    assert [len(case.image.files) for case in cases] == [6]
    assert item.reason == "a DICOM segmentation, not a scan"
