"""What a hospital's folder may hold besides good scans costs its own case, by name, and nothing else."""

import gzip
import json
import os
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tasks.ingest import IngestConfig, Intake
from tasks.ingest.ingest import find_cases
from tasks.pool import PoolConfig, open_pool
from tasks.scan.errors import DecompressionBomb, UnknownSetting
from tasks.scan.nifti import read_stored
from tasks.scan.records import Source
from tests.phantoms import affine, box, edit_dicom, picture, write_dicom_series, write_nifti

SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))
AT_ONCE = IngestConfig(settle_seconds=0)


@pytest.fixture(scope="module")
def pool():
    with open_pool(PoolConfig(workers=1)) as address:
        yield address


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A folder with one good scan, `good`."""
    write_nifti(tmp_path / "in" / "good.nii.gz", VOXELS)
    return tmp_path / "in"


def look(cohort: Path, pool: str, config: IngestConfig = AT_ONCE) -> Intake:
    return find_cases(cohort, None, None, config, pool, cohort.parent / "state")


def reasons(intake: Intake) -> dict[str, str]:
    return {outcome.name: outcome.problem.reason if outcome.problem else "" for outcome in intake.cases}


def header_that_claims(shape: tuple[int, ...], dtype: type = np.uint8) -> bytes:
    header = nibabel.Nifti2Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), code=1)
    return header.binaryblock + b"\0" * 4


def test_a_header_that_claims_a_million_million_voxels_is_refused_with_the_number(cohort, pool):
    (cohort / "bomb.nii").write_bytes(header_that_claims((10_000, 10_000, 10_000)))
    problem = look(cohort, pool).cases[0].problem
    assert problem.reason == "too_large"
    assert "10000 × 10000 × 10000 = 1e+12 voxels, 4e+03 GB in memory" in problem.message


def test_the_largest_scan_is_a_setting(cohort, pool):
    config = IngestConfig(settle_seconds=0, most_voxels=119)
    assert reasons(look(cohort, pool)) == {"good": ""}
    assert reasons(look(cohort, pool, config)) == {"good": "too_large"}


def test_a_gigabyte_of_zeros_in_a_megabyte_is_refused_from_its_header(cohort, pool):
    with gzip.open(cohort / "bomb.nii.gz", "wb", compresslevel=1) as stream:
        stream.write(header_that_claims((1000, 1000, 100)))
        for _ in range(100):
            stream.write(bytes(1_000_000))
    intake = look(cohort, pool)
    assert reasons(intake) == {"bomb": "decompression_bomb", "good": ""}
    assert "1e+08 voxels in a file of 0." in intake.cases[0].problem.message


def test_zeros_without_end_after_the_voxels_are_not_read_to_their_end(tmp_path):
    file = tmp_path / "a.nii.gz"
    scan = nibabel.Nifti1Image(VOXELS, np.eye(4))
    scan.set_sform(np.eye(4), code=1)
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(scan.to_bytes())
        for _ in range(70):
            stream.write(bytes(1 << 20))
    with pytest.raises(DecompressionBomb, match="goes on for more than 64 MB after its last voxel"):
        read_stored(Source(format="nifti", files=(file,)), "a")


def test_a_dicom_slice_that_claims_more_than_it_holds_is_refused(cohort, pool):
    for file in write_dicom_series(cohort / "series", VOXELS, affine((1, 1, 1))):
        edit_dicom(file, Rows=65535, Columns=20000)
    assert reasons(look(cohort, pool)) == {"good": "", "series": "too_large"}


def append_for(seconds: float, file: Path) -> threading.Thread:
    """Writes to `file` all the while, as a slow copy does."""

    def run() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with file.open("ab") as stream:
                stream.write(b"\0")
            time.sleep(0.05)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_file_that_is_still_being_written_is_quarantined_by_name(cohort, pool):
    growing = cohort / "growing.nii"
    growing.write_bytes((header_that_claims(SHAPE)) + bytes(120))
    writer = append_for(2.0, growing)
    intake = look(cohort, pool, IngestConfig(settle_seconds=1.0))
    writer.join()
    assert reasons(intake) == {"good": "", "growing": "still_being_written"}
    assert intake.cases[1].problem.remedy == "nothing, if the copy goes on: the next run takes it"
    assert reasons(look(cohort, pool)) == {"good": "", "growing": ""}


def test_one_growing_slice_holds_back_its_series(cohort, pool):
    files = write_dicom_series(cohort / "series", VOXELS, affine((1, 1, 1)))
    writer = append_for(2.0, files[2])
    intake = look(cohort, pool, IngestConfig(settle_seconds=1.0))
    writer.join()
    assert reasons(intake) == {"good": "", "series": "still_being_written"}


def test_files_that_are_old_are_not_waited_for(cohort, pool):
    os.utime(cohort / "good.nii.gz", (1e9, 1e9))
    look(cohort, pool)
    start = time.monotonic()
    assert reasons(look(cohort, pool, IngestConfig(settle_seconds=60))) == {"good": ""}
    assert time.monotonic() - start < 30


def test_a_pipe_called_like_a_scan_holds_nothing_up(cohort, pool):
    os.mkfifo(cohort / "pipe.nii.gz")
    (cohort / "zeros.nii").symlink_to("/dev/zero")
    intake = look(cohort, pool)
    assert reasons(intake) == {"good": ""}
    codes = ["neither_file_nor_folder", "link_that_leads_out_of_the_cohort"]
    assert [item.code for item in intake.set_aside] == codes


def test_a_dangling_link_is_a_case_with_a_reason(cohort, pool):
    (cohort / "gone.nii.gz").symlink_to(cohort / "nowhere")
    assert reasons(look(cohort, pool)) == {"gone": "unreadable_image", "good": ""}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_case_with_a_reason(cohort, pool):
    write_nifti(cohort / "secret.nii.gz", VOXELS).chmod(0)
    intake = look(cohort, pool)
    assert reasons(intake) == {"good": "", "secret": "unreadable_image"}
    assert intake.cases[1].problem.remedy == "let the account that runs this read it"


def test_a_link_out_of_the_cohort_is_followed_and_said_where_that_is_asked(cohort, pool):
    outside = write_nifti(cohort.parent / "elsewhere" / "scan.nii.gz", VOXELS)
    (cohort / "linked.nii.gz").symlink_to(outside)
    intake = look(cohort, pool, IngestConfig(settle_seconds=0, follow_links=True))
    assert [outcome.value.warnings for outcome in intake.cases] == [
        (),
        ("read through a link that leads out of the cohort",),
    ]


def test_links_out_of_the_cohort_are_set_aside_and_others_are_read(cohort, pool):
    outside = write_nifti(cohort.parent / "elsewhere" / "scan.nii.gz", VOXELS)
    (cohort / "folder").symlink_to(outside.parent)
    (cohort / "file.nii.gz").symlink_to(outside)
    (cohort / "chain.nii.gz").symlink_to(cohort / "file.nii.gz")
    (cohort / "inside.nii.gz").symlink_to(cohort / "good.nii.gz")
    intake = look(cohort, pool)
    assert reasons(intake) == {"good": "", "inside": ""}
    assert [(item.path.name, item.code) for item in intake.set_aside] == [
        (name, "link_that_leads_out_of_the_cohort") for name in ("chain.nii.gz", "file.nii.gz", "folder")
    ]


@pytest.mark.parametrize("link", ["pair.img", "pair.hdr"])
def test_a_scan_of_two_files_of_which_one_is_a_link_out_of_the_cohort_is_set_aside(cohort, pool, link):
    outside = cohort.parent / "elsewhere"
    outside.mkdir()
    nibabel.save(nibabel.Nifti1Pair(VOXELS, np.eye(4)), outside / "pair.hdr")
    for name in ("pair.hdr", "pair.img"):
        (cohort / name).symlink_to(outside / name) if name == link else (outside / name).rename(cohort / name)
    assert reasons(look(cohort, pool)) == {"good": ""}


def test_what_a_data_set_lists_outside_of_itself_or_behind_a_link_out_of_it_is_set_aside(pool, tmp_path):
    outside = write_nifti(tmp_path / "elsewhere" / "x.nii.gz", VOXELS)
    write_nifti(tmp_path / "in" / "imagesTr" / "a.nii.gz", VOXELS)
    (tmp_path / "in" / "imagesTr" / "b.nii.gz").symlink_to(outside)
    names = ["./imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "imagesTr/gone.nii.gz", "../elsewhere/x.nii.gz", str(outside)]
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({"training": [{"image": name} for name in names]}))
    intake = look(tmp_path / "in", pool)
    assert reasons(intake) == {"a": "", "gone": "unreadable_image"}
    assert sorted(item.code for item in intake.set_aside) == [
        "link_that_leads_out_of_the_cohort",
        *2 * ["listed_outside_of_the_data_set"],
    ]


def test_a_file_called_like_a_line_of_a_log_stays_one_line_without_a_terminals_codes(cohort, pool):
    (cohort / "\x1b[2Jx\nINFO all is well.nii.gz").write_bytes(b"\x1f\x8b rubbish")
    problem = next(outcome.problem for outcome in look(cohort, pool).cases if outcome.problem)
    assert problem.message.isprintable()
    assert "'\\x1b[2Jx\\nINFO all is well.nii.gz'" in problem.message


def test_links_among_the_references_do_not_lead_out_of_them(cohort, pool, tmp_path):
    outside = write_nifti(tmp_path / "elsewhere" / "good.nii.gz", VOXELS)
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "good.nii.gz").symlink_to(outside)
    config = IngestConfig(settle_seconds=0)
    intake = find_cases(cohort, tmp_path / "references", None, config, pool, tmp_path / "state")
    assert [outcome.value.reference for outcome in intake.cases] == [None]
    assert [item.code for item in intake.set_aside] == ["link_that_leads_out_of_the_cohort"]


def test_links_within_a_data_set_are_followed_from_one_subject_to_what_all_share(pool, tmp_path):
    """As DataLad stores BIDS: each file of a subject is a link into a folder beside the subjects."""
    (tmp_path / "in" / "sub-1" / "anat").mkdir(parents=True)
    (tmp_path / "in" / "dataset_description.json").write_text("{}")
    stored = write_nifti(tmp_path / "in" / ".git" / "annex" / "x.nii.gz", VOXELS)
    (tmp_path / "in" / "sub-1" / "anat" / "sub-1_T1w.nii.gz").symlink_to(stored)
    assert reasons(look(tmp_path / "in", pool)) == {"sub-1_T1w": ""}


@pytest.mark.parametrize(("follow", "reason"), [(False, "unreadable_image"), (True, "")])
def test_links_in_a_folder_that_a_manifest_names_do_not_lead_out_of_it_unless_that_is_asked(
    pool, tmp_path, follow, reason
):
    outside = write_nifti(tmp_path / "elsewhere" / "scan.nii.gz", VOXELS)
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "scan.nii.gz").symlink_to(outside)
    (tmp_path / "in" / "list.csv").write_text("case,image\nA,a\n")
    intake = look(tmp_path / "in" / "list.csv", pool, IngestConfig(settle_seconds=0, follow_links=follow))
    assert reasons(intake) == {"A": reason}


@pytest.mark.parametrize("wrong", [{"settle_seconds": -1}, {"settle_seconds": float("nan")}, {"most_voxels": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        IngestConfig(**wrong)


def test_a_key_that_is_too_short_is_refused(cohort, pool):
    (cohort.parent / "key").write_text("secret")
    with pytest.raises(UnknownSetting, match="has 6 bytes; it needs at least 16"):
        look(cohort, pool, IngestConfig(settle_seconds=0, key=cohort.parent / "key"))
