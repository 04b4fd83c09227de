"""A full disk, or an input that goes away, in the middle of a night: a named error or reason, nothing half-written."""

import subprocess
import threading
import time
from pathlib import Path

import nibabel
import pandas as pd
import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.outcomes import exit_code
from flows.segment_cohort import segment_cohort
from flows.settings import Settings
from tasks.ingest import IngestConfig
from tasks.pool import PoolConfig
from tasks.scan.errors import UnwritableOutput
from tests.phantoms import box, picture, write_nifti
from tests.tasks.ledger.nights import train_nothing

SHAPE = (40, 36, 32)
LABELS = box(SHAPE, (8, 8, 8), (24, 20, 18))
SETTINGS = Settings(pool=PoolConfig(workers=1), ingest=IngestConfig(settle_seconds=0))


@pytest.fixture(autouse=True)
def _quick_flows(local_prefect):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@pytest.fixture
def home(tmp_path) -> Path:
    """A folder with a model and a cohort of eight scans."""
    train_nothing(tmp_path / "model")
    for number in range(8):
        write_nifti(tmp_path / "in" / f"s{number}.nii.gz", picture(LABELS, number))
    return tmp_path


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 kB: less than two cases need that are in hand at the same time."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], check=False).returncode:
        pytest.skip("this account may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def night(home, out):
    return segment_cohort(home / "in", home / "model", out, SETTINGS, return_state=True)


def results(out) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in [out / "metrics.csv", *(out / "segmentations").iterdir()]}


def test_a_disk_that_fills_up_ends_the_night_by_name_and_with_room_the_next_one_finishes_it(home, small_disk):
    out = small_disk / "out"
    state = night(home, out)
    assert state.message.startswith("UnwritableOutput: No space left on device")
    assert "see to the disk, then start the run again" in state.message
    with pytest.raises(UnwritableOutput):
        exit_code(state)
    assert not (out / ".work").exists()
    assert not list(out.rglob("*.part"))
    assert not (out / "run.json").exists()
    assert {nibabel.load(mask).get_fdata().shape for mask in (out / "segmentations").iterdir()} <= {SHAPE}
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert night(home, out).message.startswith("8 of 8 cases segmented")
    night(home, home / "undisturbed")
    assert results(out) == results(home / "undisturbed")


def test_an_output_on_a_disk_that_may_only_be_read_is_refused_and_as_it_was(home, small_disk):
    (small_disk / "out").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(UnwritableOutput, match="Read-only file system"):
        exit_code(night(home, small_disk / "out"))
    assert list((small_disk / "out").iterdir()) == []


def test_a_scan_that_goes_away_in_the_middle_of_the_night_costs_itself(home):
    """s7 is the last of equals; it goes when the masks' folder comes, which is after its header was read."""

    def take_away():
        while not (home / "out" / "segmentations").exists():
            time.sleep(0.005)
        (home / "in" / "s7.nii.gz").unlink()

    thread = threading.Thread(target=take_away)
    thread.start()
    state = night(home, home / "out")
    thread.join()
    assert state.message == "1 of 8 cases need attention (7 segmented, 1 quarantined): s7"
    row = pd.read_csv(home / "out" / "cases.csv").set_index("case").loc["s7"]
    assert (row["stage"], row["reason"]) == ("preprocess", "unreadable_image")
    assert "'s7.nii.gz' does not exist" in row["message"]
