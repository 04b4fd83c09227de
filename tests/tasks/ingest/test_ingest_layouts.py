import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tasks.ingest import Found
from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.scan.errors import UnknownSetting, UnreadableImage, UnsupportedImage
from tests.phantoms import affine, box, picture, write_dicom_series, write_nifti

REAL = Path(__file__).parents[3] / "../shared/data/hippocampus"
SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))


def manifest(folder: Path, *lines: str) -> list[Found]:
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return discover(folder / "cohort.csv", None)[0]


def test_a_manifest_names_cases_images_and_references(tmp_path: Path):
    image = write_nifti(tmp_path / "scans" / "1.nii.gz", VOXELS)
    reference = write_nifti(tmp_path / "labels" / "x.nii.gz", VOXELS)
    (case,) = manifest(tmp_path, "case,image,reference", "C07,scans/1.nii.gz,labels/x.nii.gz")
    assert case.name == "C07"
    assert case.image.files == (image,)
    assert case.reference is not None
    assert case.reference.files == (reference,)


def test_a_manifest_may_begin_with_a_mark_and_need_no_references(tmp_path: Path):
    write_nifti(tmp_path / "1.nii.gz", VOXELS)
    (case,) = manifest(tmp_path, "\ufeffcase,image", "C07,1.nii.gz")
    assert ingest_case(case).geometry.shape == SHAPE


def test_a_folder_in_a_manifest_is_the_series_in_it(tmp_path: Path):
    write_dicom_series(tmp_path / "series", VOXELS, affine((1, 2, 3), "LPS", SHAPE))
    (case,) = manifest(tmp_path, "case,image", "C07,series")
    assert ingest_case(case).geometry.shape == SHAPE


def test_a_folder_of_two_series_in_a_manifest_is_refused(tmp_path: Path):
    write_dicom_series(tmp_path / "series" / "a", VOXELS, affine((1, 2, 3), "LPS", SHAPE), "one")
    write_dicom_series(tmp_path / "series" / "b", VOXELS, affine((1, 2, 3), "LPS", SHAPE), "two")
    (case,) = manifest(tmp_path, "case,image", "C07,series")
    with pytest.raises(UnsupportedImage, match="case 'C07': a folder of 2 scans"):
        ingest_case(case)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
def test_a_folder_in_a_manifest_is_the_one_file_in_it(tmp_path: Path, name: str):
    (tmp_path / "folder").mkdir()
    kind = nibabel.Nifti1Pair if name == "a.hdr" else nibabel.Nifti1Image
    nibabel.save(kind(VOXELS, np.eye(4)), tmp_path / "folder" / name)
    (tmp_path / "folder" / "notes.txt").write_text("scanned on a Monday")
    (case,) = manifest(tmp_path, "case,image", "C07,folder")
    assert ingest_case(case).geometry.shape == SHAPE


def test_a_folder_of_two_files_in_a_manifest_is_refused(tmp_path: Path):
    for name in ("a.nii", "b.nii.gz"):
        write_nifti(tmp_path / "folder" / name, VOXELS)
    (case,) = manifest(tmp_path, "case,image", "C07,folder")
    with pytest.raises(UnsupportedImage, match="case 'C07': a folder of 2 scans"):
        ingest_case(case)


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_a_manifest_may_name_either_file_of_a_pair(tmp_path: Path, name: str):
    nibabel.save(nibabel.Nifti1Pair(VOXELS, np.eye(4)), tmp_path / "a.hdr")
    (case,) = manifest(tmp_path, "case,image", f"C07,{name}")
    assert ingest_case(case).image.files == (tmp_path / "a.hdr", tmp_path / "a.img")


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("gone.nii.gz", r"'gone\.nii\.gz' does not exist"),
        ("gone", "'gone' does not exist"),
        ("", r"'\(no image named\)' does not exist"),
        ("empty", "'empty' is a folder without a readable scan"),
        ("x" * 10_000, f"'{'x' * 99}…' has a name that is too long"),
    ],
)
def test_a_row_without_a_scan_is_a_case_that_cannot_be_read(tmp_path: Path, image: str, found: str):
    (tmp_path / "empty").mkdir()
    (case,) = manifest(tmp_path, "case,image", f"C07,{image}")
    with pytest.raises(UnreadableImage, match=f"case 'C07': {found}"):
        ingest_case(case)


def test_names_in_a_manifest_are_made_safe_and_unique(tmp_path: Path):
    cases = manifest(tmp_path, "case,image", "../a,1.nii", "../a,2.nii", "b,3.nii")
    assert [case.name[:2] for case in cases] == ["a-", "a-", "b"]
    assert len({case.name for case in cases}) == 3


@pytest.mark.parametrize("header", ["case;image", "case,picture", "name,image", "case,image,refrence", ""])
def test_a_manifest_with_other_columns_is_refused(tmp_path: Path, header: str):
    with pytest.raises(UnknownSetting, match="needed: case,image"):
        manifest(tmp_path, header, "C07,1.nii.gz")


def test_a_manifest_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "cohort.csv").write_bytes(b"case,image\nM\xfcller,1.nii\n")
    with pytest.raises(UnknownSetting, match="not CSV in UTF-8"):
        discover(tmp_path / "cohort.csv", None)


