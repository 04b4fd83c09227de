"""Bars on a terminal, silence elsewhere; seen through a real pseudo-terminal."""

import logging
import os
import pty
import subprocess
import sys

from tasks.artifacts import progress_artifact
from tasks.progress import let_bars_speak

BARS = """
from tasks.progress import progress_bar
with progress_bar("read", 2) as bar:
    bar.advance()
    bar.advance()
with progress_bar("train", 1) as bar:
    bar.show(0.25, "loss 1.5")
"""


def seen_on_a_terminal(code: str) -> str:
    """What `code` writes to its standard error, a pseudo-terminal."""
    outer, inner = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=inner, check=True)
    os.close(inner)
    seen = b""
    while chunk := read(outer):
        seen += chunk
    os.close(outer)
    return seen.decode()


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux says so when the other end of a pseudo-terminal is closed
        return b""


def test_a_terminal_shows_cases_done_and_the_share_of_a_training():
    seen = seen_on_a_terminal(BARS)
    assert "2/2" in seen
    assert "25%" in seen
    assert "loss 1.5" in seen


SHARDS = """
from tasks import progress
with progress.progress_bar("cases", 100) as cases:
    for shard in range(3):
        with progress.progress_bar("infer", 2) as bar:
            bar.advance()
        print([bar.description for bar in progress._shown[0].tasks])
"""


def test_a_bar_that_is_through_makes_room():
    """A long night would fill the terminal with bars, and the memory with what they remember."""
    told = subprocess.run([sys.executable, "-c", SHARDS], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["['cases']"] * 3


def test_elsewhere_there_is_no_bar():
    done = subprocess.run([sys.executable, "-c", BARS], capture_output=True, text=True, check=True)
    assert "read" not in done.stderr


def test_without_a_terminal_the_log_keeps_its_lines():
    before = [handler.level for handler in logging.getLogger("prefect").handlers]
    let_bars_speak()
    assert [handler.level for handler in logging.getLogger("prefect").handlers] == before


def test_outside_of_a_run_no_server_is_told_of_progress():
    progress_artifact("read")(0.5)  # without a server to tell, this would fail


def test_a_log_that_nobody_reads_any_more_ends_nothing():
    """The standard error of a night is read by its Prefect worker, which may be killed."""
    code = (
        "import logging, prefect.logging\nfrom prefect.logging.configuration import setup_logging\nsetup_logging()\n"
        "from tasks.progress import outlive_the_terminal\noutlive_the_terminal()\n"
        "logging.getLogger('prefect').warning('nobody hears this')\nprint('went on')"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writing, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, "went on\n")
