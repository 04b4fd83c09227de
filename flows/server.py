"""The Prefect server that records the runs: the one that is configured, else a local one, started when it is needed.

Which server is meant is Prefect's own setting, PREFECT_API_URL; without it, the local one at `LOCAL_API`. A server that
is started here keeps its history in SQLite, in PREFECT_HOME, and listens on the loopback address only.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.plugin import LOCAL_API
from flows.processes import Command, alone, living, start
from tasks.progress import let_bars_speak
from tasks.scan.errors import ServiceUnavailable

PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")
"""The `prefect` command of this environment; it never asks."""
HEALTH_SECONDS = 3.0
READY_SECONDS = 120.0
SEND_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A Prefect server that answers."""

    url: str
    """Of its API."""
    started: bool
    """Whether this call started it."""


def api_url() -> str:
    """The API of the Prefect server that is meant: PREFECT_API_URL, else that of the local server."""
    return (get_current_settings().api.url or LOCAL_API).rstrip("/")


def server_answers(url: str) -> bool:
    """Whether a healthy Prefect server answers at the API `url` within 3 seconds."""
    try:
        answer = httpx.get(f"{url}/health", timeout=HEALTH_SECONDS)
        return answer.status_code == httpx.codes.OK and answer.json() is True
    except (httpx.HTTPError, ValueError):
        return False


def ensure_server() -> Server:
    """The server that is meant, started when it is a local one that does not run.

    Raises ServiceUnavailable when it is elsewhere and does not answer, or its port belongs to another program.
    """
    url, folder = api_url(), state_folder()
    with alone(folder):
        if server_answers(url):
            return Server(url=url, started=False)
        if any(process.name == "server" and process.url == url for process in living(folder)):
            return _wait_for_server(url, folder)
        start(_server_command(url, _free_port(url)), folder)
        return Server(url=url, started=True)


@contextmanager
def recorded_by_server() -> Iterator[Server]:
    """Flows called in this block are recorded by the server that is meant. Raises what `ensure_server` does."""
    server = ensure_server()
    with asking(server.url):
        let_bars_speak()
        try:
            yield server
        finally:
            send_what_is_left()


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Prefect's client asks the API `url` in this block. Raises ServiceUnavailable when that does not do what is asked.

    Its server may be healthy, as it says, and its database not: then Prefect tries for minutes before it gives up.
    """
    with temporary_settings({PREFECT_API_URL: url}):
        try:
            yield
        except httpx.HTTPError as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ServiceUnavailable(
                f"the Prefect server at {url} does not do what it is asked ({said}); look at its log and its database, "
                "then start this again; masks and tables that are written stay"
            ) from error


def send_what_is_left() -> None:
    """The logs and events of this process are at the server, or `SEND_SECONDS` have passed.

    What Prefect sends at the exit of the process instead would warn after the last line that is meant for people, and
    fail where the server is stopped first.
    """
    sending = Thread(target=EventsWorker.instance().wait_until_empty, daemon=True)
    sending.start()
    sending.join(SEND_SECONDS)
    APILogHandler().flush()


def prefect_environment() -> dict[str, str]:
    """The environment in which a `prefect` command reaches the server that is meant, from any folder."""
    return {
        **os.environ,
        "PREFECT_API_URL": api_url(),
        "PREFECT_HOME": str(get_current_settings().home),
        "PREFECT_PLUGINS_ENABLED": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def state_folder() -> Path:
    """Where logs, and what was started, are written down."""
    return get_current_settings().home / "segment-cohort"


def _retention() -> dict[str, str]:
    """What keeps the history from growing for ever, unless the site has decided about it: runs go after 90 days."""
    services = get_current_settings().server.services
    if services.db_vacuum.enabled_vacuum_types != {"events"}:  # which is Prefect's default: runs are kept for ever
        return {}
    return {"PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs"}


def _server_command(url: str, port: int) -> Command:
    return Command(
        name="server",
        arguments=[*PREFECT, "server", "start"],
        environment={
            **prefect_environment(),
            **_retention(),
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": str(port),  # not `--port`: with that alone the server's pages ask port 4200
        },
        directory=get_current_settings().home,
        url=url,
        ready=lambda: server_answers(url),
        seconds=READY_SECONDS,
    )


def _free_port(url: str) -> int:
    """The port at which a local server can be started so that `url` reaches it."""
    address = urlsplit(url)
    if address.scheme != "http" or address.hostname not in {"127.0.0.1", "localhost"} or address.path != "/api":
        raise ServiceUnavailable(
            f"no Prefect server answers at {url}, which PREFECT_API_URL names; start it, or unset PREFECT_API_URL"
        )
    port = address.port or 80
    with socket.socket() as trial:
        trial.settimeout(HEALTH_SECONDS)
        if trial.connect_ex(("127.0.0.1", port)) == 0:
            raise ServiceUnavailable(
                f"port {port} of 127.0.0.1 is taken by a program that is not a healthy Prefect server; "
                "end it, or set PREFECT_API_URL to http://127.0.0.1:PORT/api with a free port"
            )
    return port


def _wait_for_server(url: str, folder: Path) -> Server:
    """The server that was started here, once it answers. It is not restarted: a night may be running on it."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server_answers(url):
            return Server(url=url, started=False)
        time.sleep(1)
    raise ServiceUnavailable(
        f"the Prefect server at {url} runs, but did not answer for {READY_SECONDS:g} seconds; "
        f"read {folder / 'server.log'}, then `segment-cohort down` and try again"
    )
