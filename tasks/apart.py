"""A process apart, for work that may take its process with it or never end: who asks goes on, and it is begun anew.

It is born of the nursery (`tasks/nursery.py`), so that it has imported what it needs. It ends when its lines are
closed: with the process that asks, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from queue import Queue
from threading import Lock, Thread
from typing import Any

from tasks.nursery import prepare_nursery

END_SECONDS = 10.0
"""How long to wait for a process that was killed to be gone."""
MOST_LINES = 64
"""A line is a file descriptor, of which a new process is given no more than 250."""
OOM_KILLS = Path("/proc/vmstat")
"""Linux counts there how many processes it has ended because memory ran out."""


class DiedError(Exception):
    """The process ended while it worked on the question."""

    def __init__(self, exit_code: int | None, *, out_of_memory: bool) -> None:
        self.exit_code, self.out_of_memory = exit_code, out_of_memory
        super().__init__(_say_end(exit_code))


class OverdueError(Exception):
    """The answer took too long; the process was ended."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Life:
    """One process, the lines to it that nobody speaks on, and how many had been ended for memory when it began."""

    process: ForkServerProcess
    idle: Queue[Connection]
    oom_kills: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Apart:
    """Such a process, whichever it is just now; the first question begins it."""

    lines: int
    """So many may ask at once; each is answered by a thread of its own."""
    life: list[_Life] = field(default_factory=list)
    """The process that lives, if one does."""
    lock: Lock = field(default_factory=Lock)


def ask(apart: Apart, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function(*arguments)` returns, or raises, in the process apart.

    Raises DiedError when the process ends meanwhile, or OverdueError after `seconds`; whoever else had asked it is
    told that it died, and the next who asks gets another one.
    """
    life = _living(apart)
    line = life.idle.get()
    try:
        line.send((function, arguments))
        if not line.poll(seconds):
            _end(apart, life)
            raise OverdueError
        answered, answer = line.recv()
    except (EOFError, OSError):
        _end(apart, life)
        killed_for_memory = life.process.exitcode == -signal.SIGKILL and _count_oom_kills() > life.oom_kills
        raise DiedError(life.process.exitcode, out_of_memory=killed_for_memory) from None
    life.idle.put(line)
    if not answered:
        raise answer
    return answer


def end(apart: Apart) -> None:
    """The process is gone, if there was one."""
    with apart.lock:  # one that is just begun is waited for
        lives = list(apart.life)
    for life in lives:
        _end(apart, life)


def _living(apart: Apart) -> _Life:
    with apart.lock:
        if not apart.life:
            apart.life.append(_begin(apart.lines))
        return apart.life[0]


def _begin(lines: int) -> _Life:
    prepare_nursery()
    context = multiprocessing.get_context("forkserver")
    ends = [context.Pipe() for _ in range(lines)]
    process = context.Process(target=_serve, args=([there for _, there in ends],), daemon=True)
    counted = _count_oom_kills()
    process.start()
    idle: Queue[Connection] = Queue()
    for here, there in ends:
        there.close()
        idle.put(here)
    return _Life(process=process, idle=idle, oom_kills=counted)


def _end(apart: Apart, life: _Life) -> None:
    with apart.lock:
        if life in apart.life:
            apart.life.remove(life)
        if life.process.is_alive():
            life.process.kill()
        life.process.join(END_SECONDS)


def _serve(lines: Sequence[Connection]) -> None:
    """What the process does: it answers on all `lines`, until one is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells all at once; the one that asks decides
    for line in lines[1:]:
        Thread(target=_answer, args=(line,), daemon=True).start()
    _answer(lines[0])


def _answer(line: Connection) -> None:
    try:
        while True:
            asked = line.recv_bytes()
            try:
                function, arguments = pickle.loads(asked)
                answer = (True, function(*arguments))
            except Exception as error:  # noqa: BLE001 - raised again where it was asked
                answer = (False, error)
            line.send(answer)
    finally:  # nobody asks any more, or the answer cannot be sent: the other threads' work is for nobody either
        os._exit(0)


def _count_oom_kills() -> int:
    """How many processes the system has ended so far because memory ran out; 0 where it does not say."""
    try:
        counts = dict(line.split() for line in OOM_KILLS.read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return 0
    return int(counts.get("oom_kill", 0))


def _say_end(exit_code: int | None) -> str:
    if exit_code is not None and -exit_code in set(signal.Signals):
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with code {exit_code}"
