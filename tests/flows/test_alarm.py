"""Nothing ends in silence: a real webhook on the loopback address, real hooks, a real page."""

import json
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Crashed, Failed

from flows import alarm
from flows.alarm import COMMAND, KILLED, URL, describe_end, tell, tell_end, why
from tasks.report.died import say_died

SECRET = "s3cr3t-CANARY"
RUN = FlowRun(
    id=uuid4(), flow_id=uuid4(), name="bold-fox", start_time=datetime(2026, 11, 25, 1, tzinfo=UTC), parameters={}
)
SAID = "1 of 3 cases need attention (2 segmented, 1 failed): C07"


class Ear(BaseHTTPRequestHandler):
    """A webhook that keeps what it is told, and answers as the server says."""

    def do_POST(self):
        self.server.heard.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        if self.server.answer is None:
            self.server.gate.wait(5)
            return
        self.send_response(self.server.answer)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def ear(monkeypatch):
    """A server that listens; its URL, with a secret in it, is the webhook."""
    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        server.heard, server.answer, server.gate = [], 200, threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv(URL, f"http://127.0.0.1:{server.server_port}/{SECRET}")
        yield server
        server.gate.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (SAID, "1 of 3 cases need attention (2 segmented, 1 failed)"),
        ("Flow run process exited with non-zero status code -9.", "its process ended with code -9"),
        ("Flow run encountered an exception: pydicom.errors.BadTag: 'JANE'", "the program ended with BadTag"),
        ("EmptyCohort: '/data/JANE' is no folder", "it could not go on: EmptyCohort"),
        (KILLED, KILLED),
        ("JANE", "it ended as Crashed"),
    ],
)
def test_of_a_message_numbers_and_names_of_errors_are_told_and_nothing_else(message, told):
    assert why("Crashed", message) == told


def test_the_webhook_is_told_which_run_ended_when_as_what_and_why(local_prefect, ear):
    state = Failed(message=SAID, timestamp=datetime(2026, 11, 25, 2, tzinfo=UTC))
    tell("segment-cohort", RUN, state)
    (path, content), *others = ear.heard
    assert (path, others) == (f"/{SECRET}", [])
    assert json.loads(content) == {
        **{"program": "segment-cohort", "flow": "segment-cohort", "run": str(RUN.id), "name": "bold-fox"},
        **{"state": "Failed", "why": "1 of 3 cases need attention (2 segmented, 1 failed)"},
        **{"began": "2026-11-25T01:00:00+00:00", "ended": "2026-11-25T02:00:00+00:00"},
    }


@pytest.mark.parametrize(
    ("answer", "said"), [(500, "HTTPError 500"), (302, "HTTPError 302"), (None, "TimeoutError"), ("gone", "URLError")]
)
def test_a_webhook_that_fails_is_said_without_its_secret_and_nothing_else_changes(
    local_prefect, ear, answer, said, caplog, monkeypatch
):
    monkeypatch.setattr(alarm, "SECONDS", 0.5)
    ear.answer = answer
    if answer == "gone":
        monkeypatch.setenv(URL, f"http://127.0.0.1:9/{SECRET}")
    tell("segment-cohort", RUN, Failed(message=SAID))
    assert f"alarm: the webhook could not be told: {said}" in caplog.text
    assert SECRET not in caplog.text
    assert [path for path, _ in ear.heard if path != f"/{SECRET}"] == []


def test_a_webhook_that_is_no_web_address_is_refused(local_prefect, monkeypatch, caplog):
    monkeypatch.setenv(URL, f"file:///{SECRET}")
    tell("segment-cohort", RUN, Failed())
    assert "the webhook could not be told: ValueError" in caplog.text
    assert SECRET not in caplog.text


def test_a_command_is_given_the_message_and_may_fail_or_hang(local_prefect, tmp_path, monkeypatch, caplog):
    heard = tmp_path / "heard"
    program = f"import pathlib, sys; pathlib.Path({str(heard)!r}).write_text(sys.stdin.read())"
    monkeypatch.setenv(COMMAND, f'{sys.executable} -c "{program}"')
    tell("segment-cohort", RUN, Failed(message=SAID))
    assert json.loads(heard.read_text())["state"] == "Failed"
    monkeypatch.setattr(alarm, "SECONDS", 0.5)
    for command, said in (("sleep 60", "TimeoutExpired"), ("false", "CalledProcessError 1"), ("/gone", "FileNotFound")):
        monkeypatch.setenv(COMMAND, command)
        tell("segment-cohort", RUN, Failed())
        assert f"the command could not be told: {said}" in caplog.text


def test_without_webhook_or_command_nothing_is_said(local_prefect, caplog):
    tell("segment-cohort", RUN, Failed())
    assert "alarm" not in caplog.text


@flow(name="train-unet", on_failure=[tell_end], on_crashed=[tell_end])
def ends(how):
    """A flow with our hooks that ends as it is told."""
    if how == "raise":
        raise KeyError("JANE")
    return Failed(message=SAID) if how == "fail" else None


@pytest.mark.parametrize(("how", "told"), [("fail", why("Failed", SAID)), ("raise", "the program ended with KeyError")])
def test_a_flow_that_fails_calls_the_hook_and_one_that_completes_does_not(local_prefect, ear, how, told):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        ends("well", return_state=True)
        assert ear.heard == []
        ends(how, return_state=True)
    assert [json.loads(content)["why"] for _, content in ear.heard] == [told]


def run_with(output):
    return RUN.model_copy(update={"parameters": {"output": str(output)}})


def test_a_night_that_died_as_it_wrote_says_so_at_the_top_of_the_page_once(local_prefect, tmp_path):
    (tmp_path / "report.html").write_text("<html><body>\n<p>yesterday</p></body></html>")
    (tmp_path / "log.jsonl").write_text(json.dumps({"run": str(RUN.id), "message": "preprocess: case 'a' done"}) + "\n")
    for _ in range(2):
        tell("segment-cohort", run_with(tmp_path), Crashed(message=KILLED))
    page = (tmp_path / "report.html").read_text()
    assert page.count('id="died"') == 1
    assert page.index("A night died.</b> It began 2026-11-25T01:00:00+00:00 and ended ") < page.index("yesterday")
    assert "its process ended without a word" in page


def test_a_night_that_refused_before_it_wrote_anything_leaves_the_output_as_it_was(local_prefect, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"run": "another", "message": "preprocess: case \'a\' done"}\n')
    tell("segment-cohort", run_with(tmp_path), Failed(message="UnwritableOutput: Not a directory"))
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_first_night_that_died_has_a_page(tmp_path):
    assert say_died(tmp_path, "run", "1", "2", "<why>")
    assert "&lt;why&gt;" in (tmp_path / "report.html").read_text()


def test_a_run_that_wrote_its_record_or_refused_before_it_began_has_its_page_left_alone(tmp_path):
    (tmp_path / "run.json").touch()
    assert not say_died(tmp_path, "run", "1", "2", "why")
    assert not say_died(tmp_path / "gone", "run", "1", "2", "why")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_an_unknown_time_of_the_beginning_is_that_of_the_end():
    run = RUN.model_copy(update={"start_time": None, "created": None})
    message = describe_end("segment-cohort", run, Crashed())
    assert message["began"] == message["ended"]
