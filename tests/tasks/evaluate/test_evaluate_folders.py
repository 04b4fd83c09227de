"""Two folders of label maps, whoever made them: what is broken costs its own case, and is opened elsewhere."""

from pathlib import Path

import pytest

from tasks.evaluate import EvaluationConfig
from tasks.evaluate.folders import compare_folders
from tasks.pool import PoolConfig, open_pool
from tests.opened import opened_here
from tests.phantoms import affine, box, picture, truncate, write_dicom_series, write_nifti

SHAPE = (6, 5, 4)
LABELS = box(SHAPE, (1, 1, 1), (4, 4, 3))


@pytest.fixture(scope="module")
def pool():
    with open_pool(PoolConfig(workers=1)) as address:
        yield address


def test_no_file_is_opened_in_the_process_of_the_command(tmp_path: Path, pool: str):
    for folder in ("predictions", "references"):
        for name in ("a.nii.gz", "b.nii", "cut.nii.gz", "broken.nrrd", "broken.dcm", "notes.txt"):
            write_nifti(tmp_path / folder / "x.nii", LABELS).rename(tmp_path / folder / name)
        truncate(write_nifti(tmp_path / folder / "cut.nii.gz", LABELS), 0.5)
        write_nifti(tmp_path / folder / "a.nii.gz", LABELS)
    write_dicom_series(tmp_path / "predictions/series", picture(LABELS), affine((1, 1, 2)))
    with opened_here(tmp_path) as opened:
        outcomes, labels = compare_folders(tmp_path / "predictions", tmp_path / "references", EvaluationConfig(), pool)
    assert opened == []
    scored = {one.name: one.problem.reason if one.problem else "" for one in outcomes}
    assert scored["a"] == scored["b"] == ""
    assert scored["cut"] == scored["broken"] == "unreadable_image"
    assert labels.keys() >= {1}


def test_what_is_opened_here_is_seen(tmp_path: Path):
    with opened_here(tmp_path) as opened:
        (tmp_path / "a").write_bytes(b"x")
    assert opened == [tmp_path / "a"]
