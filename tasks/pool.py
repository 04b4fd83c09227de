"""Dask processes that take the cases of a shard, one at a time each, and what is done when one of them dies or hangs.

Plain futures in a window as wide as the pool, which stages that work side by side share, gathered and released one
by one: measured to lose nothing and to repeat least when a case kills its worker (`docs/operations.md`). Nothing here
knows what a stage computes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import dask
import psutil
from distributed import Client, Future, LocalCluster, Security, wait

from tasks.belt import Belt, Line, at_end, belt_of, take
from tasks.cluster import certificates, client_of, reach
from tasks.nursery import ENVIRONMENT, prepare_nursery
from tasks.pool_config import PoolConfig
from tasks.progress import progress_bar
from tasks.restart import fill_anew, overdue, restart_worker_of
from tasks.scan.errors import ServiceUnavailable
from tasks.scan.records import Outcome
from tasks.work import Work, attempt_each, attempt_here, collect, killed, timed_out

A = TypeVar("A")
B = TypeVar("B")
Step = tuple[int, Outcome[Any], Outcome[Any]]
CASE_SECONDS = 1800.0
"""How long one stage may take for one case before its worker is restarted without it."""
CONNECT_SECONDS = 30
BUSY_SECONDS = 600
"""How long a pool that is there may be too busy to answer: a machine under load must not cost the night."""
GONE_SECONDS = 30
"""How long a pool may be without any process before it is filled anew."""
CHUNK = 50
"""Small cases that travel together: a future costs about 2 ms, which is more than reading a header does."""

CHECK_SECONDS = 1.0
ARRIVAL_SECONDS = 0.05
"""How long a stage that waits for its cases in hand looks away from those that arrive."""

_slots: dict[str, tuple[threading.Semaphore, int]] = {}
_slots_lock = threading.Lock()
_own: dict[str, tuple[LocalCluster, int]] = {}
"""The local pools of this process by address, and how many workers each is to have."""


@contextmanager
def open_pool(config: PoolConfig) -> Iterator[str]:
    """The scheduler's address: of the cluster that was named, or of a local one that ends with this block."""
    logging.getLogger("distributed").setLevel(logging.WARNING)  # who connects to whom is not the night's news
    if config.address:
        yield reach(config, CONNECT_SECONDS)
        return
    count = config.workers or os.cpu_count() or 1
    memory = int(config.memory_mb * 1e6 or psutil.virtual_memory().total * 0.8 / count)
    security = Security.temporary()  # others on this machine reach the port, too
    prepare_nursery()
    with (
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": 1,
                "distributed.worker.multiprocessing-method": "forkserver",
                "distributed.worker.profile.enabled": False,  # nobody reads it, and it takes 2 % of each core
                "distributed.admin.tick.interval": "200ms",
            }
        ),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            memory_limit=memory,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None means port 8787, of which a machine has one, on every interface
            env=ENVIRONMENT,
            security=security,
        ) as cluster,
    ):
        _own[cluster.scheduler_address] = (cluster, count)
        certificates[cluster.scheduler_address] = security
        try:
            yield cluster.scheduler_address
        finally:
            del _own[cluster.scheduler_address]
            _slots.pop(cluster.scheduler_address, None)
            del certificates[cluster.scheduler_address]


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
    if all(case.value is None for case in cases):
        return list(cases)
    work = Work(stage=stage, function=function, arguments=arguments, seconds=seconds or CASE_SECONDS)
    done = {place: after for place, _, after in _work_through(pool, work, belt_of(cases), len(cases))}
    return [done[place] for place in range(len(cases))]


def stream_cases(
    pool: str, stage: str, function: Callable[..., B], cases: Line[A], *arguments: Any
) -> Iterator[tuple[Outcome[A], Outcome[B]]]:
    """Each case as it arrived, and what `map_cases` makes of it, as soon as it is finished; more may still arrive."""
    work = Work(stage=stage, function=function, arguments=arguments, seconds=CASE_SECONDS)
    for _, before, after in _work_through(pool, work, belt_of(cases), None):
        yield before, after


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
    tried = map_cases(pool, stage, attempt_each, chunks, stage, function, arguments, seconds=seconds)
    for chunk, done in zip(chunks, tried, strict=True):
        if done.value is not None:
            results += done.value
        else:
            results += map_cases(pool, stage, function, chunk.value or (), *arguments, seconds=seconds)
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """The cases that one stage has in the pool just now, by future: place in the line, case, and since when.

    `slots` are as many as the pool has workers, for all stages together: so whatever is submitted starts at once.
    """

    client: Client
    work: Work
    belt: Belt[Any]
    slots: threading.Semaphore
    running: dict[Future[Any], tuple[int, Outcome[Any], float]] = field(default_factory=dict)
    suspects: list[tuple[int, Outcome[Any]]] = field(default_factory=list)
    """Cases that were in the hands of processes that died: they are tried again when the others are done, one by one.

    To Dask, whatever waits in a process that dies is as guilty as what it was doing; alone, a case is innocent or not.
    """
    alone: set[int] = field(default_factory=set)
    """Places of the suspects that are tried, or were."""


