"""The night's time: which cases are begun before the deadline, which are carried over, and when it will all be done."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from prefect import get_run_logger

from tasks.scan.records import Case, Outcome, Problem, Scores

T = TypeVar("T")
MOST = 50
"""With a deadline, so many are begun together at most: how many pass in a second is known when they have."""
UNKNOWN = 4
"""With a deadline and no idea how long a case takes, so many are begun together at first."""


def seconds_until(clock: str, now: datetime) -> float:
    """How long it is from `now` (local time, without a zone) until the `clock` next shows HH:MM.

    A clock that is put forward or back in between, as in spring and autumn, is counted.

    >>> seconds_until("06:00", datetime.fromisoformat("2026-03-02T23:30:00"))
    23400.0
    """
    hour, minute = (int(part) for part in clock.split(":"))
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    then = today if today > now else today + timedelta(days=1)
    return then.timestamp() - now.timestamp()


def batches(cases: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`cases`, `size` at a time, in their order."""
    for first in range(0, len(cases), size):
        yield cases[first : first + size]


def in_time(
    waiting: list[Outcome[Case]], size: int, expected: Mapping[str, float], deadline: float | None
) -> Iterator[Sequence[Outcome[Case]]]:
    """Those `waiting`, `size` at a time at most; with a `deadline` (of `time.monotonic`), while there is time.

    They leave the list when their turn comes, so that it holds those that were not begun. `expected` are processor
    seconds by case. How many of them pass in a second of the night is measured as it goes; until then they are taken
    to pass one after the other.
    """
    began, done = time.monotonic(), 0.0
    size = size if deadline is None else min(size, MOST)
    _say_how_long(waiting, expected, 1 / (os.cpu_count() or 1))  # by history alone, as long as nothing is measured
    while waiting:
        left = math.inf if deadline is None else deadline - time.monotonic()
        pace = (time.monotonic() - began) / done if done else 1.0
        shard = choose(waiting, size, {name: pace * seconds for name, seconds in expected.items()}, left)
        if not shard:
            get_run_logger().warning("%d cases are carried over: the deadline is too near", len(waiting))
            return
        names = {case.name for case in shard}
        waiting[:] = [case for case in waiting if case.name not in names]
        yield shard
        done += sum(expected.get(name, 0.0) for name in names)
        _say_how_long(waiting, expected, (time.monotonic() - began) / done if done else None)


def choose(
    waiting: Sequence[Outcome[Case]], size: int, seconds: Mapping[str, float], left: float
) -> list[Outcome[Case]]:
    """The first of `waiting`, at most `size`, that together take less than what is `left`; longer ones are left out.

    Of cases that no time is known of, `UNKNOWN` are tried, as long as anything is left.
    """
    if left == math.inf:
        return list(waiting[:size])
    chosen: list[Outcome[Case]] = []
    unknown = 0
    for case in waiting:
        takes = seconds.get(case.name)
        unknown += takes is None
        if (left <= 0 or unknown > UNKNOWN) if takes is None else takes > left:
            continue
        chosen.append(case)
        left -= takes or 0.0
        if len(chosen) == size:
            break
    return chosen


def carried_over(case: Outcome[Case], until: str | None) -> Outcome[Scores]:
    """What becomes of a `case` that was not begun before `until`."""
    problem = Problem(
        stage="preprocess",
        status="carried_over",
        reason="deadline",
        message=f"case '{case.name}': not begun, because it would not have been done by {until}",
        remedy="nothing: the next night begins with it; if that happens each night, give it more time or processors",
    )
    other: Outcome[Any] = replace(case, value=None, problem=problem, found=case.value)
    return other


def _say_how_long(waiting: Sequence[Outcome[Case]], expected: Mapping[str, float], pace: float | None) -> None:
    if pace is None or not waiting or any(case.name not in expected for case in waiting):
        return
    seconds = pace * sum(expected[case.name] for case in waiting)
    end = (datetime.now().astimezone() + timedelta(seconds=seconds)).strftime("%H:%M")
    get_run_logger().info("%d cases to go: about %.0f minutes, until %s", len(waiting), seconds / 60, end)
