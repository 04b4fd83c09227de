"""Progress bars on a terminal, and on the run's page of the Prefect server; elsewhere a line a case and stage."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tasks.artifacts import progress_artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A running progress bar: `advance()` counts one, `show(share, text)` sets it (share from 0 to 1)."""

    advance: Callable[[], None]
    show: Callable[[float, str], None]


def let_bars_speak() -> None:
    """On a terminal, warnings only are logged there: the bars say the rest, and the server has every line."""
    if not sys.stderr.isatty():
        return
    for handler in [*logging.getLogger("prefect").handlers, *logging.getLogger().handlers]:
        if isinstance(handler, PrefectConsoleHandler):
            handler.setLevel(logging.WARNING)


def outlive_the_terminal() -> None:
    """What is logged to a pipe that nobody reads any more is lost, and that is all.

    rich would end the thread that logs (SystemExit): one of the stages of a night whose Prefect worker was killed.
    """
    for handler in [*logging.getLogger("prefect").handlers, *logging.getLogger().handlers]:
        if isinstance(handler, PrefectConsoleHandler):
            _mute_when_closed(handler.console)


def _mute_when_closed(console: Console) -> Console:
    def mute() -> None:
        console.quiet = True

    console.on_broken_pipe = mute  # type: ignore[method-assign]
    return console


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Bar]:
    """A bar of `total` steps (None: nobody knows how many) called `title` on standard error, while the block runs.

    Bars that run at the same time stand below each other.
    """
    tell = progress_artifact(title)
    with _screen() as progress:
        task = progress.add_task(title, total=total, done="0" if total is None else f"0/{total}", note="")
        seen = count(1)

        def advance() -> None:
            number = next(seen)
            progress.update(task, advance=1, done=f"{number}" if total is None else f"{number}/{total}")
            if total:
                tell(number / total)

        def show(share: float, text: str) -> None:
            progress.update(task, completed=share * (total or 1), done=f"{share:.0%}", note=text)
            tell(share)

        try:
            yield Bar(advance=advance, show=show)
        finally:
            _take_away(task)


_shown: list[Progress] = []
_users: list[int] = []
_lock = threading.Lock()


@contextmanager
def _screen() -> Iterator[Progress]:
    """The one display that rich allows at a time; it lasts until its last user leaves."""
    with _lock:
        if not _shown:
            _shown.append(_display())
            _shown[0].start()
        _users.append(1)
    try:
        yield _shown[0]
    finally:
        with _lock:
            _users.pop()
            if not _users:
                _shown.pop().stop()


def _take_away(task: TaskID) -> None:
    """A bar that is through makes room for those of the next shard; the last one stays on the terminal."""
    with _lock:
        if len(_users) > 1:
            _shown[0].remove_task(task)


def _display() -> Progress:
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.fields[done]:>7}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=_mute_when_closed(Console(stderr=True)),
        disable=not sys.stderr.isatty(),
    )
