"""Progress bars on a terminal, and on the run's page of the Prefect server; elsewhere a line a case and stage."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Bar]:
    """A bar of `total` steps called `title` on standard error, and as an artifact of the run, while the block runs."""
    tell = progress_artifact(title)
    with Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.fields[done]:>7}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task(title, total=total, done=f"0/{total}", note="")

        def advance() -> None:
            progress.advance(task)
            progress.update(task, done=f"{progress.tasks[0].completed:.0f}/{total}")
            tell(progress.tasks[0].completed / total)

        def show(share: float, text: str) -> None:
            progress.update(task, completed=share * total, done=f"{share:.0%}", note=text)
            tell(share)

        yield Bar(advance=advance, show=show)
