import os
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.ingest.layouts import Search
from tasks.scan.errors import EmptyCohort, MissingSlice, UnknownSetting, UnreadableImage
from tests.phantoms import affine, box, picture, truncate, write_dicom_series, write_nifti

SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))


def names(cohort: Path, references: Path | None = None) -> list[str]:
    return [case.name for case in discover(cohort, references)[0]]


def reasons(cohort: Path) -> dict[str, str]:
    return {item.path.name: item.reason for item in discover(cohort, None)[1]}


def write_series(folder: Path, series: str = "one", **tags: object) -> list[Path]:
    return write_dicom_series(folder, VOXELS, affine((1, 2, 3), "LPS", SHAPE), series, tags)


def test_a_file_and_a_folder_of_slices_are_a_case_each(tmp_path: Path):
    write_nifti(tmp_path / "person-10.nii.gz", VOXELS)
    write_series(tmp_path / "person-09")
    assert names(tmp_path) == ["person-09", "person-10"]


def test_every_supported_format_is_found(tmp_path: Path):
    write_nifti(tmp_path / "a.nii", VOXELS)
    nibabel.save(nibabel.Nifti1Pair(VOXELS, np.eye(4)), tmp_path / "b.hdr")
    for name in ("c.nrrd", "d.mha", "e.nhdr", "f.mhd"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(tmp_path / name))
    cases, set_aside = discover(tmp_path, None)
    assert [(case.name, ingest_case(case).image.format) for case in cases] == [
        ("a", "nifti"), ("b", "nifti"), ("c", "itk"), ("d", "itk"), ("e", "itk"), ("f", "itk")
    ]  # fmt: skip
    assert [len(case.image.files) for case in cases] == [1, 2, 1, 1, 2, 2]
    assert set_aside == []


def test_hidden_files_and_folders_are_not_looked_at_and_that_is_said(tmp_path: Path):
    write_nifti(tmp_path / "._a.nii.gz", VOXELS)
    write_nifti(tmp_path / ".old" / "b.nii.gz", VOXELS)
    assert names(tmp_path) == []
    assert reasons(tmp_path) == {"._a.nii.gz": "a hidden file", ".old": "a hidden folder"}


def test_a_loop_of_links_ends_and_is_said(tmp_path: Path):
    write_nifti(tmp_path / "a" / "b.nii.gz", VOXELS)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert names(tmp_path) == ["a-b"]
    assert reasons(tmp_path) == {"loop": "a link to a folder that is searched already"}


def test_a_folder_outside_is_followed_through_its_link_only_where_that_is_asked(tmp_path: Path):
    write_nifti(tmp_path / "elsewhere" / "b.nii.gz", VOXELS)
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "a").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "cohort") == []
    (case,), _ = discover(tmp_path / "cohort", None, Search(follow_links=True))
    assert case.name == "a-b"


def test_other_files_are_set_aside_with_a_reason(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "scans.zip").write_text("PK")
    (tmp_path / "nothing").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path) == []
    assert reasons(tmp_path) == {
        "notes.txt": "no format of a scan",
        "scans.zip": "an archive: unpack it to have its scans segmented",
        "nothing": "empty",
        "gone": "a link that leads nowhere",
    }


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.dcm", "a.img", "a.hdr", "a.mhd"])
def test_what_looks_like_a_scan_is_a_case_even_if_it_is_empty(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    ((case,), set_aside) = discover(tmp_path, None)
    assert set_aside == []
    with pytest.raises(UnreadableImage, match=f"case '{case.name}'"):
        ingest_case(case)


def test_a_link_with_the_name_of_a_scan_that_leads_nowhere_is_a_case(tmp_path: Path):
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / "nowhere")
    ((case,), _) = discover(tmp_path, None)
    with pytest.raises(UnreadableImage, match=r"'a\.nii\.gz' does not exist"):
        ingest_case(case)


