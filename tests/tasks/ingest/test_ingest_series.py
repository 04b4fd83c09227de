from hashlib import sha256
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import MediaStorageDirectoryStorage, generate_uid

from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.scan.errors import DuplicateSlice, MixedOrientations, TimeSeries, UnreadableImage, UnsupportedImage
from tests.phantoms import affine, box, edit_dicom, picture, truncate, write_dicom_series

SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))
SUFFIX_ONE, SUFFIX_TWO = "-5573c219", "-70b7b940"


def write_series(folder: Path, series: str = "one", **tags: object) -> list[Path]:
    return write_dicom_series(folder, VOXELS, affine((1, 2, 3), "LPS", SHAPE), series, tags)


def names(cohort: Path) -> list[str]:
    return [case.name for case in discover(cohort, None)[0]]


def mix(folder: Path, other: Path) -> None:
    """Moves the files of `other` into `folder`, under names of their own."""
    for file in sorted(other.iterdir()):
        file.rename(folder / f"{other.name}-{file.name}")
    other.rmdir()


def test_two_series_in_a_folder_are_two_cases_with_a_suffix_of_their_own(tmp_path: Path):
    write_series(tmp_path / "a", "one")
    write_series(tmp_path / "b", "two")
    mix(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == [f"a{SUFFIX_ONE}", f"a{SUFFIX_TWO}"]
    assert [len(case.image.files) for case in discover(tmp_path, None)[0]] == [6, 6]


def test_the_suffix_does_not_change_when_a_third_series_arrives(tmp_path: Path):
    write_series(tmp_path / "a", "one")
    for other in ("two", "three"):
        write_series(tmp_path / other, other)
        mix(tmp_path / "a", tmp_path / other)
    assert {f"a{SUFFIX_ONE}", f"a{SUFFIX_TWO}"} < set(names(tmp_path))


def test_slices_need_no_extension(tmp_path: Path):
    for index, file in enumerate(write_series(tmp_path / "a")):
        file.rename(tmp_path / "a" / f"IM{index}")
    assert names(tmp_path) == ["a"]


def test_slices_need_no_preamble(tmp_path: Path):
    for index, file in enumerate(write_series(tmp_path / "a")):
        body = file.read_bytes().split(b"DICM", 1)[1]
        (tmp_path / "a" / f"IM{index}").write_bytes(body[body.index(b"\x08\0\x08\0CS") :])
        file.unlink()
    ((case,), _) = discover(tmp_path, None)
    assert ingest_case(case).geometry.shape == SHAPE


def test_raw_voxels_that_begin_like_a_tag_are_no_dicom(tmp_path: Path):
    (tmp_path / "a.raw").write_bytes(b"\x08\0\x08\0" * 500)
    ((), (item,)) = discover(tmp_path, None)
    assert item.reason == "no format of a scan"


def test_a_series_spread_over_folders_is_one_case(tmp_path: Path):
    files = write_series(tmp_path / "a" / "1")
    (tmp_path / "a" / "2").mkdir()
    for file in files[3:]:
        file.rename(tmp_path / "a" / "2" / file.name)
    ((case,), _) = discover(tmp_path, None)
    assert (case.name, len(case.image.files)) == ("a", 6)


def test_copies_of_a_series_in_two_folders_are_two_cases(tmp_path: Path):
    write_series(tmp_path / "a")
    write_series(tmp_path / "b")
    cases, _ = discover(tmp_path, None)
    assert [(case.name, len(case.image.files)) for case in cases] == [("a", 6), ("b", 6)]


def test_image_types_split_a_series_with_two_slices_at_each_position(tmp_path: Path):
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    mix(tmp_path / "a", tmp_path / "b")
    assert [ingest_case(case).geometry.shape for case in discover(tmp_path, None)[0]] == [SHAPE, SHAPE]


def test_image_types_do_not_split_a_series_with_one_slice_at_each_position(tmp_path: Path):
    files = write_series(tmp_path / "a")
    edit_dicom(files[2], ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    assert names(tmp_path) == ["a"]


def test_image_types_that_leave_a_copy_in_place_do_not_split_a_series(tmp_path: Path):
    files = write_series(tmp_path / "a")
    for name, number in (("copy", 1), ("derived", 4)):
        (tmp_path / "a" / name).write_bytes(files[number].read_bytes())
    edit_dicom(tmp_path / "a" / "derived", ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    ((case,), _) = discover(tmp_path, None)
    with pytest.raises(DuplicateSlice, match="2 of 8 slices"):
        ingest_case(case)


def test_orientations_split_a_series(tmp_path: Path):
    write_series(tmp_path / "a")
    coronal = write_dicom_series(tmp_path / "b", VOXELS, affine((1, 2, 3), "LSA", SHAPE))
    mix(tmp_path / "a", tmp_path / "b")
    cases = [ingest_case(case) for case in discover(tmp_path, None)[0]]
    assert len(coronal) == 6
    assert [case.geometry.shape for case in cases] == [SHAPE, SHAPE]
    assert len({case.name for case in cases}) == 2


def test_echoes_split_a_series_with_two_slices_at_each_position(tmp_path: Path):
    write_series(tmp_path / "a", EchoTime="4.9")
    write_series(tmp_path / "b", EchoTime="7.4")
    mix(tmp_path / "a", tmp_path / "b")
    assert [ingest_case(case).geometry.shape for case in discover(tmp_path, None)[0]] == [SHAPE, SHAPE]


def test_a_stray_image_type_does_not_split_an_echo(tmp_path: Path):
    edit_dicom(write_series(tmp_path / "a", EchoTime="4.9")[2], ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    write_series(tmp_path / "b", EchoTime="7.4")
    mix(tmp_path / "a", tmp_path / "b")
    assert [ingest_case(case).geometry.shape for case in discover(tmp_path, None)[0]] == [SHAPE, SHAPE]


def test_slices_that_all_lie_across_each_other_are_one_case_refused_by_name(tmp_path: Path):
    for number, (row, column) in enumerate((("0", "1"), ("0.6", "0.8"), ("0.8", "0.6"))):
        files = write_series(tmp_path / str(number))
        edit_dicom(files[2], ImageOrientationPatient=["1", "0", "0", "0", column, row])
        for file in files[:2] + files[3:]:
            file.unlink()
    ((case,), _) = discover(tmp_path, None)
    with pytest.raises(MixedOrientations, match="the slices are not parallel"):
        ingest_case(case)


def test_slices_that_are_nearly_parallel_are_one_case_refused_by_name(tmp_path: Path):
    for number, file in enumerate(write_series(tmp_path / "a")):
        edit_dicom(file, ImageOrientationPatient=["1", "0", "0", "0", "1", f"{(number // 2) / 200}"])
    ((case,), _) = discover(tmp_path, None)
    with pytest.raises(MixedOrientations, match="the slices are not parallel"):
        ingest_case(case)


def test_spectra_with_rows_and_columns_are_no_images(tmp_path: Path):
    write_series(tmp_path / "a", SOPClassUID="1.2.840.10008.5.1.4.1.1.4.2")
    cases, set_aside = discover(tmp_path, None)
    assert cases == []
    assert {item.reason for item in set_aside} == {"a DICOM object without an image"}


def test_a_time_series_is_one_case_that_is_refused_by_name(tmp_path: Path):
    write_series(tmp_path / "a")
    for index, file in enumerate(write_series(tmp_path / "b")):
        edit_dicom(file, SOPInstanceUID=f"1.2.{index}")
    mix(tmp_path / "a", tmp_path / "b")
    ((case,), _) = discover(tmp_path, None)
    with pytest.raises(TimeSeries, match="a series of 2 volumes"):
        ingest_case(case)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localiser: a picture to plan the scan on"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "a DICOM segmentation, not a scan"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"},
            "a radiotherapy dose, not a scan",
        ),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.9", "Rows": None},  # a volume rendering's presentation state
            "a DICOM object without an image",
        ),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3", "Rows": None}, "a DICOM object without an image"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "ImagePositionPatient": None},
            "a secondary capture without a position",
        ),
    ],
)
def test_what_is_no_scan_is_set_aside(tmp_path: Path, tags: dict[str, object], reason: str):
    write_series(tmp_path / "a")
    other = write_series(tmp_path / "b", "two")[0]
    for file in sorted((tmp_path / "b").iterdir()):
        edit_dicom(file, **tags) if file == other else file.unlink()
    cases, set_aside = discover(tmp_path, None)
    assert [case.name for case in cases] == ["a"]
    assert [(item.path, item.reason) for item in set_aside] == [(other, reason)]


