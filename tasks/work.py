"""What a process of the pool does with a case, and what comes back of one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import Future as Answer
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Any

import psutil
from distributed import Future
from distributed.protocol.pickle import dumps, loads

from tasks.attempt import attempt, failed, problem_of
from tasks.deaths import say_begun, why_it_died
from tasks.scan.errors import CaseTimedOut
from tasks.scan.records import Outcome

Place = tuple[int, Outcome[Any]]
"""A case, and which of those of its stage it is."""
FETCH_SECONDS = 10
"""How long to wait for the result of a case that has ended, each time; no other result is fetched meanwhile."""
BATCH_SECONDS = 60.0
"""How long cases that share a future, and should take a tenth of a second, may take before each is tried by itself."""
UP_SECONDS = 1.0
"""How old a process is before its first case; the nanny looks for it every 0.05 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is done to each case, for how long at most, and how many may be given to a process at once."""

    stage: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    seconds: float
    together: int
    seen: frozenset[int] = frozenset()
    """Ids of processes of which Dask's nanny knows that they are up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a process was given: cases with their places in the line, since when it has them, and what came of them."""

    cases: tuple[Place, ...]
    since: float
    answer: Answer[list[Outcome[Any]]] = field(default_factory=Answer)
    """Their outcomes, or what `fetch` says of them, when they have been fetched."""

    def anew(self) -> Batch:
        """The same, given just now."""
        return replace(self, since=time.monotonic())


@cache
def _settle_in(seen: frozenset[int]) -> None:
    """Waits till the process is old enough: one that dies before Dask's nanny saw it up is never started again."""
    if os.getpid() in seen:
        return
    time.sleep(max(0.0, min(UP_SECONDS, psutil.Process().create_time() + UP_SECONDS - time.time())))


def pack(value: Work | Sequence[Outcome[Any]]) -> bytes:
    """`value` as a process of the pool is given it. Dask's scheduler, which takes objects apart, hands bytes on."""
    packed: bytes = dumps(value)
    return packed


@lru_cache(maxsize=8)
def _unpack_work(packed: bytes) -> Work:
    """What is the same for all cases of a stage, kept: a process has few stages at a time."""
    work: Work = loads(packed)
    return work


def attempt_here(packed_work: bytes, packed_cases: bytes) -> list[Outcome[Any]]:
    """What a worker does with what it was given."""
    work = _unpack_work(packed_work)
    _settle_in(work.seen)
    say_begun()
    return [attempt(work.stage, work.function, case, *work.arguments) for case in loads(packed_cases)]


def fetch(future: Future[Any], answer: Answer[list[Outcome[Any]]]) -> None:
    """`answer` has the outcomes that `future`, which has ended, held, and its process need not keep them any longer.

    Or it raises KilledWorker when its process died, also while it was done again because its outcomes were lost with
    theirs; TimeoutError while it is being done again; CancelledError when nobody wants it any more.
    """
    try:
        if future.cancelled():
            raise CancelledError
        outcomes = future.result(timeout=FETCH_SECONDS)
        future.release()  # or they would be made again if that process died
        answer.set_result(outcomes)
    except BaseException as error:  # noqa: BLE001 - raised where the outcomes are waited for
        answer.set_exception(error)


def blamed(future: Future[Any], stage: str, batch: Batch) -> list[Outcome[Any]]:
    """The cases of `future`, each for having ended the processes it was tried in."""
    return [failed(case, problem_of(why_it_died(future, case.name, stage), stage)) for _, case in batch.cases]


def overdue(running: Mapping[Future[Any], Batch], work: Work) -> Future[Any] | None:
    """The longest running future, if it ran for longer than it may: cases that should be quick, for a minute."""
    alone, shared = work.seconds, min(work.seconds, BATCH_SECONDS)
    late = [
        (batch.since, future)
        for future, batch in running.items()
        if not future.done() and time.monotonic() - batch.since > (alone if len(batch.cases) == 1 else shared)
    ]
    return min(late, key=lambda pair: pair[0])[1] if late else None


def timed_out(case: Outcome[Any], work: Work) -> Outcome[Any]:
    """`case`, which took longer than it may."""
    error = CaseTimedOut(
        case.name,
        f"stage {work.stage} took more than {work.seconds:.0f} s",
        "a case that ends",
        "look at the scan's size with `segment-cohort ingest`, or run it alone",
    )
    return failed(case, problem_of(error, work.stage))
