"""Names of cases do not tell the patient, and whoever lacks the key learns nothing from them."""

import os
from pathlib import Path

import pytest

from tasks.ingest import IngestConfig
from tasks.ingest.ingest import find_cases
from tasks.ingest.look import tells_patient
from tasks.ingest.privacy import keyed, load_key, veiled
from tasks.pool import PoolConfig, open_pool
from tasks.scan.frames import read_frames
from tests.phantoms import affine, box, edit_dicom, picture, write_dicom_series, write_nifti

SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))
KEY = b"0123456789abcdef"


@pytest.fixture(scope="module")
def pool():
    with open_pool(PoolConfig(workers=1)) as address:
        yield address


def series(folder: Path, **tags: object) -> list[Path]:
    files = write_dicom_series(folder, VOXELS, affine((1, 2, 3), "LPS", SHAPE), folder.name)
    for file in files:
        edit_dicom(file, **({"PatientName": "Doe^Jane", "PatientID": "MRN-48213"} | tags))
    return files


def names(cohort: Path, pool: str, state: str = "state") -> list[str]:
    intake = find_cases(cohort, None, None, IngestConfig(settle_seconds=0), pool, cohort.parent / state)
    return [outcome.name for outcome in intake.cases]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("ward/7", False),
        ("DOE_JANE/T1", True),
        ("jane", True),
        ("janet", False),
        ("janes", False),
        ("study-mrn48213", True),
        ("study-48213", False),
        ("19440317", True),
        ("1944-03-17", True),
        ("1.2.3.4.5.77", True),
    ],
)
def test_a_path_that_repeats_the_header_tells_the_patient(tmp_path, where, told):
    file = series(tmp_path / "a", PatientBirthDate="19440317", StudyInstanceUID="1.2.3.4.5.77")[0]
    assert tells_patient(file, where) == told


def test_a_file_that_is_no_dicom_tells_nothing(tmp_path):
    assert not tells_patient(write_nifti(tmp_path / "a.nii", VOXELS), "jane")


def test_a_folder_with_the_patients_name_gives_its_case_a_hash(tmp_path, pool):
    series(tmp_path / "in" / "ward-7")
    series(tmp_path / "in" / "Doe, Jane")
    hashed, plain = names(tmp_path / "in", pool)
    assert plain == "ward-7"
    assert hashed.startswith("scan-")
    assert len(hashed) == 17
    assert names(tmp_path / "in", pool) == [hashed, plain]


def test_with_another_key_the_hash_is_another(tmp_path, pool):
    series(tmp_path / "in" / "jane")
    assert names(tmp_path / "in", pool) != names(tmp_path / "in", pool, "elsewhere")


def test_a_reference_finds_its_case_under_the_name_of_the_folder(tmp_path, pool):
    series(tmp_path / "in" / "jane")
    write_nifti(tmp_path / "references" / "jane.nii.gz", VOXELS)
    config = IngestConfig(settle_seconds=0)
    intake = find_cases(tmp_path / "in", tmp_path / "references", None, config, pool, tmp_path / "state")
    assert intake.cases[0].value.reference.files == (tmp_path / "references" / "jane.nii.gz",)
    assert intake.set_aside == ()


def test_a_name_in_a_manifest_is_kept(tmp_path, pool):
    series(tmp_path / "jane")
    (tmp_path / "cohort.csv").write_text("case,image\njane,jane\n")
    assert names(tmp_path / "cohort.csv", pool) == ["jane"]


def test_a_veiled_header_has_no_uid_and_no_word_of_its_own(tmp_path):
    file = series(tmp_path / "a", ImageType=["ORIGINAL", "LOCALIZER", "JANE"])[0]
    plain = read_frames(file, "a")[0]
    header = veiled(plain, KEY)
    assert header.image_type[:2] == ("ORIGINAL", "LOCALIZER")
    assert "JANE" not in header.image_type
    assert header.series == keyed(KEY, plain.series) != plain.series
    assert (header.sop_class, header.position_mm) == (plain.sop_class, plain.position_mm)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    first = load_key(tmp_path / "new" / "names.key")
    assert len(first) == 64
    assert load_key(tmp_path / "new" / "names.key") == first
    assert (tmp_path / "new" / "names.key").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["names.key"]


def test_keyed_hashes_are_those_of_hmac_sha256():
    # RFC 4231, test case 2
    assert keyed(b"Jefe", "what do ya want for nothing?").startswith("5bdcc146bf60754e6a042426089575c7")


def test_two_runs_that_start_at_once_share_a_key(tmp_path):
    pids = []
    for _ in range(4):
        if (pid := os.fork()) == 0:
            (tmp_path / f"{os.getpid()}.txt").write_bytes(load_key(tmp_path / "names.key"))
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    assert len({file.read_bytes() for file in tmp_path.glob("*.txt")}) == 1