def test_a_dicomdir_is_set_aside(tmp_path: Path):
    files = write_series(tmp_path / "a")
    dataset = pydicom.dcmread(files[0])
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    for name in ("SOPClassUID", "Rows", "Columns", "PixelData"):
        delattr(dataset, name)
    dataset.save_as(tmp_path / "DICOMDIR")
    cases, set_aside = discover(tmp_path, None)
    assert [case.name for case in cases] == ["a"]
    assert [(item.path.name, item.reason) for item in set_aside] == [("DICOMDIR", "a DICOM object without an image")]


def test_an_enhanced_image_is_a_case_and_refused_by_name(tmp_path: Path):
    files = write_series(tmp_path / "a", NumberOfFrames="6", SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1")
    for file in files[1:]:
        file.unlink()
    ((case,), _) = discover(tmp_path, None)
    with pytest.raises(UnsupportedImage, match="a multi-frame image of 6 frames"):
        ingest_case(case)


@pytest.mark.parametrize("fraction", [0, 0.1, 0.5])
def test_a_slice_that_cannot_be_read_makes_its_series_unreadable(tmp_path: Path, fraction: float):
    files = write_series(tmp_path / "a")
    truncate(files[-1], fraction)  # the last one: its loss would leave no gap
    ((case,), set_aside) = discover(tmp_path, None)
    assert (case.name, set_aside) == ("a", [])
    with pytest.raises(UnreadableImage, match=r"'001\.dcm'"):
        ingest_case(case)


def test_a_slice_that_cannot_be_read_beside_two_series_is_a_case_and_a_warning(tmp_path: Path):
    files = write_series(tmp_path / "a", "one")
    write_series(tmp_path / "b", "two")
    mix(tmp_path / "a", tmp_path / "b")
    truncate(files[-1], 0)
    cases, _ = discover(tmp_path, None)
    assert [case.name for case in cases] == [f"a{SUFFIX_ONE}", f"a{SUFFIX_TWO}", "a-unreadable"]
    assert cases[0].warnings == ("1 DICOM files beside this series cannot be read and may belong to it",)
    with pytest.raises(UnreadableImage, match="case 'a-unreadable'"):
        ingest_case(cases[2])


def test_a_folder_of_unreadable_slices_is_one_case(tmp_path: Path):
    for file in write_series(tmp_path / "a"):
        truncate(file, 0.1)
    assert names(tmp_path) == ["a"]


def test_the_suffixes_are_those_of_the_series_uids():
    for name, suffix in (("one", SUFFIX_ONE), ("two", SUFFIX_TWO)):
        assert sha256(generate_uid(entropy_srcs=[name]).encode()).hexdigest()[:8] == suffix[1:]
