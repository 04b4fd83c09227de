"""Ctrl-C in the middle of a night: every process of the terminal is told at once, and one line says what it means."""

import os
import signal
import subprocess
import sys
import time

import psutil

from flows.server import prefect_environment
from tests.phantoms import box, picture, write_nifti
from tests.tasks.ledger.nights import train_nothing

SHAPE, SCANS = (56, 56, 56), 60
LABELS = box(SHAPE, (8, 8, 8), (24, 20, 18))


def begin(home):
    """A night in a session of its own, as a terminal has one."""
    command = ["run", home / "in", "--model", home / "model", "--output", home / "out", "--settings", home / "s.toml"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with `&` ignores Ctrl-C
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.command_line", *map(str, command)],
            env=prefect_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_night_in_one_line_and_the_next_goes_on_from_there(local_prefect, tmp_path):
    train_nothing(tmp_path / "model")
    (tmp_path / "s.toml").write_text("ingest.settle_seconds = 0\npool.workers = 2\n")
    for number in range(SCANS):
        write_nifti(tmp_path / "in" / f"s{number}.nii.gz", picture(LABELS, number))
    night = begin(tmp_path)
    masks = tmp_path / "out" / "segmentations"
    while len(list(masks.glob("*.nii.gz"))) < SCANS / 12:  # long before its end
        assert night.poll() is None, night.communicate()[0]
        time.sleep(0.01)
    family = psutil.Process(night.pid).children(recursive=True)
    os.killpg(night.pid, signal.SIGINT)
    printed, _ = night.communicate(timeout=60)
    assert night.returncode == 130, printed
    assert "Traceback" not in printed
    assert printed.splitlines()[-1].startswith("segment-cohort: interrupted; what is on record stays")
    assert not psutil.wait_procs(family, timeout=20)[1]
    done = len(list(masks.glob("*.nii.gz")))
    assert 0 < done < SCANS
    again = begin(tmp_path)
    printed, _ = again.communicate(timeout=200)
    assert again.returncode == 0, printed
    assert f"recall: nothing is to be done for 0 of {SCANS} cases" not in printed
    assert len(list(masks.glob("*.nii.gz"))) == SCANS
