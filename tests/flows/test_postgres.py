"""The server on PostgreSQL, as a larger site has it: nights run by themselves, and old ones go."""

import getpass
import os
import pwd
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Completed
from prefect.utilities.asyncutils import run_coro_as_sync

from flows import services
from tests.flows.conftest import free_port
from tests.flows.test_schedule import SECONDS, TICKING, completed_run

SECRET = "canary5150"
PASSWORD = f"admin:{SECRET}"
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
pytestmark = pytest.mark.timeout(600)


def other_than_root() -> str:
    """Who runs the database: PostgreSQL refuses root."""
    if os.geteuid():
        return getpass.getuser()
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The URL of an empty database, on the loopback address, with its files in a folder of its own."""
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    user, port = other_than_root(), free_port()
    folder = Path("/tmp") / f"segment-cohort-postgres-{port}"  # not below pytest's folder, which is for its owner alone
    folder.mkdir()
    shutil.chown(folder, user)

    def call(program, *arguments):
        done = subprocess.run(
            [PROGRAMS[-1] / program, *arguments], user=user if os.geteuid() == 0 else None, cwd=folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    try:
        call("initdb", "--pgdata", "data", "--username", "prefect", "--auth", "trust", "--no-sync")
        call("pg_ctl", "--pgdata", "data", "--wait", "--log", "log", "--options", options, "start")
        try:
            call("createdb", "--host", "127.0.0.1", "--port", str(port), "--username", "prefect", "prefect")
            yield f"postgresql+asyncpg://prefect:{SECRET}@127.0.0.1:{port}/prefect"
        finally:
            call("pg_ctl", "--pgdata", "data", "--wait", "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def on_postgres(database, project, tmp_path_factory):
    """A server on that database and a worker, with a deployment that runs every five seconds."""
    file = project / "deployments" / "ticking.yaml"
    file.write_text(TICKING)
    url = f"http://127.0.0.1:{free_port()}/api"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_WORKER_QUERY_SECONDS", "2")
        patch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", database)
        patch.setenv("PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS", "2")
        patch.setenv("PREFECT_SERVER_API_AUTH_STRING", PASSWORD)
        home, password = tmp_path_factory.mktemp("prefect"), {PREFECT_API_AUTH_STRING: PASSWORD}
        patch.setenv("PREFECT_API_AUTH_STRING", PASSWORD)
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home, **password}):
            try:
                services.up(file)
                yield database
            finally:
                services.down()


@flow(name="old")
def old():
    """Only ever recorded, never run."""


async def _count(database, table):
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        return await connection.fetchval(f"SELECT count(*) FROM {table}")
    finally:
        await connection.close()


async def _end(database, run, when):
    """Let a run have ended `when`: the server itself takes no time but its own."""
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        assert await connection.execute("UPDATE flow_run SET end_time = $1 WHERE id = $2", when, run) == "UPDATE 1"
    finally:
        await connection.close()


def test_a_scheduled_run_is_executed_and_recorded_in_postgres(on_postgres):
    with get_client(sync_client=True) as client:
        run = completed_run(client)
    assert run is not None, f"no scheduled run was completed within {SECONDS} seconds"
    assert run.created_by.type == "SCHEDULE"
    assert run_coro_as_sync(_count(on_postgres, "flow_run")) >= 1


def test_a_run_that_ended_long_ago_goes_by_itself_and_others_stay(on_postgres):
    def ended(days):
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(old, state=Completed()).id
        run_coro_as_sync(_end(on_postgres, run, datetime.now(UTC) - timedelta(days=days)))
        return run

    long_ago, lately = ended(91), ended(89)
    with get_client(sync_client=True) as client:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                client.read_flow_run(long_ago)
            except ObjectNotFound:
                break
            time.sleep(1)
        with pytest.raises(ObjectNotFound):
            client.read_flow_run(long_ago)
        assert client.read_flow_run(lately).state_name == "Completed"
    settings = httpx.get(f"{services.api_url()}/admin/settings", auth=tuple(PASSWORD.split(":"))).json()
    assert sorted(settings["server"]["services"]["db_vacuum"]["enabled"]) == ["events", "flow_runs"]


@pytest.mark.usefixtures("on_postgres")
def test_a_server_with_a_password_tells_nothing_without_it():
    url = f"{services.api_url()}/admin/settings"
    assert httpx.get(url).status_code == httpx.get(url, auth=("admin", "wrong")).status_code == 401


@pytest.mark.usefixtures("on_postgres")
def test_the_passwords_of_server_and_database_are_in_no_log_and_not_among_the_settings_it_tells():
    told = httpx.get(f"{services.api_url()}/admin/settings", auth=tuple(PASSWORD.split(":"))).text
    files = [file for file in get_current_settings().home.rglob("*") if file.is_file()]
    assert "postgresql" in told or "database" in told
    assert {"server.log", "worker.log"} <= {file.name for file in files}
    assert [text for text in (told, *(file.read_text(errors="replace") for file in files)) if SECRET in text] == []
