"""Everything a night needs on this machine: server, worker and deployments. Started by `up`, stopped by `down`.

Only what is missing is started, and only what was started here is stopped.
"""

from __future__ import annotations

import logging
import platform
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus, WorkPoolFilter, WorkPoolFilterName
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.automations import register_automations
from flows.crashed import mark_crashed_runs
from flows.processes import Background, Command, alone, living, start, stop
from flows.server import (
    PREFECT,
    READY_SECONDS,
    Server,
    api_url,
    asking,
    ensure_server,
    prefect_environment,
    recorded_by_server,
    server_answers,
    state_folder,
)
from tasks.scan.errors import ServiceUnavailable

__all__ = [
    "Server",
    "Services",
    "api_url",
    "describe",
    "down",
    "ensure_server",
    "prefect_environment",
    "recorded_by_server",
    "register",
    "server_answers",
    "up",
]

PREFECT_FILE = Path(__file__).resolve().parents[1] / "deployments" / "prefect.yaml"
POOL = "segment-cohort"
STOP_SECONDS = {"worker": 30.0, "server": 15.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What runs after `up`."""

    url: str
    """Of the server's API."""
    processes: tuple[Background, ...]
    """Those that were started here, now or earlier; a server that somebody else runs is not among them."""
    started: tuple[str, ...]
    """The names of those that this call started; empty when all were running."""
    paused: tuple[str, ...]
    """Deployments with a schedule that somebody paused; it stays paused."""


def up(prefect_file: Path = PREFECT_FILE) -> Services:
    """The running server and worker, with all deployments of `prefect_file` registered; starts only what is missing.

    `prefect_file` lies in a folder of the project; the flows and paths in it are relative to the project.
    Raises ServiceUnavailable, with the end of a log or of a command's output, when something does not start.
    """
    prefect_file = prefect_file.resolve()
    project = prefect_file.parents[1]
    if not prefect_file.is_file():
        raise ServiceUnavailable(f"there is no '{prefect_file}'; install segment-cohort editable, from its repository")
    server = ensure_server()
    with alone(state_folder()), asking(server.url):
        _mark_crashed_runs(server.url)
        worker_started = _ensure_worker(project)
        paused = _register(prefect_file)
    return Services(
        url=server.url,
        processes=tuple(process for process in living(state_folder()) if process.url == server.url),
        started=("server",) * server.started + ("worker",) * worker_started,
        paused=paused,
    )


def register(prefect_file: Path = PREFECT_FILE) -> tuple[str, ...]:
    """The paused deployments, after all of `prefect_file` were registered where server and worker run otherwise.

    Raises ServiceUnavailable when the server that is meant does not answer, or does not take them.
    """
    url = api_url()
    if not server_answers(url):
        raise ServiceUnavailable(f"no Prefect server answers at {url}; start it, or set PREFECT_API_URL")
    with asking(url):
        return _register(prefect_file.resolve())


def _register(prefect_file: Path) -> tuple[str, ...]:
    _run_prefect("deploy", "--all", "--prefect-file", str(prefect_file), directory=prefect_file.parents[1])
    register_automations(prefect_file.parent)
    return _paused()


def down(names: Collection[str] = ("worker", "server")) -> list[str]:
    """What was stopped: of the processes that `up` and `ensure_server` started, those that still ran; server last.

    A run that the worker was executing ends with it, and is Crashed.
    """
    stopped = []
    with alone(state_folder()):
        for process in sorted(living(state_folder()), key=lambda process: process.name == "server"):
            if process.name == "server":
                _mark_now_or_later(process.url)
            if process.name in names and stop(process, state_folder(), STOP_SECONDS[process.name]):
                stopped.append(_say(process))
    return stopped


def describe(services: Services) -> str:
    """For people: what runs where, what is paused, and how to stop it."""
    lines = [f"Prefect: {services.url.removesuffix('/api')}"]
    lines += [f"{_say(process)}, log: {process.log}" for process in services.processes]
    lines += [f"the schedule of {name} is paused" for name in services.paused]
    lines += [f"started now: {', '.join(services.started) or 'nothing, all were running'}"]
    return "\n".join([*lines, "stop with: segment-cohort down"])


def _say(process: Background) -> str:
    return f"{process.name} (process {process.pid})"


def _mark_crashed_runs(url: str) -> None:
    """Runs without a process are Crashed on the server at `url`, if it was started here and answers."""
    ours = any(process.name == "server" and process.url == url for process in living(state_folder()))
    if ours and server_answers(url):
        with asking(url):
            mark_crashed_runs()


def _mark_now_or_later(url: str) -> None:
    """As `_mark_crashed_runs`, but a server that cannot do it, and is stopped next, is not in the way of that."""
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            _mark_crashed_runs(url)
    except ServiceUnavailable as error:
        logging.getLogger("prefect").warning("runs without a process are marked by the next `up`: %s", error)


def _ensure_worker(project: Path) -> bool:
    """Whether a worker had to be started. It makes the work pool if there is none."""
    url, folder = api_url(), state_folder()
    if any(process.name == "worker" and process.url == url for process in living(folder)):
        return False
    name = f"{platform.node()}-{uuid4().hex[:8]}"
    options = ("--pool", POOL, "--type", "process", "--name", name, "--install-policy", "never")
    worker = Command(
        name="worker",
        arguments=[*PREFECT, "worker", "start", *options],
        environment=prefect_environment(),
        directory=project,
        url=url,
        ready=lambda: _worker_polls(name),
        seconds=READY_SECONDS,
    )
    start(worker, folder)
    return True


def _worker_polls(name: str) -> bool:
    online = WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"]))
    try:
        with get_client(sync_client=True) as client:
            return name in {worker.name for worker in client.read_workers_for_work_pool(POOL, worker_filter=online)}
    except httpx.HTTPError:  # The pool is not there before the first worker is.
        return False


def _paused() -> tuple[str, ...]:
    """The deployments of our work pool with a paused schedule."""
    ours = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    with get_client(sync_client=True) as client:
        deployments = client.read_deployments(work_pool_filter=ours)
    return tuple(each.name for each in deployments if any(not schedule.active for schedule in each.schedules))


def _run_prefect(*arguments: str, directory: Path) -> None:
    """Runs the `prefect` command of this environment. Raises ServiceUnavailable with what it said when it fails."""
    done = subprocess.run(
        [*PREFECT, *arguments],
        env=prefect_environment(),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stdout.splitlines()[-15:])
        raise ServiceUnavailable(f"'prefect {' '.join(arguments)}' ended with code {done.returncode}:\n{said}")
