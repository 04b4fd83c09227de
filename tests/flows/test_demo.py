"""The demo as a newcomer runs it, with a shorter training: cohort, flows, server, worker, deployment, tables."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import free_port

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Runs `segment-cohort demo --epochs 1` in one folder, and the port of its server."""
    pytest.importorskip("nilearn", reason="nilearn, which ships the brain, is not installed (the extra `demo`)")
    port, home = free_port(), tmp_path_factory.mktemp("prefect")
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    output = tmp_path_factory.mktemp("demo") / "output"
    command = [Path(sys.executable).with_name("segment-cohort"), "demo", "--epochs", "1", "--output", output]

    def run():
        return subprocess.run(
            command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=580, check=False
        )

    return run, port


@pytest.fixture(scope="module")
def short_demo(demo):
    """The finished demo, and the port of its server."""
    run, port = demo
    return run(), port


def line(done, start):
    return next(line.split() for line in done.stdout.splitlines() if line.split()[:1] == [start])


def test_the_demo_segments_four_people_and_quarantines_the_two_broken_scans(short_demo):
    done, _ = short_demo
    assert [line(done, f"person-{number:02}")[1] for number in (9, 10, 11, 12)] == ["segmented"] * 4, done.stdout
    assert line(done, "person-13-missing-slice")[1:3] == ["quarantined", "missing_slice:"]
    assert line(done, "person-14-truncated")[1:3] == ["quarantined", "unreadable_image:"]


def test_a_network_that_learnt_nothing_does_not_pass_as_a_success(short_demo):
    done, _ = short_demo
    assert done.returncode == 1
    assert "each Dice at least 0.1 above its floor" in done.stderr
    assert "4 cases segmented, 2 quarantined" not in done.stderr


def test_the_server_that_the_demo_started_has_ended_with_it(short_demo):
    _, port = short_demo
    with socket.socket() as trial:
        assert trial.connect_ex(("127.0.0.1", port)) != 0


def test_a_second_demo_uses_the_model_and_the_masks_of_the_first(demo, short_demo):
    again = demo[0]()
    assert [line(again, f"person-{number:02}")[1] for number in (9, 10, 11, 12)] == ["unchanged"] * 4, again.stdout
    assert "4 cases segmented, 2 quarantined" not in again.stderr
