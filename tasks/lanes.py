"""Small cases pass through the network side by side, each on a core of its own; a large one has all cores to itself.

Cores that share a small volume wait for each other after each of its layers, the longer the more is going on beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from threading import Lock, Semaphore, Thread
from typing import Any, TypeVar

from tasks.belt import POLL_SECONDS, Belt, Line, LineStoppedError, arriving, belt_of, breaking, put_unless_stopped
from tasks.scan.records import Outcome

A = TypeVar("A")
B = TypeVar("B")


def side_by_side(
    work: Callable[[Outcome[A]], Outcome[B]], cases: Line[A], lanes: int, is_large: Callable[[Outcome[A]], bool]
) -> Iterator[Outcome[B]]:
    """`work` of each of `cases` as it is finished, `lanes` of them at a time; those that are large one at a time."""
    belt = belt_of(cases)
    done: Queue[Outcome[B] | BaseException | None] = Queue(lanes)
    free, gate = Semaphore(lanes), Lock()

    def lane() -> None:
        try:
            for case in arriving(belt):
                with _room(free, gate, lanes if is_large(case) else 1):
                    outcome = work(case)
                put_unless_stopped(done, outcome, belt.stop)
            put_unless_stopped(done, None, belt.stop)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the outcomes
            put_unless_stopped(done, error, belt.stop)

    threads = [Thread(target=lane, daemon=True) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    try:
        with breaking(belt):
            yield from _until_all_ended(done, lanes, belt)
    except BaseException:
        belt.stop.now()
        raise
    finally:
        for thread in threads:
            thread.join()


@contextmanager
def _room(free: Semaphore, gate: Lock, lanes: int) -> Iterator[None]:
    """In this block so many `lanes` are taken; who waits for all of them is not overtaken."""
    with gate:
        for _ in range(lanes):
            free.acquire()
    try:
        yield
    finally:
        free.release(lanes)


def _until_all_ended(
    done: Queue[Outcome[B] | BaseException | None], lanes: int, belt: Belt[Any]
) -> Iterator[Outcome[B]]:
    """What comes, until each of `lanes` has said None. Raises what one raised; LineStoppedError when the run ended."""
    while lanes:
        try:
            outcome = done.get(timeout=POLL_SECONDS)
        except Empty:
            if belt.stop.event.is_set():
                raise LineStoppedError from None
            continue
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            lanes -= 1
        else:
            yield outcome