def _work_through(pool: str, work: Work, belt: Belt[Any], total: int | None) -> Iterator[Step]:
    """Place in the line, case, and result of each case on `belt`, as they finish."""
    with client_of(pool, BUSY_SECONDS) as client, progress_bar(work.stage, total) as bar:
        window = _Window(client=client, work=work, belt=belt, slots=_slots_of(client, pool))
        try:
            for step in _run_window(window):
                bar.advance()
                yield step
        finally:
            for future in window.running:
                future.cancel()


def _slots_of(client: Client, pool: str) -> threading.Semaphore:
    """As many as the pool has workers; a cluster that has grown has more."""
    workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    with _slots_lock:
        slots, size = _slots.get(pool, (threading.Semaphore(0), 0))
        if workers > size:
            slots.release(workers - size)
        _slots[pool] = (slots, max(size, workers))
        return slots


def _run_window(window: _Window) -> Iterator[Step]:
    places, checked = count(), time.monotonic()
    while True:
        yield from _take_in(window, places)
        if not window.running and not _try_suspect(window):
            return
        finished = _finished(window.running, window.belt)
        if not finished and time.monotonic() - checked > CHECK_SECONDS:
            _check_workers(window.client)
            checked = time.monotonic()
        for future in finished:
            place, case, _ = window.running.pop(future)
            if place not in window.alone and killed(future):
                window.suspects.append((place, case))
                continue
            try:
                result = collect(future, window.work.stage, case)
            except TimeoutError:  # its worker died after it ended, and before it was fetched: it is being done again
                window.running[future] = (place, case, time.monotonic())
                _check_workers(window.client)
                continue
            future.release()
            yield place, case, result
        yield from _end_late(window)


def _take_in(window: _Window, places: Iterator[int]) -> Iterator[Step]:
    """Submits what has arrived while there is a slot; waits only when nothing is running. Failed cases pass by."""
    while True:
        idle = not window.running
        if not idle and not window.slots.acquire(blocking=False):
            return
        case = take(window.belt, wait=idle)
        if case is None or case.value is None:
            if not idle:
                window.slots.release()
            if case is None:
                return
            yield next(places), case, case
            continue
        if idle:
            window.slots.acquire()
        _submit(window, next(places), case)


def _submit(window: _Window, place: int, case: Outcome[Any]) -> None:
    """Gives `case` to the pool; a slot must have been taken for it."""
    future = window.client.submit(attempt_here, window.work, case, pure=False)
    future.add_done_callback(lambda _: window.slots.release())  # when it ends, not when its stage has time for it
    window.running[future] = (place, case, time.monotonic())


def _try_suspect(window: _Window) -> bool:
    """Gives the next of the suspects to the pool, by itself; False when there is none."""
    if not window.suspects:
        return False
    place, case = window.suspects.pop(0)
    window.alone.add(place)
    window.slots.acquire()
    _submit(window, place, case)
    return True


def _end_late(window: _Window) -> Iterator[Step]:
    """The case that has run for too long, if there is one, after its worker was restarted without it."""
    late = overdue(window.running, window.work.seconds)
    if late is None:
        return
    place, case, _ = window.running.pop(late)
    restart_worker_of(window.client, late)
    _check_workers(window.client)
    for future, (number, other, _) in window.running.items():
        window.running[future] = (number, other, time.monotonic())
    yield place, case, timed_out(case, window.work)


def _finished(running: Mapping[Future[Any], Any], belt: Belt[Any]) -> list[Future[Any]]:
    """The futures that ended, waiting for the first: a second at most, and only briefly while more cases may arrive."""
    seconds = 1.0 if at_end(belt) else ARRIVAL_SECONDS
    try:
        return list(wait(list(running), timeout=seconds, return_when="FIRST_COMPLETED").done)
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
            fill_anew(*own)
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise ServiceUnavailable("all worker processes of the pool are gone; start the run again") from error
