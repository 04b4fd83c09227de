"""Server, worker and deployments: found, started and stopped for real."""

import socket
import sqlite3
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_HOME,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Running

from flows import services
from flows.crashed import mark_crashed_runs
from tasks.scan.errors import ServiceUnavailable


class NotPrefect(BaseHTTPRequestHandler):
    """Another program's server, which has a page for every address."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"welcome")

    def log_message(self, *_):
        pass


@pytest.fixture
def foreign_port():
    with HTTPServer(("127.0.0.1", 0), NotPrefect) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def fresh_home(tmp_path):
    with temporary_settings({PREFECT_HOME: tmp_path}):
        yield tmp_path


@flow(name="never-recorded")
def never_recorded():
    """Its run cannot be written down, so that it never begins."""
    raise AssertionError


@contextmanager
def locked_database():
    """The server's database takes nothing in this block; whoever asks the server is told so after three seconds."""
    impatient = {PREFECT_API_REQUEST_TIMEOUT: 3, PREFECT_CLIENT_MAX_RETRIES: 0}
    database = sqlite3.connect(get_current_settings().home / "prefect.db", isolation_level=None, timeout=60)
    with closing(database), temporary_settings(impatient):
        database.execute("BEGIN IMMEDIATE")
        yield


def test_without_a_configured_server_the_local_one_is_meant():
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert services.api_url() == "http://127.0.0.1:4200/api"


def test_a_configured_server_is_meant():
    with temporary_settings({PREFECT_API_URL: "https://prefect.example/api/"}):
        assert services.api_url() == "https://prefect.example/api"


def test_another_program_that_answers_is_no_prefect_server(foreign_port):
    assert httpx.get(f"http://127.0.0.1:{foreign_port}/api/health").status_code == 200
    assert services.server_answers(f"http://127.0.0.1:{foreign_port}/api") is False


def test_a_port_that_another_program_has_is_named_with_the_remedy(foreign_port, fresh_home):
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{foreign_port}/api"}),
        pytest.raises(
            ServiceUnavailable,
            match=f"port {foreign_port} .* not a healthy Prefect server; end it, or set PREFECT_API_URL",
        ),
    ):
        services.ensure_server()


def test_a_server_elsewhere_that_does_not_answer_is_never_replaced_by_a_local_one(fresh_home):
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/prefect/api"}),
        pytest.raises(
            ServiceUnavailable, match=r"at http://127\.0\.0\.1:9/prefect/api, which PREFECT_API_URL names; start it"
        ),
    ):
        services.ensure_server()


def test_down_is_harmless_when_nothing_runs(fresh_home):
    assert services.down() == []


def test_deployments_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ServiceUnavailable, match=r"there is no '.*prefect\.yaml'"):
        services.up(tmp_path / "deployments" / "prefect.yaml")


def test_up_starts_a_server_and_a_worker_and_says_how_to_stop_them(local_prefect):
    assert local_prefect.started == ("server", "worker")
    assert services.server_answers(local_prefect.url)
    assert services.describe(local_prefect).endswith("stop with: segment-cohort down")


def test_the_server_listens_on_the_loopback_address_only(local_prefect):
    port = int(local_prefect.url.split(":")[2].split("/")[0])
    with socket.socket() as trial:
        assert trial.connect_ex(("127.0.0.2", port)) != 0  # It would answer here, did it listen on all addresses.


def test_the_server_sends_no_analytics(local_prefect):
    assert httpx.get(f"{local_prefect.url}/admin/settings").json()["server"]["analytics_enabled"] is False


def test_runs_in_this_process_are_recorded_by_the_server_that_answers(local_prefect):
    with services.recorded_by_server() as server, get_client(sync_client=True) as client:
        assert server.started is False
        assert str(client.api_url).rstrip("/") == local_prefect.url


def test_a_second_up_starts_nothing_and_leaves_a_paused_schedule_paused(local_prefect, project):
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("segment-cohort/nightly")
        assert nightly.schedules[0].active is True
        client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)
    again = services.up(project / "deployments" / "prefect.yaml")
    assert again.started == ()
    assert again.processes == local_prefect.processes
    assert again.paused == ("nightly",)


def test_deployments_are_registered_where_server_and_worker_run_otherwise(local_prefect, project):
    file = project / "deployments" / "other.yaml"
    file.write_text("""
deployments:
  - name: other
    entrypoint: tiny.py:tick
    work_pool: {name: segment-cohort}
""")
    services.register(file)
    with get_client(sync_client=True) as client:
        assert client.read_deployment_by_name("tick/other").work_pool_name == "segment-cohort"


def test_deployments_are_not_registered_where_no_server_answers(tmp_path, fresh_home):
    nowhere = "http://127.0.0.1:9/api"
    with temporary_settings({PREFECT_API_URL: nowhere}), pytest.raises(ServiceUnavailable, match="no Prefect server"):
        services.register(tmp_path / "prefect.yaml")


def test_when_recording_ends_all_events_are_sent_and_nothing_is_left_to_warn_of(local_prefect, caplog):
    with services.recorded_by_server():
        for number in range(100):
            emit_event(event="tick", resource={"prefect.resource.id": f"clock.{number}"})
    EventsWorker.drain_all(at_exit=False)
    assert "Still processing items" not in caplog.text


def test_a_server_that_is_healthy_and_cannot_write_is_named(local_prefect):
    refused = f"the Prefect server at {local_prefect.url} does not do what it is asked .*; look at its log"
    with locked_database():
        assert services.server_answers(local_prefect.url)
        with pytest.raises(ServiceUnavailable, match=refused), services.recorded_by_server():
            never_recorded()


def test_a_server_that_cannot_write_can_still_be_stopped(local_prefect, caplog):
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(never_recorded, state=Running())
        client.update_flow_run(run.id, infrastructure_pid=str(2**22))  # no process has so high an id
        with locked_database():
            assert services.down(names=()) == []
        assert "are marked by the next `up`" in caplog.text
        mark_crashed_runs()  # if the server has not done by now what it was asked while it could not
        assert client.read_flow_run(run.id).state_name == "Crashed"
