"""Processes that outlive their command, with small real ones."""

import os
import sys
import time
from dataclasses import replace

import psutil
import pytest

from flows.processes import Command, find, living, start, stop
from tasks.scan.errors import ServiceUnavailable


def command(tmp_path, code, ready=lambda: True, seconds=20.0):
    arguments = [sys.executable, "-c", code]
    return Command(
        name="worker",
        arguments=arguments,
        environment=os.environ,
        directory=tmp_path,
        url="here",
        ready=ready,
        seconds=seconds,
    )


def ended(pid):
    """Gone, or dead and only not collected yet by the process that inherited it."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def sleeper(tmp_path):
    process = start(command(tmp_path, "import time; time.sleep(60)"), tmp_path)
    yield process
    stop(process, tmp_path, seconds=5)


def test_a_started_process_is_written_down_and_found_again(sleeper, tmp_path):
    assert living(tmp_path) == [sleeper]
    assert find(sleeper).pid == sleeper.pid


def test_a_started_process_has_a_session_of_its_own(sleeper):
    assert os.getsid(sleeper.pid) == sleeper.pid


def test_a_stopped_process_is_gone_and_forgotten(sleeper, tmp_path):
    assert stop(sleeper, tmp_path, seconds=5) is True
    assert living(tmp_path) == []
    assert ended(sleeper.pid)


def test_a_pid_that_was_given_to_another_process_is_left_alone(sleeper, tmp_path):
    earlier = replace(sleeper, created=sleeper.created - 10)
    assert stop(earlier, tmp_path, seconds=5) is False
    assert find(sleeper) is not None


def test_a_process_that_ignores_the_request_to_end_is_killed_with_its_children(tmp_path):
    code = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
open("child", "w").write(str(child.pid))
time.sleep(60)
"""
    process = start(command(tmp_path, code, ready=(tmp_path / "child").exists), tmp_path)
    time.sleep(0.2)
    child = int((tmp_path / "child").read_text())
    assert stop(process, tmp_path, seconds=0.5) is True
    assert ended(process.pid)
    assert ended(child)


def test_a_process_that_ends_while_it_starts_is_an_error_with_the_end_of_its_log(tmp_path):
    with pytest.raises(ServiceUnavailable, match=r"ended with code 3(.|\n)*worker\.log(.|\n)*no such port"):
        start(command(tmp_path, "print('no such port'); raise SystemExit(3)", ready=lambda: False), tmp_path)


def test_a_process_that_is_never_ready_is_ended(tmp_path):
    with pytest.raises(ServiceUnavailable, match="not ready within 0[.]5 seconds"):
        start(command(tmp_path, "import time; time.sleep(60)", ready=lambda: False, seconds=0.5), tmp_path)
    assert living(tmp_path) == []


def test_the_log_of_the_process_before_is_kept(tmp_path):
    for word in ("first", "second"):
        with pytest.raises(ServiceUnavailable):
            start(command(tmp_path, f"print('{word}')", ready=lambda: False), tmp_path)
    assert (tmp_path / "worker.previous.log").read_text() == "first\n"


def test_a_damaged_file_of_processes_is_named(tmp_path):
    (tmp_path / "processes.json").write_text("[{")
    with pytest.raises(ServiceUnavailable, match=r"processes\.json.*damaged"):
        living(tmp_path)