def test_further_columns_of_a_manifest_are_the_groups_of_its_cases(tmp_path: Path):
    write_nifti(tmp_path / "1.nii.gz", VOXELS)
    (case,) = manifest(tmp_path, "case,image,site,scanner", "C07,1.nii.gz,Calgary, 3T")
    assert ingest_case(case).groups == {"site": "Calgary", "scanner": "3T"}


def decathlon(folder: Path, *listed: str) -> Path:
    write_nifti(folder / "imagesTr" / "h_001.nii.gz", VOXELS)
    write_nifti(folder / "labelsTr" / "h_001.nii.gz", VOXELS)
    write_nifti(folder / "imagesTs" / "h_002.nii.gz", VOXELS)
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in listed]
    (folder / "dataset.json").write_text(json.dumps({"training": training}))
    return folder


def test_a_decathlon_folder_has_references_for_its_training_images(tmp_path: Path):
    cases, set_aside = discover(decathlon(tmp_path, "h_001.nii.gz"), None)
    assert [(case.name, case.reference is not None) for case in cases] == [("h_001", True), ("h_002", False)]
    assert set_aside == []


def test_an_image_that_the_decathlon_lists_but_lacks_is_a_case(tmp_path: Path):
    cases, _ = discover(decathlon(tmp_path, "h_001.nii.gz", "h_003.nii.gz"), None)
    with pytest.raises(UnreadableImage, match=r"case 'h_003': 'h_003\.nii\.gz' does not exist"):
        ingest_case(cases[2])


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"training": [{"image": 3}]}', '{"training": "x"}'])
def test_a_dataset_json_of_another_kind_is_refused(tmp_path: Path, text: str):
    (decathlon(tmp_path) / "dataset.json").write_text(text)
    with pytest.raises(UnknownSetting, match="does not list its training images"):
        discover(tmp_path, None)


@pytest.mark.parametrize("text", ["{", "[" * 5000, "\udcff"])
def test_a_dataset_json_that_is_no_json_is_refused(tmp_path: Path, text: str):
    (decathlon(tmp_path) / "dataset.json").write_text(text, errors="surrogateescape")
    with pytest.raises(UnknownSetting, match="is not JSON; copy or write it again"):
        discover(tmp_path, None)


@pytest.mark.skipif(not REAL.is_dir(), reason="the hippocampus data are not part of this repository")
def test_the_202_hippocampi_all_have_a_reference():
    cases, set_aside = discover(REAL, None)
    assert len(cases) == 202
    assert all(case.reference for case in cases)
    assert set_aside == []
    assert cases[0].name == "hippocampus_003"


def nnunet(folder: Path, *files: str) -> Path:
    for name in files:
        write_nifti(folder / name, VOXELS)
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**description, "numTraining": len(files)}))
    return folder


def test_an_nnunet_folder_has_a_case_for_each_channel_0000(tmp_path: Path):
    files = ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTr/b_0000.nii.gz", "imagesTs/c_0000.nii.gz")
    cases, set_aside = discover(nnunet(tmp_path, *files), None)
    assert [(case.name, case.reference is not None) for case in cases] == [("a", True), ("b", False), ("c", False)]
    assert ingest_case(cases[0]).geometry.shape == SHAPE
    assert set_aside == []


def bids(folder: Path, *files: str) -> Path:
    for name in files:
        write_nifti(folder / name, VOXELS)
    (folder / "dataset_description.json").write_text("{}")
    return folder


def test_a_bids_folder_has_a_case_for_each_anatomical_image(tmp_path: Path):
    files = ("sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
    others = ("sub-02/func/sub-02_task-rest_bold.nii.gz", "sub-02/anat/sub-02_mask.nii.gz")
    cases, set_aside = discover(bids(tmp_path, *files, *others), None)
    assert [(case.name, case.groups) for case in cases] == [
        ("sub-01_ses-a_T1w", {"subject": "01", "session": "a"}),
        ("sub-02_T1w", {"subject": "02"}),
    ]
    assert [item.code for item in set_aside] == ["label_map_beside_the_scans", "not_an_anatomical_image"]


@pytest.mark.parametrize("label", ["sub-01_dseg", "sub-01_T1w", "sub-01_T1w_seg-manual", "sub-01_T1w_label-SC_seg"])
def test_a_label_map_under_the_derivatives_of_bids_is_the_reference(tmp_path: Path, label: str):
    other = "derivatives/labels/sub-011/anat/sub-011_dseg.nii.gz"
    bids(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", f"derivatives/labels/sub-01/anat/{label}.nii.gz", other)
    ((case,), _) = discover(tmp_path, None)
    assert case.reference is not None
    assert case.reference.files[0].name == f"{label}.nii.gz"


@pytest.mark.parametrize("other", ["sub-01_T1w_seg-manual", "sub-01_dseg"])
def test_of_several_label_maps_of_bids_none_is_used(tmp_path: Path, other: str):
    labels = ("derivatives/a/sub-01_dseg.nii.gz", f"derivatives/b/{other}.nii.gz")
    ((case,), (item,)) = discover(bids(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", *labels), None)
    assert case.reference is None
    assert item.code == "several_references_of_one_case"
