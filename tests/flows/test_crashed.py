"""Runs whose process is gone, on a real server."""

import os
import subprocess
import sys
import time

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Running

from flows.crashed import mark_crashed_runs


@flow(name="no-process")
def no_process():
    """Only ever recorded, never run."""


@pytest.fixture
def ended_pid():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def running(client, pid):
    run = client.create_flow_run(no_process, state=Running())
    client.update_flow_run(run.id, infrastructure_pid=pid)
    return run


def state_of(client, run):
    return client.read_flow_run(run.id).state_name


def test_a_run_whose_process_ended_is_crashed_and_says_so(local_prefect, ended_pid):
    with get_client(sync_client=True) as client:
        run = running(client, str(ended_pid))
        assert mark_crashed_runs() == [run.name]
        assert state_of(client, run) == "Crashed"
        assert "ended without a word" in client.read_flow_run(run.id).state.message


def test_a_run_whose_process_lives_is_left_alone(local_prefect):
    with get_client(sync_client=True) as client:
        run = running(client, str(os.getpid()))
        assert mark_crashed_runs() == []
        assert state_of(client, run) == "Running"


def test_a_run_whose_pid_belongs_to_a_later_process_is_crashed(local_prefect):
    with get_client(sync_client=True) as client:
        run = running(client, None)
        time.sleep(3)  # Linux knows a process's creation to the second only.
        with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as later:
            client.update_flow_run(run.id, infrastructure_pid=str(later.pid))
            assert mark_crashed_runs() == [run.name]


def test_a_run_that_no_worker_started_is_not_judged(local_prefect):
    with get_client(sync_client=True) as client:
        run = running(client, None)
        assert mark_crashed_runs() == []
        assert state_of(client, run) == "Running"
