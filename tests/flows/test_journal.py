"""What a run logs, as lines that programs read."""

import json
import logging
from io import StringIO

import pytest
from prefect import flow, get_run_logger
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows import journal
from flows.journal import JOURNAL, keep_journal, lines_of
from tasks.case_log import logged
from tasks.scan.records import Cost, Outcome, Problem

DIED = Problem(stage="infer", status="quarantined", reason="worker_died", message="case 'B': it died", remedy="look")


@pytest.fixture
def folders(tmp_path):
    """A folder of work and an output."""
    for name in ("work", "out"):
        (tmp_path / name).mkdir()
    return tmp_path / "work", tmp_path / "out"


@flow(name="speak")
def speak():
    """One case that is well, one whose process died and that left no cost, one of which another stage spoke."""
    get_run_logger().info("begin")
    cost = Cost(stage="infer", seconds=1.23456, peak_memory_mb=99.6)
    other = Problem(stage="ingest", status="failed", reason="x", message="y", remedy="z")
    outcomes = [
        Outcome(name="A", costs=(cost,)),
        Outcome(name="B", problem=DIED),
        Outcome(name="C", problem=other),
    ]
    assert len(list(logged("infer", outcomes))) == 3


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_case_and_stage_is_one_line_with_the_run_what_it_cost_and_why_it_stopped(local_prefect, folders):
    work, output = folders
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), keep_journal(work) as handler:
        handler.move_to(output)
        state = speak(return_state=True)
    found = lines(output / JOURNAL)
    assert {line["run"] for line in found if "case" in line} == {str(state.state_details.flow_run_id)}
    of_cases = [{key: line[key] for key in line if key not in ("time", "run")} for line in found if "case" in line]
    assert of_cases == [
        {
            **{"level": "INFO", "case": "A", "stage": "infer", "seconds": 1.235, "peak_memory_mb": 100},
            **{"status": "done", "message": "infer: case 'A' done in 1.2 s"},
        },
        {
            **{"level": "WARNING", "case": "B", "stage": "infer", "status": "quarantined", "reason": "worker_died"},
            "message": "infer: quarantined: case 'B': it died",
        },
    ]
    assert "begin" in [line["message"] for line in found]


def say(*messages, case="A"):
    for message in messages:
        logging.getLogger("prefect.flow_runs").warning(message, extra={"of_case": {"case": case}, "send_to_api": False})


def test_what_is_well_is_in_the_journal_and_not_on_the_terminal(local_prefect, folders):
    terminal = logging.StreamHandler(StringIO())
    logging.getLogger().addHandler(terminal)
    try:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), keep_journal(folders[0]):
            speak(return_state=True)
    finally:
        logging.getLogger().removeHandler(terminal)
    assert "infer: case 'A' done in 1.2 s" in (folders[0] / JOURNAL).read_text()
    assert "infer: quarantined: case 'B': it died" in terminal.stream.getvalue()
    assert "done in" not in terminal.stream.getvalue()
    assert terminal.filters == []


def test_until_the_run_has_begun_the_output_is_left_alone_and_then_nothing_is_lost(folders):
    work, output = folders
    with keep_journal(work) as handler:
        say("before")
        assert list(output.iterdir()) == []
        handler.move_to(output)
        say("after")
    say("too late")
    assert [line["message"] for line in lines(output / JOURNAL)] == ["before", "after"]


def test_nights_follow_each_other_in_one_file_and_a_long_one_is_put_aside(folders, monkeypatch):
    work, output = folders
    for night in ("1", "2"):
        (work / JOURNAL).unlink(missing_ok=True)
        with keep_journal(work) as handler:
            handler.move_to(output)
            say(night)
    assert [line["message"] for line in lines_of("A", output)] == ["1", "2"]
    monkeypatch.setattr(journal, "MOST_BYTES", 10)
    (work / JOURNAL).unlink()
    with keep_journal(work) as handler:
        handler.move_to(output)
        say("3")
    assert len(lines(output / JOURNAL)) == 1
    assert [line["message"] for line in lines_of("A", output)] == ["1", "2", "3"]


def test_a_line_that_a_kill_has_torn_and_the_lines_of_other_cases_are_left_out(folders):
    _, output = folders
    (output / JOURNAL).write_text(
        '{"case": "A", "message": "whole"}\n{"case": "B", "message": "A"}\n{"case": "A", "mes'
    )
    assert lines_of("A", output) == [{"case": "A", "message": "whole"}]


def test_a_name_that_is_not_utf_8_is_a_line_too(folders):
    work, _ = folders
    with keep_journal(work):
        say("name \udcff", case="\udcff")
    assert lines(work / JOURNAL)[0]["case"] == "\udcff"
