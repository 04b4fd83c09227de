"""Dask processes that take the cases of a shard, one at a time each, and what is done when one of them dies or hangs.

Plain futures in a window as wide as the pool, gathered and released one by one: measured to lose nothing and to repeat
least when a case kills its worker (`docs/operations.md`). Nothing here knows what a stage computes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import dask
import psutil
from distributed import Client, Future, LocalCluster, wait
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.registry import get_backend
from distributed.scheduler import KilledWorker

from tasks.attempt import attempt, failed, problem_of
from tasks.deaths import say_begun, why_it_died
from tasks.progress import progress_bar
from tasks.scan.errors import CaseTimedOut, ServiceUnavailable
from tasks.scan.records import FORBID_UNKNOWN, Outcome

B = TypeVar("B")
CASE_SECONDS = 1800.0
"""How long one stage may take for one case before its worker is restarted without it."""
CONNECT_SECONDS = 30
RESTART_SECONDS = 30
"""How long to wait for a restarted worker to come back; the others work on without it if it does not."""
FETCH_SECONDS = 60
"""How long to wait for the result of a case that has ended."""
GONE_SECONDS = 30
"""How long a pool may be without any process before it is filled anew."""
UP_SECONDS = 1.0
"""How long a new process waits before its first case; the nanny looks for it every 0.05 s."""
CHUNK = 50
"""Small cases that travel together: a future costs about 2 ms, which is more than reading a header does."""

_own: dict[str, tuple[LocalCluster, int]] = {}
"""The local pools of this process by address, and how many workers each is to have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Which processes do the CPU's share of the work."""

    __pydantic_config__ = FORBID_UNKNOWN

    workers: int = 0
    """Processes of the local pool; 0: one for each core."""
    memory_mb: float = 0
    """Memory that each of them may use; 0: an even share of four fifths of the machine's."""
    address: str | None = None
    """Address of a Dask scheduler to use instead, for example tcp://10.0.0.5:8786."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError("workers must be 0 (one for each core) or more")
        if self.memory_mb < 0:
            raise ValueError("memory_mb must be 0 (an even share) or more")
        if self.address is not None:
            _check_address(self.address)


def _check_address(address: str) -> None:
    """Raises ValueError when `address` cannot be one of a scheduler: Dask itself would try it for ever."""
    try:
        scheme, place = parse_address(address)
        get_backend(scheme)
        _, port = parse_host_port(place)
        if not 0 < port < 65536:
            raise ValueError(f"there is no port {port}")
    except ValueError as error:
        raise ValueError(f"'{address}' is no address like tcp://10.0.0.5:8786: {error}") from error


@contextmanager
def open_pool(config: PoolConfig) -> Iterator[str]:
    """The scheduler's address: of the cluster that was named, or of a local one that ends with this block."""
    logging.getLogger("distributed").setLevel(logging.WARNING)  # who connects to whom is not the night's news
    if config.address:
        try:
            with Client(config.address, timeout=CONNECT_SECONDS) as client:
                client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError) as error:
            raise ServiceUnavailable(
                f"no Dask scheduler with a worker answers at {config.address}: {error}; start it, or leave --dask out"
            ) from error
        yield config.address
        return
    count = config.workers or os.cpu_count() or 1
    memory = int(config.memory_mb * 1e6 or psutil.virtual_memory().total * 0.8 / count)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 2}),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            memory_limit=memory,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None means port 8787, of which a machine has one, on every interface
            env={"PREFECT_PLUGINS_ENABLED": "false"},  # they start an event loop, and a worker already runs one
        ) as cluster,
    ):
        _own[cluster.scheduler_address] = (cluster, count)
        try:
            yield cluster.scheduler_address
        finally:
            del _own[cluster.scheduler_address]


def map_cases(
    pool: str,
    stage: str,
    function: Callable[..., B],
    cases: Sequence[Outcome[Any]],
    *arguments: Any,
    seconds: float | None = None,
) -> list[Outcome[B]]:
    """`function(value, *arguments)` of every case that has a value, in the pool, in the order of `cases`.

    A case that fails, kills its worker or takes more than `seconds` (None: `CASE_SECONDS`) becomes an outcome with its
    problem; one that failed before passes by.
    """
    results: list[Outcome[B]] = [replace(outcome, value=None) for outcome in cases]
    waiting = [index for index, outcome in enumerate(cases) if outcome.value is not None]
    if not waiting:
        return results
    work = _Work(stage=stage, function=function, arguments=arguments, seconds=seconds or CASE_SECONDS)
    with Client(pool, timeout=CONNECT_SECONDS) as client, progress_bar(stage, len(waiting)) as bar:
        for index, result in _run_window(client, work, cases, waiting):
            results[index] = result
            bar.advance()
    return results


