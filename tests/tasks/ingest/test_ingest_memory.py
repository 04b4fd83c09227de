"""A second look reads only what changed, whatever has become of the memory."""

import json
import os
from pathlib import Path

import pytest

from tasks.ingest import IngestConfig, Intake
from tasks.ingest.ingest import find_cases, memory_of
from tasks.pool import PoolConfig, open_pool
from tests.enhanced import write_segmentation
from tests.phantoms import affine, box, picture, write_dicom_series, write_nifti

SHAPE = (4, 5, 6)
LABELS = box(SHAPE, (1, 1, 1), (3, 3, 3))
VOXELS = picture(LABELS)
AT_ONCE = IngestConfig(settle_seconds=0)


@pytest.fixture(scope="module")
def pool():
    with open_pool(PoolConfig(workers=1)) as address:
        yield address


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    write_nifti(tmp_path / "in" / "a.nii.gz", VOXELS, affine((1, 2, 3)))
    write_dicom_series(tmp_path / "in" / "b", VOXELS, affine((1, 2, 3), "LPS", SHAPE))
    (tmp_path / "in" / "notes.txt").write_text("hello")
    return tmp_path / "in"


def look(cohort: Path, pool: str) -> Intake:
    return find_cases(cohort, None, None, AT_ONCE, pool, cohort.parent / "state")


def entries(cohort: Path) -> dict[str, object]:
    content = json.loads(memory_of(cohort, cohort.parent / "state").read_text())
    return dict(content["entries"])


def spoil_keeping_stamps(file: Path) -> None:
    """Other bytes of the same number, with the time of change put back: whoever reads the file again notices."""
    status = file.stat()
    with file.open("r+b") as stream:
        stream.write(b"\xff" * status.st_size)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def cases(intake: Intake) -> list[object]:
    return [(outcome.name, outcome.value, outcome.problem) for outcome in intake.cases]


def test_a_second_look_gives_the_same_and_reads_no_file(cohort, pool):
    first = look(cohort, pool)
    for file in cohort.rglob("*.*"):
        if file.is_file():
            spoil_keeping_stamps(file)
    second = look(cohort, pool)
    assert [outcome.name for outcome in first.cases] == ["a", "b"]
    assert all(outcome.value for outcome in first.cases)
    assert cases(second) == cases(first)
    assert second.set_aside == first.set_aside


def test_only_what_changed_is_read_again(cohort, pool):
    look(cohort, pool)
    spoil_keeping_stamps(cohort / "b" / "001.dcm")
    write_nifti(cohort / "a.nii.gz", picture(box((7, 5, 6), (1, 1, 1), (3, 3, 3))))
    second = look(cohort, pool)
    assert second.cases[0].value.geometry.shape == (7, 5, 6)
    assert second.cases[1].value.geometry.shape == SHAPE


def test_a_case_that_was_refused_is_tried_again_when_its_file_changes(cohort, pool):
    good = (cohort / "a.nii.gz").read_bytes()
    (cohort / "a.nii.gz").write_bytes(b"nonsense")
    assert look(cohort, pool).cases[0].problem.reason == "unreadable_image"
    (cohort / "a.nii.gz").write_bytes(good)
    assert look(cohort, pool).cases[0].value.geometry.shape == SHAPE


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"entries": 3}', b"\xff\xfe", b'{"format": 0, "entries": {}}'])
def test_a_damaged_memory_is_made_anew(cohort, pool, content):
    first = look(cohort, pool)
    whole = entries(cohort)
    memory_of(cohort, cohort.parent / "state").write_bytes(content)
    assert cases(look(cohort, pool)) == cases(first)
    assert entries(cohort).keys() == whole.keys()


def test_entries_of_another_form_are_read_again(cohort, pool):
    first = look(cohort, pool)
    file = memory_of(cohort, cohort.parent / "state")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "entries": {key: {"colour": 3} for key in content["entries"]}}))
    assert cases(look(cohort, pool)) == cases(first)


def test_what_is_gone_is_forgotten(cohort, pool):
    look(cohort, pool)
    before = len(entries(cohort))
    (cohort / "notes.txt").unlink()
    look(cohort, pool)
    assert len(entries(cohort)) == before - 1


def test_the_memory_is_for_its_owner_alone(cohort, pool):
    look(cohort, pool)
    modes = {file.name[:5]: oct(file.stat().st_mode & 0o777) for file in (cohort.parent / "state").iterdir()}
    assert modes == {"heade": "0o600", "names": "0o600"}


def test_a_file_name_that_is_no_unicode_costs_nothing(cohort, pool):
    (cohort / "a.nii.gz").rename(cohort / os.fsdecode(b"\xff.nii.gz"))
    assert cases(look(cohort, pool)) == cases(look(cohort, pool))
    assert all(outcome.value for outcome in look(cohort, pool).cases)


def test_what_a_segmentation_was_made_on_is_told_by_the_pool_and_remembered(cohort, pool):
    references = cohort.parent / "references"
    references.mkdir()
    segmentation = write_segmentation(references / "x.dcm", sorted((cohort / "b").iterdir(), reverse=True), {1: LABELS})
    for _ in range(2):
        intake = find_cases(cohort, references, None, AT_ONCE, pool, cohort.parent / "state")
        assert {one.name: one.case.reference and one.case.reference.files for one in intake.cases} == {
            "a": None,
            "b": (segmentation,),
        }
        for file in (segmentation, *(cohort / "b").iterdir()):
            spoil_keeping_stamps(file)
