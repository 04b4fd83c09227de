"""Several images of one scan are one case: found by layout or manifest, on one grid, refused by name otherwise."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tasks.ingest import Found
from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.ingest.ingest import choose_volume
from tasks.scan.errors import (
    CaseError,
    ChannelMismatch,
    EmptyImage,
    GridMismatch,
    UnknownSetting,
    UnreadableImage,
    UnsupportedImage,
)
from tasks.scan.records import Source, join_channels
from tasks.scan.volume import read_channels, read_voxels
from tests.phantoms import affine, box, picture, truncate, write_dicom_series, write_nifti

SHAPE = (4, 5, 6)
FIRST = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)), seed=1)
SECOND = picture(box(SHAPE, (2, 2, 2), (4, 4, 4)), seed=2)


def nnunet(folder: Path, *files: str, channels: int = 2) -> list[Found]:
    for name in files:
        write_nifti(folder / name, SECOND if "_0001" in name else FIRST)
    names = {str(number): f"contrast {number}" for number in range(channels)}
    description = {"channel_names": names, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    return discover(folder, None)[0]


def voxels_of(found: Found) -> np.ndarray:
    return read_channels(ingest_case(found).image, found.name)[0]


def test_the_channels_of_nnunet_are_one_case_in_the_order_of_their_numbers(tmp_path: Path):
    files = ("imagesTr/a_0001.nii.gz", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    (case,) = nnunet(tmp_path, *files)
    assert (case.name, case.reference is not None) == ("a", True)
    assert [file.name for file in case.image.files] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    np.testing.assert_array_equal(voxels_of(case), [FIRST, SECOND])


def test_a_folder_of_test_images_alone_is_nnunets_too(tmp_path: Path):
    (case,) = nnunet(tmp_path, "imagesTs/a_0000.nii.gz", "imagesTs/a_0001.nii.gz")
    np.testing.assert_array_equal(voxels_of(case), [FIRST, SECOND])


def test_the_first_nnunets_names_without_its_keys_are_recognised(tmp_path: Path):
    nnunet(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz")
    (tmp_path / "dataset.json").write_text('{"modality": {"0": "T1", "1": "T2"}, "training": []}')
    ((case,), _) = discover(tmp_path, None)
    np.testing.assert_array_equal(voxels_of(case), [FIRST, SECOND])


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (("a_0000.nii.gz",), "the channel 0000; needed: 0000, 0001, each once"),
        (("a_0001.nii.gz",), "the channel 0001; needed: 0000, 0001, each once"),
        (("a_0000.nii.gz", "a_0002.nii.gz"), "the channels 0000, 0002; needed: 0000, 0001, each once"),
        (("a_0000.nii.gz", "a_0000.nii", "a_0001.nii.gz"), "the channels 0000, 0000, 0001; needed: 0000, 0001"),
    ],
)
def test_an_nnunet_case_of_other_channels_than_the_data_set_is_one_case_and_refused(tmp_path: Path, files, found):
    (case,) = nnunet(tmp_path, *(f"imagesTr/{file}" for file in files))
    with pytest.raises(ChannelMismatch, match=f"case 'a': {found}"):
        ingest_case(case)


def decathlon(folder: Path, voxels: np.ndarray, modalities: int = 2) -> Found:
    write_nifti(folder / "imagesTr" / "a.nii.gz", voxels)
    names = {str(number): f"contrast {number}" for number in range(modalities)}
    training = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    (folder / "dataset.json").write_text(json.dumps({"modality": names, "training": training}))
    ((case,), _) = discover(folder, None)
    return case


def test_the_volumes_of_a_decathlon_file_are_its_channels(tmp_path: Path):
    case = decathlon(tmp_path, np.stack([FIRST, SECOND], axis=-1))
    assert case.image.files == (tmp_path / "imagesTr" / "a.nii.gz",)
    np.testing.assert_array_equal(voxels_of(case), [FIRST, SECOND])


@pytest.mark.parametrize(
    ("volumes", "found"),
    [([FIRST] * 3, "a file of 3 volumes; needed: 2"), ([FIRST], "a file of 1 volume; needed: 2")],
)
def test_a_decathlon_file_of_another_number_of_volumes_is_refused(tmp_path: Path, volumes, found):
    with pytest.raises(ChannelMismatch, match=found):
        ingest_case(decathlon(tmp_path, np.stack(volumes, axis=-1)))


def test_a_decathlon_file_that_lacks_its_last_volume_is_not_filled_up(tmp_path: Path):
    case = decathlon(tmp_path, np.stack([FIRST, SECOND], axis=-1))
    plain = tmp_path / "imagesTr" / "b.nii"
    nibabel.save(nibabel.load(case.image.files[0]), plain)
    truncate(plain, 0.75)
    first = Source(format="nifti", files=(plain,), volume=0)
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        read_voxels(first, "a")


def manifest(folder: Path, *lines: str) -> Found:
    (folder / "cohort.csv").write_text("\n".join(lines), encoding="utf-8")
    ((case,), _) = discover(folder / "cohort.csv", None)
    return case


def test_a_manifest_names_further_channels_in_columns_of_their_own(tmp_path: Path):
    write_nifti(tmp_path / "t1.nii.gz", FIRST)
    write_nifti(tmp_path / "t2.nii.gz", SECOND)
    case = manifest(tmp_path, "case,image,site,image_2", "C07,t1.nii.gz,Calgary,t2.nii.gz")
    assert case.groups == {"site": "Calgary"}
    np.testing.assert_array_equal(voxels_of(case), [FIRST, SECOND])


def test_channels_may_be_of_different_formats_and_orders_of_axes(tmp_path: Path):
    grid = affine((1, 2, 3), "LPS", SHAPE)
    write_dicom_series(tmp_path / "t1", FIRST, grid)
    write_nifti(tmp_path / "t2.nii.gz", SECOND[::-1, ::-1], affine((1, 2, 3), "RAS", SHAPE))
    case = manifest(tmp_path, "case,image,image_2", "C07,t1,t2.nii.gz")
    np.testing.assert_array_equal(voxels_of(case), [FIRST[::-1, ::-1], SECOND[::-1, ::-1]])


def test_a_case_of_a_manifest_may_have_one_channel_where_others_have_two(tmp_path: Path):
    write_nifti(tmp_path / "t1.nii.gz", FIRST)
    case = manifest(tmp_path, "case,image,image_2", "C07,t1.nii.gz,")
    assert ingest_case(case).image.channels == (case.image,)


def test_a_gap_in_the_channels_of_a_manifest_is_refused(tmp_path: Path):
    write_nifti(tmp_path / "t1.nii.gz", FIRST)
    case = manifest(tmp_path, "case,image,image_2,image_3", "C07,t1.nii.gz,,t1.nii.gz")
    with pytest.raises(ChannelMismatch, match="the channels image, image_3; needed: image, image_2, each once"):
        ingest_case(case)


@pytest.mark.parametrize("header", ["case,image,image2", "case,image,image_1", "case,image,image"])
def test_a_manifest_whose_further_channels_cannot_be_told_is_refused(tmp_path: Path, header: str):
    with pytest.raises(UnknownSetting, match="image_2, image_3 …, each once"):
        manifest(tmp_path, header, "C07,1.nii.gz,2.nii.gz")


@pytest.mark.parametrize(
    ("second", "grid", "found"),
    [
        (SECOND[:, :, :5], affine(), r"image \(4, 5, 6\) and channel \(4, 5, 5\) are on different grids"),
        (SECOND, affine(origin_mm=(0, 0, 0.5)), "a corner is 0.5 mm apart; needed: one grid; resample the other"),
    ],
)
def test_channels_on_different_grids_are_refused(tmp_path: Path, second, grid, found):
    write_nifti(tmp_path / "t1.nii.gz", FIRST, affine())
    write_nifti(tmp_path / "t2.nii.gz", second, grid)
    with pytest.raises(GridMismatch, match=found):
        ingest_case(manifest(tmp_path, "case,image,image_2", "C07,t1.nii.gz,t2.nii.gz"))


def test_channels_may_lie_a_hundredth_of_a_voxel_apart(tmp_path: Path):
    write_nifti(tmp_path / "t1.nii.gz", FIRST, affine((2, 1, 3)))
    for apart_mm, name in ((0.009, "near"), (0.011, "far")):
        write_nifti(tmp_path / f"{name}.nii.gz", SECOND, affine((2, 1, 3), origin_mm=(0, 0, apart_mm)))
    near = manifest(tmp_path, "case,image,image_2", "C07,t1.nii.gz,near.nii.gz")
    np.testing.assert_array_equal(voxels_of(near), [FIRST, SECOND])
    assert ingest_case(near).geometry.affine[2][3] == 0
    with pytest.raises(GridMismatch, match="image and channel are on different grids: a corner is 0.011 mm apart"):
        ingest_case(manifest(tmp_path, "case,image,image_2", "C07,t1.nii.gz,far.nii.gz"))


@pytest.mark.parametrize(
    ("second", "error"), [(np.full(SHAPE, 7, np.int16), EmptyImage), (None, UnreadableImage)], ids=["empty", "missing"]
)
def test_one_bad_channel_costs_the_case(tmp_path: Path, second, error: type[CaseError]):
    write_nifti(tmp_path / "t1.nii.gz", FIRST)
    if second is not None:
        write_nifti(tmp_path / "t2.nii.gz", second)
    with pytest.raises(error, match="case 'C07'"):
        voxels_of(manifest(tmp_path, "case,image,image_2", "C07,t1.nii.gz,t2.nii.gz"))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_one_volume_of_several_is_read_where_that_is_asked(tmp_path: Path, name: str):
    file = write_nifti(tmp_path / name, np.stack([FIRST, SECOND, FIRST], axis=-1))
    case = Found(name="a", image=Source(format="nifti", files=(file,)))
    with pytest.raises(UnsupportedImage, match="4 × 5 × 6 × 3 voxels.*name it with the setting ingest.volume"):
        ingest_case(case)
    np.testing.assert_array_equal(voxels_of(choose_volume(case, 1)), [SECOND])
    with pytest.raises(UnsupportedImage, match="a file of 3 volumes, of which number 3, counted from 0, was asked for"):
        ingest_case(choose_volume(case, 3))


def test_asking_for_a_volume_changes_nothing_where_there_is_one(tmp_path: Path):
    file = write_nifti(tmp_path / "a.nii", FIRST)
    case = choose_volume(Found(name="a", image=Source(format="nifti", files=(file,))), 5)
    np.testing.assert_array_equal(voxels_of(case), [FIRST])


def test_one_channel_is_no_list_of_channels(tmp_path: Path):
    source = Source(format="nifti", files=(tmp_path / "a.nii",))
    assert join_channels([source]) == source
    with pytest.raises(ValueError, match="several channels have a part each"):
        Source(format="channels", files=(tmp_path / "a.nii",), parts=(source,))