def map_small_cases(
    pool: str,
    stage: str,
    function: Callable[..., B],
    cases: Sequence[Outcome[Any]],
    *arguments: Any,
    seconds: float | None = None,
) -> list[Outcome[B]]:
    """What `map_cases` returns, for work of milliseconds on cases that all have a value: `CHUNK` of them a future.

    A chunk whose worker dies or that takes more than `seconds` is done again case by case, so that the one which did
    it is known, and costs only itself.
    """
    chunks = [
        Outcome(name=f"cases from {first + 1}", value=cases[first : first + CHUNK])
        for first in range(0, len(cases), CHUNK)
    ]
    results: list[Outcome[B]] = []
    tried = map_cases(pool, stage, _attempt_each, chunks, stage, function, arguments, seconds=seconds)
    for chunk, done in zip(chunks, tried, strict=True):
        if done.value is not None:
            results += done.value
        else:
            results += map_cases(pool, stage, function, chunk.value or (), *arguments, seconds=seconds)
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is done to each case, and for how long at most."""

    stage: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    seconds: float


def _run_window(
    client: Client, work: _Work, cases: Sequence[Outcome[Any]], waiting: list[int]
) -> Iterator[tuple[int, Outcome[Any]]]:
    """Index and result of each case in `waiting`, as they finish; no more are submitted than there are workers."""
    queue = iter(waiting)
    running: dict[Future[Any], tuple[int, float]] = {}
    width = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    while True:
        while len(running) < width and (index := next(queue, None)) is not None:
            future = client.submit(_attempt_here, work, cases[index], pure=False)
            running[future] = (index, time.monotonic())
        if not running:
            return
        finished = _finished(running)
        if not finished:
            _check_workers(client)
        for future in finished:
            index, _ = running.pop(future)
            try:
                yield index, _collect(client, future, work.stage, cases[index])
                future.release()
            except TimeoutError:  # its worker died after it ended, and before it was fetched: it is being done again
                running[future] = (index, time.monotonic())
                _check_workers(client)
        late = _overdue(running, work.seconds)
        if late is not None:
            index, _ = running.pop(late)
            _restart_worker_of(client, late)
            _check_workers(client)
            error = CaseTimedOut(
                cases[index].name,
                f"stage {work.stage} took more than {work.seconds:.0f} s",
                "a case that ends",
                "look at the scan's size with `segment-cohort ingest`, or run it alone",
            )
            yield index, failed(cases[index], problem_of(error, work.stage))
            running = {future: (number, time.monotonic()) for future, (number, _) in running.items()}


def _finished(running: dict[Future[Any], tuple[int, float]]) -> list[Future[Any]]:
    """The futures that ended, waiting up to a second for the first."""
    try:
        return list(wait(list(running), timeout=1.0, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return []


def _check_workers(client: Client) -> None:
    """Sees to it that there is a worker, or raises ServiceUnavailable: without one, nothing would ever end.

    Dask's nanny can lose a process that dies at the wrong moment. A pool of our own is then filled anew.
    """
    try:
        client.wait_for_workers(1, timeout=GONE_SECONDS)
    except TimeoutError:
        if own := _own.get(str(client.scheduler_info(n_workers=0)["address"])):
            _fill_anew(*own)
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise ServiceUnavailable("all worker processes of the pool are gone; start the run again") from error


def _fill_anew(cluster: LocalCluster, count: int) -> None:
    """Ends what is left of the pool's nannies, and starts `count` new ones with a process each."""
    cluster.scale(0)
    deadline = time.monotonic() + RESTART_SECONDS
    while cluster.workers and time.monotonic() < deadline:
        time.sleep(0.1)
    cluster.scale(count)


def _overdue(running: dict[Future[Any], tuple[int, float]], seconds: float) -> Future[Any] | None:
    """The longest running future, if it ran for longer than `seconds`."""
    late = [(since, future) for future, (_, since) in running.items() if time.monotonic() - since > seconds]
    return min(late, key=lambda pair: pair[0])[1] if late else None


def _restart_worker_of(client: Client, future: Future[Any]) -> None:
    """Free the worker that is stuck in `future`; the other cases it held are given to others."""
    processing = client.processing()
    future.cancel()
    stuck = [address for address, keys in processing.items() if future.key in keys]
    client.restart_workers(stuck, timeout=RESTART_SECONDS, raise_for_error=False)


def _collect(client: Client, future: Future[Any], stage: str, case: Outcome[Any]) -> Outcome[Any]:
    """The outcome that `future` holds, or that its case killed its workers."""
    try:
        result: Outcome[Any] = future.result(timeout=FETCH_SECONDS)
    except KilledWorker:
        return failed(case, problem_of(why_it_died(client, future, case.name, stage), stage))
    return result


@cache
def _settle_in() -> None:
    """Waits, once in the life of a process: one that dies before Dask's nanny saw it up is never started again."""
    time.sleep(UP_SECONDS)


def _attempt_here(work: _Work, case: Outcome[Any]) -> Outcome[Any]:
    """What a worker does with one case."""
    _settle_in()
    say_begun()
    return attempt(work.stage, work.function, case, *work.arguments)


def _attempt_each(
    chunk: Sequence[Outcome[Any]], stage: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> list[Outcome[Any]]:
    return [attempt(stage, function, case, *arguments) for case in chunk]
