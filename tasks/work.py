"""What a process of the pool does with a case, and what comes back of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import psutil
from distributed import Future
from distributed.scheduler import KilledWorker

from tasks.attempt import attempt, failed, problem_of
from tasks.deaths import say_begun, why_it_died
from tasks.scan.errors import CaseTimedOut
from tasks.scan.records import Outcome

FETCH_SECONDS = 60
"""How long to wait for the result of a case that has ended."""
UP_SECONDS = 1.0
"""How old a process is before its first case; the nanny looks for it every 0.05 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is done to each case, and for how long at most."""

    stage: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    seconds: float


@cache
def _settle_in() -> None:
    """Waits till the process is old enough: one that dies before Dask's nanny saw it up is never started again."""
    time.sleep(max(0.0, min(UP_SECONDS, psutil.Process().create_time() + UP_SECONDS - time.time())))


def attempt_here(work: Work, case: Outcome[Any]) -> Outcome[Any]:
    """What a worker does with one case."""
    _settle_in()
    say_begun()
    return attempt(work.stage, work.function, case, *work.arguments)


def attempt_each(
    chunk: Sequence[Outcome[Any]], stage: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> list[Outcome[Any]]:
    """What a process does with several small cases."""
    return [attempt(stage, function, case, *arguments) for case in chunk]


def killed(future: Future[Any]) -> bool:
    """Whether `future`, which has ended, was given up because the processes that had it died."""
    return future.status == "error" and isinstance(future.exception(timeout=FETCH_SECONDS), KilledWorker)


def collect(future: Future[Any], stage: str, case: Outcome[Any]) -> Outcome[Any]:
    """The outcome that `future` holds, or that its case killed its workers."""
    try:
        result: Outcome[Any] = future.result(timeout=FETCH_SECONDS)
    except KilledWorker:
        return failed(case, problem_of(why_it_died(future, case.name, stage), stage))
    return result


def timed_out(case: Outcome[Any], work: Work) -> Outcome[Any]:
    """`case`, which took longer than it may."""
    error = CaseTimedOut(
        case.name,
        f"stage {work.stage} took more than {work.seconds:.0f} s",
        "a case that ends",
        "look at the scan's size with `segment-cohort ingest`, or run it alone",
    )
    return failed(case, problem_of(error, work.stage))
