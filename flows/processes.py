"""Processes that outlive the command that started them: start, recognise, stop. What is remembered is a file.

A process is ours when its pid *and* the time it was created are those written down; a pid that the system has given to
another process since is never touched. Nothing here knows Prefect.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tasks.scan.errors import ServiceUnavailable
from tasks.scan.files import write_whole

CLOCK_SECONDS = 1.0
"""How far apart two readings of one process's creation may lie: the system derives it from the wall clock."""
POLL_SECONDS = 0.2
LOG_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """A process that was started here, as it is written down."""

    name: str
    pid: int
    created: float
    """Seconds since the epoch, as psutil reads them."""
    url: str
    """The API that it serves, or works for."""
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to start: name, arguments, environment, working directory, and how it is known to be ready."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    url: str
    ready: Callable[[], bool]
    seconds: float
    """How long it may take to become ready."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process is in such a block for the same `folder`, so that two commands never start the same thing."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def living(folder: Path) -> list[Background]:
    """Those written down in `folder` that still run, in the order of their start."""
    return [process for process in _read(folder) if find(process)]


def find(process: Background) -> psutil.Process | None:
    """The running process that `process` describes; None when it ended, even if its pid is in use again."""
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.created) <= CLOCK_SECONDS
        return found if same and found.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def start(command: Command, folder: Path) -> Background:
    """The new process, written down in `folder` and ready. Raises ServiceUnavailable with the end of its log."""
    log = folder / f"{command.name}.log"
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command.arguments,
            env=dict(command.environment),
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    created = psutil.Process(popen.pid).create_time()
    process = Background(name=command.name, pid=popen.pid, created=created, url=command.url, log=str(log))
    _write(folder, [*living(folder), process])
    try:
        problem = _await(command, popen)
    finally:  # It outlives this process on purpose: without a return code Python would warn that nobody waits for it.
        popen.returncode = popen.returncode or 0
    if problem:
        stop(process, folder, seconds=5)
        raise ServiceUnavailable(f"{problem}; the end of {log}:\n{_end_of(log)}")
    return process


def stop(process: Background, folder: Path, seconds: float) -> bool:
    """Whether `process` ran and was ended: asked first, and after `seconds` it and its children are killed."""
    found = find(process)
    if found:
        tree = [found, *found.children(recursive=True)]
        with suppress(psutil.NoSuchProcess):
            found.terminate()
        psutil.wait_procs([found], timeout=seconds)
        for member in tree:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(tree, timeout=seconds)
    _write(folder, living(folder))
    return found is not None


def _await(command: Command, popen: subprocess.Popen[bytes]) -> str:
    """Why `command` did not become ready; empty when it did."""
    deadline = time.monotonic() + command.seconds
    while time.monotonic() < deadline:
        if command.ready():
            return ""
        if popen.poll() is not None:
            return f"the {command.name} ended with code {popen.returncode} while it started"
        time.sleep(POLL_SECONDS)
    return f"the {command.name} was not ready within {command.seconds:g} seconds"


def _end_of(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:])


def _read(folder: Path) -> list[Background]:
    file = folder / "processes.json"
    if not file.exists():
        return []
    try:
        return [Background(**entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise ServiceUnavailable(f"'{file}' is damaged ({error}); end the processes by hand, then delete it") from error


def _write(folder: Path, processes: Sequence[Background]) -> None:
    content = json.dumps([asdict(process) for process in processes], indent=1)
    write_whole(folder / "processes.json", content.encode())
