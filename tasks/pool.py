"""Dask processes that take the cases of a shard, and what is done when one of them dies or hangs.

Plain futures in a window as wide as the pool, which stages that work side by side share, gathered and released one
by one: measured to lose nothing and to repeat least when a case kills its worker (`docs/operations.md`). Cases that
take milliseconds travel several in a future, for a future costs as much. Nothing here knows what a stage computes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

import dask
import psutil
from distributed import Client, Future, Security
from distributed.scheduler import KilledWorker

from tasks.belt import Belt, Line, belt_of, take
from tasks.cluster import certificates, client_of, reach, start_local
from tasks.nursery import prepare_nursery
from tasks.pool_config import PoolConfig
from tasks.progress import progress_bar
from tasks.restart import Own, fill_anew, restart_worker_of
from tasks.scan.errors import ServiceUnavailable
from tasks.scan.records import Outcome
from tasks.slots import forget, slots_of
from tasks.window import TOGETHER, Window
from tasks.work import Batch, Place, Work, attempt_here, blamed, fetch, overdue, pack, timed_out

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
MANY = 50
"""How many may share a future where it costs little to do them again: to read headers, or take checksums."""
CALM_SECONDS = 3.0
"""How long after a death the next suspect is tried."""
TRIES = 2
"""How often a case is tried alone that was in the hands of a process that died."""
CHECK_SECONDS = 1.0

_own: dict[str, Own] = {}
"""The local pools of this process by address."""


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
                "distributed.scheduler.allowed-failures": 0,  # who is tried again, and how often, is decided here
                "distributed.worker.multiprocessing-method": "forkserver",
                "distributed.worker.profile.enabled": False,  # nobody reads it, and it takes 2 % of each core
                "distributed.admin.tick.interval": "200ms",
                "distributed.admin.low-level-log-length": 100,  # of its last messages, with the cases in them
            }
        ),
        start_local(count, memory, security) as cluster,
    ):
        seen = frozenset(nanny.pid for nanny in cluster.workers.values())
        _own[cluster.scheduler_address] = Own(cluster=cluster, count=count, seen=seen)
        certificates[cluster.scheduler_address] = security
        try:
            yield cluster.scheduler_address
        finally:
            del _own[cluster.scheduler_address]
            forget(cluster.scheduler_address)
            del certificates[cluster.scheduler_address]


def map_cases(
    pool: str,
    stage: str,
    function: Callable[..., B],
    cases: Sequence[Outcome[Any]],
    *arguments: Any,
    seconds: float | None = None,
    together: int = TOGETHER,
) -> list[Outcome[B]]:
    """`function(value, *arguments)` of every case that has a value, in the pool, in the order of `cases`.

    A case that fails, kills its worker or takes more than `seconds` (None: `CASE_SECONDS`) becomes an outcome with its
    problem; one that failed before passes by. Of quick ones, `together` may share a future.
    """
    if all(case.value is None for case in cases):
        return list(cases)
    limit = seconds or CASE_SECONDS
    work = Work(stage=stage, function=function, arguments=arguments, seconds=limit, together=together)
    done = {place: after for place, _, after in _work_through(pool, work, belt_of(cases), len(cases))}
    return [done[place] for place in range(len(cases))]


def stream_cases(
    pool: str, stage: str, function: Callable[..., B], cases: Line[A], *arguments: Any
) -> Iterator[tuple[Outcome[A], Outcome[B]]]:
    """Each case as it arrived, and what `map_cases` makes of it, as soon as it is finished; more may still arrive."""
    work = Work(stage=stage, function=function, arguments=arguments, seconds=CASE_SECONDS, together=TOGETHER)
    for _, before, after in _work_through(pool, work, belt_of(cases), None):
        yield before, after


def _work_through(pool: str, work: Work, belt: Belt[Any], total: int | None) -> Iterator[Step]:
    """Place in the line, case, and result of each case on `belt`, as they finish.

    Raises ServiceUnavailable when there is no worker any more, or the scheduler is gone.
    """
    packed = pack(replace(work, seen=_own[pool].seen) if pool in _own else work)
    with client_of(pool, BUSY_SECONDS) as client, progress_bar(work.stage, total) as bar:
        window = Window(client=client, work=work, packed_work=packed, belt=belt, slots=slots_of(client, pool))
        try:
            for step in _run_window(window):
                bar.advance()
                yield step
        except (CancelledError, OSError) as error:  # also that it took too long to answer
            if client.status == "running":
                raise
            raise ServiceUnavailable(
                f"{pool}: this Dask scheduler is gone, and with it what it had in hand; start it and its workers, then "
                "the run again"
            ) from error
        finally:
            for future in window.running:
                future.cancel()


def _run_window(window: Window) -> Iterator[Step]:
    places, checked = count(), time.monotonic()
    while True:
        rings = window.belt.stop.bell.rings
        yield from _take_in(window, places)
        if not window.running and not _try_suspect(window):
            return
        finished = _finished(window, rings)
        if not finished and time.monotonic() - checked > CHECK_SECONDS:
            _check_workers(window.client)
            checked = time.monotonic()
        for future in finished:
            batch = window.running.pop(future)
            try:
                results = batch.answer.result()
            except KilledWorker:
                if all(window.alone[place] < TRIES for place, _ in batch.cases):
                    window.suspects.extend(batch.cases)
                    window.last_death = time.monotonic()
                    continue
                results = blamed(future, window.work.stage, batch)
            except TimeoutError:  # its worker died after it ended, and before it was fetched: it is being done again
                _wait_for(window, future, batch.cases, has_slot=False)
                _check_workers(window.client)
                continue
            window.recent.append(sum(one.costs[-1].seconds for one in results if one.costs) / len(results))
            yield from ((place, case, result) for (place, case), result in zip(batch.cases, results, strict=True))
        yield from _end_late(window)


def _take_in(window: Window, places: Iterator[int]) -> Iterator[Step]:
    """Submits what has arrived while there is a slot; waits only when nothing is running. Failed cases pass by."""
    while True:
        idle = not window.running
        if not idle and not window.slots.acquire(blocking=False):
            return
        cases, passing = _arrived(window, places, wait=idle)
        if cases and idle:
            window.slots.acquire()
        if cases:
            _submit(window, cases)
        elif not idle:
            window.slots.release()
        yield from passing
        if not cases and not passing:
            return


def _arrived(window: Window, places: Iterator[int], *, wait: bool) -> tuple[list[Place], list[Step]]:
    """What is there for one future, and what failed before; with `wait`, as soon as there is anything."""
    cases: list[Place] = []
    passing: list[Step] = []
    while len(cases) < window.size and (case := take(window.belt, wait=wait and not cases and not passing)):
        if case.value is None:
            passing.append((next(places), case, case))
        else:
            cases.append((next(places), case))
    return cases, passing


def _submit(window: Window, cases: Sequence[Place]) -> None:
    """Gives `cases` to the pool; a slot must have been taken for them."""
    future = window.client.submit(attempt_here, window.packed_work, pack([case for _, case in cases]), pure=False)
    _wait_for(window, future, cases, has_slot=True)


def _wait_for(window: Window, future: Future[Any], cases: Sequence[Place], *, has_slot: bool) -> None:
    """`future` is running from now on, until its outcomes are here; the slot that it may have is free then.

    They are fetched when it ends, not when its stage has time for it, and before its process is given anything else,
    which may end that process, and with it whatever it still holds.
    """
    batch = Batch(cases=tuple(cases), since=time.monotonic())
    window.running[future] = batch
    future.add_done_callback(lambda ended: _ended(window, ended, batch, has_slot=has_slot))


def _try_suspect(window: Window) -> bool:
    """Gives the next of the suspects to the pool, by itself; False when there is none.

    Not at once after a death: what ended one process may be ending the others, too, and that is no case's fault.
    """
    if not window.suspects:
        return False
    time.sleep(max(0.0, window.last_death + CALM_SECONDS - time.monotonic()))
    _check_workers(window.client)
    suspect = window.suspects.pop(0)
    window.alone[suspect[0]] += 1
    window.slots.acquire()
    _submit(window, [suspect])
    return True


def _end_late(window: Window) -> Iterator[Step]:
    """What has run for too long, if anything has, after its worker was restarted without it."""
    late = overdue(window.running, window.work)
    if late is None:
        return
    batch = window.running.pop(late)
    restart_worker_of(window.client, late)
    _check_workers(window.client)
    window.running.update({future: other.anew() for future, other in window.running.items()})
    if len(batch.cases) > 1:
        window.suspects.extend(batch.cases)
    else:
        yield from ((place, case, timed_out(case, window.work)) for place, case in batch.cases)


def _ended(window: Window, future: Future[Any], batch: Batch, *, has_slot: bool) -> None:
    fetch(future, batch.answer)
    if has_slot:
        window.slots.release()
    window.belt.stop.bell.ring()


def _finished(window: Window, rings: int) -> list[Future[Any]]:
    """The futures whose outcomes are here; while none is, it waits for a ring after `rings`, a second at most."""
    if not any(batch.answer.done() for batch in window.running.values()):
        window.belt.stop.bell.wait(rings, CHECK_SECONDS)
    return [future for future, batch in window.running.items() if batch.answer.done()]


def _check_workers(client: Client) -> None:
    """Sees to it that there is a worker, or raises ServiceUnavailable: without one, nothing would ever end.

    Dask's nanny can lose a process that dies at the wrong moment. A pool of our own is then filled anew.
    """
    try:
        client.sync(_wait_for_worker, client, GONE_SECONDS)
    except TimeoutError:
        if client.status != "running":  # it is not the workers that are gone
            raise
        if own := _own.get(str(client.scheduler_info(n_workers=0)["address"])):
            fill_anew(own)
        try:
            client.sync(_wait_for_worker, client, CONNECT_SECONDS)
        except TimeoutError as error:
            raise ServiceUnavailable("all worker processes of the pool are gone; start the run again") from error


async def _wait_for_worker(client: Client, seconds: float) -> None:
    """Raises TimeoutError when there is none, also because the scheduler does not answer: by itself, Dask would ask it
    for as long as it may be busy."""
    scheduler: Any = client.scheduler
    async with asyncio.timeout(seconds):
        while not any(one["status"] == "running" for one in (await scheduler.identity())["workers"].values()):
            await asyncio.sleep(0.1)
