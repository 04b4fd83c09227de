"""Slices of one series that measured different things, each at a position of its own: nothing overlaps, and yet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.scan.errors import MissingSlice, MixedContrasts
from tasks.scan.records import Case
from tasks.scan.volume import read_voxels
from tests.phantoms import affine, box, edit_dicom, picture, write_dicom_series

SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))
MAGNITUDE = ["ORIGINAL", "PRIMARY", "M", "ND"]
TURNS = "one of 2 volumes of a series whose slices take turns along the stack"


def write_kinds(folder: Path, kinds: Sequence[dict[str, Any]]) -> list[Path]:
    """An axial series with a slice every 3 mm, the first with the tags of the first of `kinds`, and so on."""
    files = write_dicom_series(folder, VOXELS, affine((1, 2, 3), "RAS", SHAPE))
    for file, tags in zip(files, kinds, strict=True):
        edit_dicom(file, **tags)
    return files


def cases(cohort: Path) -> list[Case]:
    """From below to above."""
    found = [ingest_case(one) for one in discover(cohort, None)[0]]
    return sorted(found, key=lambda case: case.geometry.affine[2][3])


@pytest.mark.parametrize(
    "kinds",
    [
        [{"EchoTime": "4.9"}, {"EchoTime": "7.4"}],
        [{"ImageType": MAGNITUDE}, {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}],
        [{"ImageType": ["DERIVED", "PRIMARY", "WATER"]}, {"ImageType": ["DERIVED", "PRIMARY", "FAT"]}],
        [{"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}],
        [{"SeriesDescription": "before"}, {"SeriesDescription": "after"}],
        [{"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}],
    ],
    ids=["echo", "component", "type", "time", "description", "b-value"],
)
def test_contrasts_that_take_turns_are_a_volume_each(tmp_path: Path, kinds: list[dict[str, Any]]):
    write_kinds(tmp_path / "a", kinds * 3)
    first, second = cases(tmp_path)
    assert first.geometry.spacing_mm == second.geometry.spacing_mm == (1, 2, 6)
    np.testing.assert_array_equal(read_voxels(first.image, "")[0], VOXELS[:, :, ::2])
    np.testing.assert_array_equal(read_voxels(second.image, "")[0], VOXELS[:, :, 1::2])
    assert first.warnings == second.warnings == (TURNS,)


def test_ge_names_the_component_in_a_private_tag(tmp_path: Path):
    for number, file in enumerate(write_kinds(tmp_path / "a", [{}] * 6)):
        dataset = pydicom.dcmread(file)
        dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", number % 2)
        dataset.save_as(file)
    assert [case.geometry.shape for case in cases(tmp_path)] == [(4, 5, 3), (4, 5, 3)]


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({"EchoTime": "4.9"}, {"EchoTime": "7.4"}, "slices of different echo times in one stack"),
        ({"ImageType": MAGNITUDE}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, "different complex components"),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}, "different temporal positions"),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}, "different b-values"),
    ],
)
@pytest.mark.parametrize("order", [(0, 0, 0, 1, 1, 1), (0, 1, 1, 0, 1, 0), (0, 0, 0, 0, 0, 1)])
def test_contrasts_in_any_other_order_are_refused_by_name(tmp_path: Path, first, second, found: str, order):
    write_kinds(tmp_path / "a", [(first, second)[number] for number in order])
    with pytest.raises(MixedContrasts, match=found):
        cases(tmp_path)


def test_of_contrasts_that_take_turns_a_slice_is_missed(tmp_path: Path):
    write_kinds(tmp_path / "a", [{"EchoTime": "4.9"}, {"EchoTime": "7.4"}] * 3)[2].unlink()
    with pytest.raises(MissingSlice, match="1 slice missing"):
        cases(tmp_path)


def test_an_echo_time_that_jitters_is_one_echo(tmp_path: Path):
    write_kinds(tmp_path / "a", [{"EchoTime": "4.604"}, {"EchoTime": "4.605"}] * 3)
    (case,) = cases(tmp_path)
    assert (case.geometry.shape, case.warnings) == (SHAPE, ())


def test_a_stray_word_in_the_image_type_is_said(tmp_path: Path):
    write_kinds(tmp_path / "a", [{"ImageType": MAGNITUDE}] * 5 + [{"ImageType": [*MAGNITUDE, "NORM"]}])
    (case,) = cases(tmp_path)
    assert case.warnings == ("one volume has slices of 2 image types",)


def test_a_description_that_changes_on_the_way_is_said(tmp_path: Path):
    write_kinds(tmp_path / "a", [{"SeriesDescription": "before"}] * 3 + [{"SeriesDescription": "after"}] * 3)
    (case,) = cases(tmp_path)
    assert case.warnings == ("one volume has slices of 2 series descriptions",)


def test_descriptions_split_a_series_with_two_slices_at_each_position(tmp_path: Path):
    write_kinds(tmp_path / "a", [{"SeriesDescription": "before"}] * 6)
    for file in write_kinds(tmp_path / "b", [{"SeriesDescription": "after"}] * 6):
        file.rename(tmp_path / "a" / f"b{file.name}")
    assert [case.geometry.shape for case in cases(tmp_path)] == [SHAPE, SHAPE]