@pytest.fixture
def as_nobody():
    """An empty folder of an account that may not read everything, which this process is meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        user = os.geteuid()
        Path(name).chmod(0o777)
        os.seteuid(user or 65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("mode", [0, 0o111, 0o444])
def test_a_folder_that_may_not_be_read_or_not_be_entered_is_a_case(as_nobody: Path, mode: int):
    write_nifti(as_nobody / "good.nii.gz", VOXELS)
    write_series(as_nobody / "secret")
    (as_nobody / "secret").chmod(mode)
    cases, _ = discover(as_nobody, None)
    assert [case.name for case in cases] == ["good", "secret"]
    with pytest.raises(UnreadableImage, match="may not be read by this account"):
        ingest_case(cases[1])
    (as_nobody / "secret").chmod(0o755)


def test_files_of_unknown_kind_that_may_not_be_seen_are_set_aside(as_nobody: Path):
    (as_nobody / "secret").mkdir()
    (as_nobody / "secret" / "notes").write_text("hello")
    (as_nobody / "secret").chmod(0o444)
    (as_nobody / "x").write_text("hello")
    (as_nobody / "x").chmod(0)
    assert reasons(as_nobody) == dict.fromkeys(("notes", "x"), "may not be read by this account")
    (as_nobody / "secret").chmod(0o755)


def test_references_go_to_the_cases_of_their_name(tmp_path: Path):
    write_nifti(tmp_path / "cohort" / "a.nii.gz", VOXELS)
    write_series(tmp_path / "cohort" / "b")
    write_nifti(tmp_path / "cohort" / "c.nii.gz", VOXELS)
    reference_a = write_nifti(tmp_path / "references" / "a.nii", VOXELS)
    reference_b = write_nifti(tmp_path / "references" / "b.nii.gz", VOXELS)
    cases, set_aside = discover(tmp_path / "cohort", tmp_path / "references")
    assert [case.reference and case.reference.files for case in cases] == [(reference_a,), (reference_b,), None]
    assert set_aside == []


def test_a_reference_without_a_case_is_said(tmp_path: Path):
    write_nifti(tmp_path / "cohort" / "a.nii.gz", VOXELS)
    write_nifti(tmp_path / "references" / "A.nii.gz", VOXELS)
    _, set_aside = discover(tmp_path / "cohort", tmp_path / "references")
    assert [item.reason for item in set_aside] == [
        "references without a case of their name: 1, nor of their series, for example 'A'"
    ]


def test_two_references_of_one_name_are_used_by_none(tmp_path: Path):
    write_nifti(tmp_path / "cohort" / "a.nii.gz", VOXELS)
    write_nifti(tmp_path / "references" / "a.nii.gz", VOXELS)
    write_nifti(tmp_path / "references" / "a.nii", VOXELS)
    ((case,), (item,)) = discover(tmp_path / "cohort", tmp_path / "references")
    assert case.reference is None
    assert item.reason.startswith("references without a case of their name: 2")


def test_references_and_outputs_inside_the_cohort_are_no_cases(tmp_path: Path):
    write_nifti(tmp_path / "a.nii.gz", VOXELS)
    write_nifti(tmp_path / "references" / "a.nii.gz", VOXELS)
    write_nifti(tmp_path / "out" / "segmentations" / "a.nii.gz", VOXELS)
    cases, _ = discover(tmp_path, tmp_path / "references", Search(excluded=(tmp_path / "out",)))
    assert [case.name for case in cases] == ["a"]
    assert cases[0].reference is not None


def test_a_cohort_that_does_not_exist_stops_the_run(tmp_path: Path):
    with pytest.raises(EmptyCohort, match="does not exist"):
        discover(tmp_path / "nowhere", None)


def test_references_that_do_not_exist_stop_the_run(tmp_path: Path):
    with pytest.raises(UnknownSetting, match="are not a folder"):
        discover(tmp_path, tmp_path / "nowhere")


def test_a_case_has_its_grid_and_its_slices_in_order(tmp_path: Path):
    files = write_series(tmp_path / "a")
    case = ingest_case(discover(tmp_path, None)[0][0])
    assert case.geometry.shape == SHAPE
    assert case.geometry.spacing_mm == pytest.approx((1, 2, 3))
    assert case.image.files == tuple(files)


def test_a_case_with_a_missing_slice_is_refused_at_ingest(tmp_path: Path):
    write_series(tmp_path / "a")[2].unlink()
    with pytest.raises(MissingSlice, match="case 'a': 1 slice missing"):
        ingest_case(discover(tmp_path, None)[0][0])


def test_a_truncated_scan_passes_by_its_header(tmp_path: Path):
    truncate(write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 99, (20, 20, 20), np.int16)), 0.5)
    assert ingest_case(discover(tmp_path, None)[0][0]).geometry.shape == (20, 20, 20)
