"""The one thing nightly software must do: a run that nobody asked for, created by the server, executed by the worker.

With SQLAlchemy 2.1 the server starts, manual runs work, and no scheduled run is ever created; only this test sees it.
"""

import time

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowRunFilter, FlowRunFilterState
from prefect.client.schemas.filters import FlowRunFilterStateName as StateName

from flows import services

TICKING = """
deployments:
  - name: often
    entrypoint: tiny.py:tick
    schedules: [{slug: often, interval: 20}]
    work_pool: {name: segment-cohort}
"""
SECONDS = 180
"""For one run. They come no faster than a slow machine's one core is through with them: what piled up would lock the
server's database for all tests after this one."""


@pytest.fixture
def ticking(local_prefect, project):
    """A deployment that runs every twenty seconds, until the end of the test."""
    file = project / "deployments" / "ticking.yaml"
    file.write_text(TICKING)
    services.up(file)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("tick/often")
        yield deployment
        client.delete_deployment(deployment.id)


def completed_run(client):
    completed = FlowRunFilter(state=FlowRunFilterState(name=StateName(any_=["Completed"])))
    often = DeploymentFilter(name=DeploymentFilterName(any_=["often"]))
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if runs := client.read_flow_runs(flow_run_filter=completed, deployment_filter=often):
            return runs[0]
        time.sleep(1)
    return None


def test_a_scheduled_run_is_created_by_the_server_and_executed_by_the_worker(ticking):
    with get_client(sync_client=True) as client:
        run = completed_run(client)
        assert run is not None, f"no scheduled run was completed within {SECONDS} seconds; see the log of the server"
        names = [state.name for state in client.read_flow_run_states(run.id)]
    assert run.auto_scheduled is True
    assert run.created_by.type == "SCHEDULE"
    assert (names[0], names[-2], names[-1]) == ("Scheduled", "Running", "Completed")
