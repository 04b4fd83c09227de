"""The belts between stages that work side by side: what one has finished, the next takes; a full belt stops the first.

So the work files on disk are bounded: no stage is more than a belt ahead of the next, and a belt is the sooner full the
larger the files that lie on it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import Any, Generic, TypeVar

from tasks.scan.records import OnDisk, Outcome

T = TypeVar("T")
LONGEST, LARGEST_BYTES = 16, 5e8
"""What a belt has room for: so many cases, enough for each process of the next stage to take several at a time; or so
many bytes of work files, and the case that makes it more."""
POLL_SECONDS = 0.5
END_SECONDS = 5.0
"""How long stages that are to stop are waited for: what they use goes away after them, and not under their hands."""


class LineStoppedError(Exception):
    """The run ended, or another stage broke, while a stage was at work: it need not go on."""

    def __init__(self) -> None:
        super().__init__("the run, or another stage, ended meanwhile")


class Bell:
    """Rung when something happened that stages of a line may wait for: a case arrived, or a process has time."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.rings = 0
        """How often it was rung so far."""

    def ring(self) -> None:
        """All that wait go on."""
        with self._condition:
            self.rings += 1
            self._condition.notify_all()

    def wait(self, rings: int, seconds: float) -> None:
        """Returns when it was rung more than `rings` times: what happened since they were read is not missed."""
        with self._condition:
            self._condition.wait_for(lambda: self.rings > rings, seconds)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stop:
    """Whether a line is to stop, and what stopped it: the first error of any of its stages."""

    event: threading.Event = field(default_factory=threading.Event)
    causes: list[BaseException] = field(default_factory=list)
    at_work: list[None] = field(default_factory=list)
    """One for each stage that is at work."""
    bell: Bell = field(default_factory=Bell)
    """Of the line, whose stages share the processes."""

    def now(self) -> None:
        """The line is to stop, which all that wait hear."""
        self.event.set()
        self.bell.ring()


class Room(Queue[Outcome[T] | None]):
    """A queue that is as full as what is in it is heavy."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._weights: deque[int] = deque()

    def _put(self, item: Outcome[T] | None) -> None:
        super()._put(item)
        self._weights.append(weight(item))

    def _get(self) -> Outcome[T] | None:
        self._weights.popleft()
        return super()._get()

    def _qsize(self) -> int:
        return sum(self._weights)


def weight(outcome: Outcome[Any] | None) -> int:
    """What `outcome` takes of a belt that has room for LONGEST: 1, or its work file's share of LARGEST_BYTES."""
    if outcome is None or not isinstance(outcome.value, OnDisk):
        return 1
    try:
        size = outcome.value.work_file.stat().st_size
    except OSError:  # the stage that reads it will say so
        return 1
    return max(1, math.ceil(LONGEST * size / LARGEST_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Belt(Generic[T]):
    """Outcomes on their way to the next stage; None says that no more will come."""

    queue: Queue[Outcome[T] | None] = field(default_factory=lambda: Room(LONGEST))
    stop: Stop = field(default_factory=Stop)
    """One for all belts of a line: a stage that broke takes nothing more, and the one before it would wait for ever."""


Line = Sequence[Outcome[T]] | Belt[T]
"""What a stage works through: cases that are all there, or those that arrive on a belt."""


@contextmanager
def belts(count: int, after: Line[Any] = ()) -> Iterator[Sequence[Belt[Any]]]:
    """`count` belts of a line of stages, those of a longer line where they come `after` another of its belts.

    The line stops when one of its stages breaks, or this block is left by an exception; raises what the stage raised.
    """
    stop = after.stop if isinstance(after, Belt) else Stop()
    try:
        yield [Belt(stop=stop) for _ in range(count)]
    except BaseException as error:
        stop.now()
        if not isinstance(after, Belt):  # the whole line: its parts need not wait each for themselves
            _let_stages_end(stop)
        if isinstance(error, LineStoppedError):
            raise (stop.causes or [error])[0] from None
        raise


def _let_stages_end(stop: Stop) -> None:
    deadline = time.monotonic() + END_SECONDS
    while stop.at_work and time.monotonic() < deadline:
        time.sleep(END_SECONDS / 100)


def belt_of(line: Line[T]) -> Belt[T]:
    """`line` as a belt."""
    if isinstance(line, Belt):
        return line
    belt: Belt[T] = Belt(queue=Queue())
    for outcome in line:
        belt.queue.put(outcome)
    belt.queue.put(None)
    return belt


def take(belt: Belt[T], *, wait: bool) -> Outcome[T] | None:
    """The next outcome on `belt`, if it is there or `wait` is true; None when it is not, or none will come.

    Raises LineStoppedError when the run ended meanwhile.
    """
    while not belt.stop.event.is_set():
        try:
            outcome = belt.queue.get(block=wait, timeout=POLL_SECONDS)
        except Empty:
            if wait:
                continue
            return None
        if outcome is None:
            belt.queue.put(None)  # whoever asks again is told again
        return outcome
    raise LineStoppedError


def arriving(line: Line[T]) -> Iterator[Outcome[T]]:
    """Each outcome of `line` when it arrives."""
    belt = belt_of(line)
    while (outcome := take(belt, wait=True)) is not None:
        yield outcome


def hand_on(outcomes: Iterable[Outcome[T]], belt: Belt[T] | None) -> Iterator[Outcome[T]]:
    """`outcomes`, each put on `belt` as it comes, if there is one; then the belt is ended, or its line stopped."""
    try:
        with breaking(belt):
            for outcome in outcomes:
                _put(belt, outcome)
                yield outcome
    finally:
        _put(belt, None)


@contextmanager
def breaking(line: Line[Any] | None) -> Iterator[None]:
    """An error in this block stops the line of which `line` is a belt, and is what the run is told."""
    stop = line.stop if isinstance(line, Belt) else Stop()
    stop.at_work.append(None)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, LineStoppedError):
            stop.causes.append(error)
            stop.now()
        raise
    finally:
        stop.at_work.pop()


def _put(belt: Belt[T] | None, outcome: Outcome[T] | None) -> None:
    if belt is not None:
        put_unless_stopped(belt.queue, outcome, belt.stop)
        belt.stop.bell.ring()


def put_unless_stopped(queue: Queue[Any], thing: Any, stop: Stop) -> None:
    """Put `thing` into the `queue` when there is room, or, once the line is to stop, not at all."""
    while not stop.event.is_set():
        try:
            queue.put(thing, timeout=POLL_SECONDS)
        except Full:
            continue
        return


def finished(line: Sequence[Any]) -> list[Outcome[Any]]:
    """What the last of the futures in `line` returned, when all have ended. Raises what the first one raised."""
    results: list[list[Outcome[Any]]] = [stage.result() for stage in line]
    return results[-1]


def in_order(outcomes: Iterable[Outcome[T]], cases: Sequence[Outcome[Any]]) -> list[Outcome[T]]:
    """`outcomes`, which came as they were finished, in the order of `cases`."""
    place = {case.name: number for number, case in enumerate(cases)}
    return sorted(outcomes, key=lambda outcome: place[outcome.name])
