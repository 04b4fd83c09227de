"""One real Prefect server and one real worker for all tests of the flows, with home, port and flows of their own."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import services
from flows.processes import find
from flows.server import send_what_is_left

FLOWS = """
from prefect import flow

@flow(name="segment-cohort")
def segment_cohort(cohort: str):
    return cohort

@flow(name="tick")
def tick():
    return None
"""
NIGHTLY = """
deployments:
  - name: nightly
    entrypoint: tiny.py:segment_cohort
    parameters: {cohort: data/incoming}
    schedules: [{slug: nightly, cron: 0 1 * * *, timezone: UTC}]
    work_pool: {name: segment-cohort}
"""


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """A folder like this repository: a file with flows, and `deployments/prefect.yaml`."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "tiny.py").write_text(FLOWS)
    (folder / "deployments").mkdir()
    (folder / "deployments" / "prefect.yaml").write_text(NIGHTLY)
    return folder


@pytest.fixture(scope="session")
def local_prefect(project, tmp_path_factory) -> Iterator[services.Services]:
    """A server and a worker, started by `up` and ended by `down`, which must end exactly those."""
    url = f"http://127.0.0.1:{free_port()}/api"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_WORKER_QUERY_SECONDS", "2")
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: tmp_path_factory.mktemp("prefect")}):
            try:
                running = services.up(project / "deployments" / "prefect.yaml")
                yield running
                send_what_is_left()
            finally:
                stopped = services.down()
            assert [name.split()[0] for name in stopped] == ["worker", "server"]
            assert not [process for process in running.processes if find(process)]
