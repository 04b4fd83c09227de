"""The two ways in which `benchmarks/kills.py` runs a night, and what belongs to them: what to start, find and mend."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
from distributed import Client
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectException

from flows import services
from flows.processes import find, living
from flows.server import prefect_environment, state_folder

MARK = "PREFECT_HOME"
"""In the environment of everything that is started here: how it is told from what others started."""
BY_DEPLOYMENT = ("flow", "pool", "network", "nursery", "worker", "server")
BY_COMMAND = ("dask worker", "nanny", "scheduler", "command")
"""What can be killed of a night of either way."""
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Night:
    """A run that was started: whether it goes on, how it ended, and its process of a name, if that is there."""

    goes_on: Callable[[], bool]
    said: Callable[[], str]
    find: Callable[[str], psutil.Process | None]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where nights run: `start` one from a cohort's home into an output, and `mend` what was killed."""

    name: str
    start: Callable[[Path, Path], Night]
    mend: Callable[[], None]


@contextmanager
def deployed() -> Iterator[Site]:
    """Nights by `prefect deployment run segment-cohort`, on a local server and worker."""
    services.up()
    try:
        yield Site(
            name="by deployment",
            start=_start_deployment,
            mend=_mend_services,
        )
    finally:
        services.down()


def _mend_services() -> None:
    """As a site does: `up` starts what is missing."""
    if not _serviced():
        services.up()


def _start_deployment(home: Path, out: Path) -> Night:
    parameters = {
        "cohort": str(home / "in" / "scans"),
        "model": str(home / "model"),
        "output": str(out),
        "settings": {"references": str(home / "in" / "references"), "ingest": {"settle_seconds": 0}},
    }
    run: Any = run_deployment("segment-cohort/nightly", parameters=parameters, timeout=0)

    def processes() -> list[psutil.Process]:
        return [one for one in ours() if environment(one).get("PREFECT__FLOW_RUN_ID") == str(run.id)]

    def goes_on() -> bool:
        return bool(processes()) or (_serviced() and not _is_final(run.id))

    return Night(goes_on=goes_on, said=lambda: _state(run.id), find=lambda name: _part(name, processes()))


def _serviced() -> bool:
    return {process.name for process in living(state_folder())} >= {"server", "worker"}


def _state(run: UUID) -> str:
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run).state
    except (httpx.HTTPError, PrefectException, OSError):
        return "nobody knows: no server"
    return f"{state.name}: {state.message}" if state else "no state"


def _is_final(run: UUID) -> bool:
    return _state(run).startswith(("Completed", "Failed", "Crashed", "Cancelled"))


def _part(name: str, processes: list[psutil.Process]) -> psutil.Process | None:
    """The process called `name` of a night that has these `processes`."""
    if name in ("server", "worker"):
        return next((find(process) for process in living(state_folder()) if process.name == name), None)
    mothers = {process.pid for process in processes}
    forks = [process for process in processes if "forkserver" in " ".join(command_of(process))]
    nurseries = {process.pid for process in forks if _parent(process) not in {one.pid for one in forks}}
    found = {
        "flow": [process for process in processes if _parent(process) not in mothers],
        "nursery": [process for process in forks if process.pid in nurseries],
        "pool": [process for process in forks if process.pid not in nurseries and _listens(process)],
        "network": [process for process in forks if process.pid not in nurseries and not _listens(process)],
    }
    return next(iter(found[name]), None)


@contextmanager
def clustered(folder: Path) -> Iterator[Site]:
    """Nights by the command `segment-cohort run --dask`, on a scheduler and two workers, each with its own folder."""
    started: dict[str, subprocess.Popen[bytes]] = {}
    file = folder / "scheduler.json"

    def mend() -> None:
        _start_missing(started, folder, file)

    try:
        mend()
        yield Site(
            name="by command, on a cluster",
            start=lambda home, out: _start_command(home, out, file, started),
            mend=mend,
        )
    finally:
        for process in reversed(started.values()):
            process.terminate()
        for process in started.values():
            process.wait(30)
        services.down()


def _start_missing(started: dict[str, subprocess.Popen[bytes]], folder: Path, file: Path) -> None:
    """Starts the scheduler and the workers that do not run, as somebody who looks after them would."""
    for name in ("scheduler", "worker-1", "worker-2"):
        if name in started and started[name].poll() is None:
            continue
        if name == "scheduler":
            file.unlink(missing_ok=True)
            _end(started)
        own = folder / name
        own.mkdir(exist_ok=True)
        common = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
        command = (
            ["scheduler", *common, "--port", "0"] if name == "scheduler" else ["worker", *common, "--nthreads", "1"]
        )
        started[name] = subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            cwd=own,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.DEVNULL,
        )
        while name == "scheduler" and not file.exists():
            time.sleep(0.1)
    with Client(scheduler_file=str(file), timeout=60) as client:
        client.wait_for_workers(2, timeout=60)


def _end(started: dict[str, subprocess.Popen[bytes]]) -> None:
    """Workers of a scheduler that is gone would never find the new one."""
    for process in started.values():
        process.terminate()
    for process in started.values():
        process.wait(60)
    started.clear()


def _start_command(home: Path, out: Path, file: Path, started: dict[str, subprocess.Popen[bytes]]) -> Night:
    with Client(scheduler_file=str(file), timeout=60) as client:
        address = client.scheduler.address
    settings = home / "settings.toml"
    settings.write_text("[ingest]\nsettle_seconds = 0\n")
    command = ["run", str(home / "in" / "scans"), "--references", str(home / "in" / "references")]
    command += ["--model", str(home / "model"), "--output", str(out), "--dask", address, "--settings", str(settings)]
    log = (home / f"{out.name}.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.command_line", *command],
        cwd=ROOT,
        env=prefect_environment(),
        stderr=log,
        stdout=log,
    )
    log.close()

    def part(name: str) -> psutil.Process | None:
        popen = {"scheduler": "scheduler", "nanny": "worker-1", "dask worker": "worker-1"}.get(name)
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(started[popen].pid if popen else process.pid)
            children = [one for one in found.children() if "resource_tracker" not in " ".join(command_of(one))]
            return (children or [None])[0] if name == "dask worker" else found
        return None

    return Night(goes_on=lambda: process.poll() is None, said=lambda: f"exit {process.poll()}", find=part)


def ours() -> list[psutil.Process]:
    """Every living process of this account with our mark, but this one."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and environment(process).get(MARK) == os.environ[MARK] and _lives(process)
    ]


def _listens(process: psutil.Process) -> bool:
    """Whether it takes connections, as a worker of Dask does, and the process of the network does not."""
    try:
        return any(one.status == psutil.CONN_LISTEN for one in process.net_connections())
    except psutil.Error:
        return False


def environment(process: psutil.Process) -> dict[str, str]:
    """Of a living process; nothing of one that is gone."""
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def command_of(process: psutil.Process) -> list[str]:
    """The command line of a living process; nothing of one that is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0
