"""The short version of `python -m benchmarks.kills`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_killed_in_a_night_costs_nothing_but_time():
    command = ["--kills", "2", "--cases", "3", "--side", "32", "--only", "flow", "network"]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *command],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.findall(r"^\d\d (flow|network) +killed at", ended.stdout, re.MULTILINE) == ["flow", "network"]
    assert "2 kills, 0 with a problem" in ended.stdout
