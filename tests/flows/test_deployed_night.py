"""The night as a deployment, by a real server and worker: its state, its alarm, and what is left when it is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from prefect import flow
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.deployments import run_deployment
from prefect.states import Pending

from flows import services
from flows.alarm import BLOCK
from flows.automations import register_automations
from flows.server import PREFECT, prefect_environment
from tests.phantoms import box, picture, truncate, write_nifti
from tests.tasks.ledger.nights import train_nothing

LABELS = box((12, 10, 8), (2, 2, 2), (8, 5, 6))
REAL = """
deployments:
  - name: real
    entrypoint: real.py:segment_cohort
    work_pool: {name: segment-cohort}
"""
AUTOMATIONS = (Path(__file__).parents[2] / "deployments" / "automations.yaml").read_text(encoding="utf-8")
AUTOMATIONS = AUTOMATIONS.replace("[segment-cohort, train-unet]", "[zombie]").replace("within: 600", "within: 10")
ZOMBIE = """
import time
from prefect import flow

@flow(name="zombie")
def zombie():
    time.sleep(600)

zombie()
"""


class Ear(BaseHTTPRequestHandler):
    """A webhook that keeps what it is told."""

    def do_POST(self):
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def heard():
    """What a webhook was told."""
    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        server.heard = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        server.url = f"http://127.0.0.1:{server.server_port}/"
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def home(local_prefect, project, heard, tmp_path_factory):
    """A model, a cohort of one scan, the real flow as a deployment, and a block that names the webhook."""
    home = tmp_path_factory.mktemp("deployed")
    train_nothing(home / "model")
    write_nifti(home / "in" / "a.nii.gz", picture(LABELS, 1))
    (project / "real.py").write_text("from flows.segment_cohort import segment_cohort\n")
    (project / "deployments" / "real.yaml").write_text(REAL)
    (project / "deployments" / "automations.yaml").write_text(AUTOMATIONS)
    Webhook(url=heard.url).save(BLOCK, overwrite=True)
    services.up(project / "deployments" / "real.yaml")
    yield home
    Webhook.delete(BLOCK)


def parameters(home):
    folders = {name: str(home / folder) for name, folder in (("cohort", "in"), ("model", "model"), ("output", "out"))}
    return folders | {"settings": {"pool": {"workers": 1}, "ingest": {"settle_seconds": 0}}}


def run(home):
    """The exit code of `prefect deployment run --watch`, and what it printed."""
    command = ["deployment", "run", "segment-cohort/real", "--watch", "--params", json.dumps(parameters(home))]
    done = subprocess.run([*PREFECT, *command], env=prefect_environment(), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def until(condition, seconds):
    """Whether `condition` was true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


def state_of(run):
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.id).state_name


def heartbeats_of(run):
    """The heartbeats of a run that the server knows."""
    resource = {"id": [f"prefect.flow-run.{run.id}"]}
    asked = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": resource}}
    return httpx.post(f"{services.api_url()}/events/filter", json=asked).json()["events"]


def test_a_night_in_which_all_is_well_is_completed_and_one_with_a_bad_scan_is_failed_and_told(home, heard):
    assert run(home)[0] == 0
    assert heard.heard == []
    truncate(write_nifti(home / "in" / "b.nii.gz", picture(LABELS, 2)), 0.5)
    assert run(home)[0] == 1
    assert [said["why"] for said in heard.heard] == ["1 of 2 cases need attention (1 unchanged, 1 quarantined)"]


def test_a_night_whose_process_is_killed_as_it_writes_is_crashed_told_and_on_the_page(home, heard):
    for number in range(20):
        write_nifti(home / "in" / f"c{number}.nii.gz", picture(LABELS, number))
    heard.heard.clear()
    begun = run_deployment("segment-cohort/real", parameters=parameters(home), timeout=0)
    record = home / "out" / "run.json"
    assert until(lambda: not record.exists(), 60)
    with get_client(sync_client=True) as client:
        os.kill(int(client.read_flow_run(begun.id).infrastructure_pid), signal.SIGKILL)
    assert until(lambda: heard.heard, 60)
    assert state_of(begun) == "Crashed"
    (said,) = heard.heard
    assert (said["run"], said["state"], said["why"]) == (str(begun.id), "Crashed", "its process ended with code -9")
    assert "A night died." in (home / "out" / "report.html").read_text()


def test_a_run_of_which_nobody_is_left_is_called_dead_and_told_by_the_server(home, heard, project, tmp_path):
    register_automations(project / "deployments")  # as `up` does, again: still one, now that there is a block
    heard.heard.clear()
    (tmp_path / "zombie.py").write_text(ZOMBIE)
    with (
        subprocess.Popen([sys.executable, tmp_path / "zombie.py"], env=prefect_environment()) as process,
        get_client(sync_client=True) as client,
    ):
        of_zombies = FlowFilter(name=FlowFilterName(any_=["zombie"]))
        (run,) = until(lambda: client.read_flow_runs(flow_filter=of_zombies), 60)
        assert until(lambda: heartbeats_of(run), 60)
        process.kill()
    assert state_of(run) == "Running"
    assert until(lambda: heard.heard, 60)
    assert [said["run"] for said in heard.heard] == [str(run.id)]
    assert until(lambda: state_of(run) == "Crashed", 10)


def test_a_run_whose_worker_was_killed_before_it_began_is_called_dead_by_the_server(home):
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(flow(name="zombie")(lambda: None), state=Pending())
    assert until(lambda: state_of(run) == "Crashed", 60)
