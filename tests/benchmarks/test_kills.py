"""The short version of `python -m benchmarks.kills`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_killed_in_a_night_costs_nothing_but_time():
    command = ["--kills", "1", "--cases", "3", "--side", "32", "--only", "network"]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *command],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^00 network +killed at", ended.stdout, re.MULTILINE), ended.stdout
    assert "1 kills, 0 with a problem" in ended.stdout
