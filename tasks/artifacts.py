"""What the page of a run in Prefect's own interface says: how far it is, what came out, and where the report lies.

It is told to the server that records the run, in passing: a server that cannot take it costs a line in the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException

EVERY_SECONDS = 5.0
"""How often progress is told; a stage that takes less than this has nothing to tell."""
SUMMARY, PAGE = "summary", "report"

Show = Callable[[float], None]


def is_recorded() -> bool:
    """Whether this is part of a run that a Prefect server records."""
    return bool(FlowRunContext.get() or TaskRunContext.get())


def progress_artifact(title: str) -> Show:
    """A function that tells the share done (0 to 1) of the stage `title` to the server, every few seconds."""
    if not is_recorded():
        return lambda _: None
    told: dict[str, Any] = {"at": time.monotonic(), "artifact": None}

    def show(share: float) -> None:
        now = time.monotonic()
        if now - told["at"] < EVERY_SECONDS and not (told["artifact"] and share >= 1):
            return
        told["at"] = now
        percent = round(100 * min(max(share, 0.0), 1.0), 1)
        with _in_passing():
            if told["artifact"]:
                update_progress_artifact(told["artifact"], progress=percent)
            else:
                told["artifact"] = create_progress_artifact(percent, progress_key(title), f"stage {title}")

    return show


def progress_key(title: str) -> str:
    """The key of the progress of a stage: Prefect takes small letters, digits and dashes.

    >>> progress_key("train 3")
    'train-3-progress'
    """
    return f"{title.lower().replace(' ', '-')}-progress"


def summary_artifacts(rows: Sequence[Mapping[str, Any]], page: Path, said: str) -> None:
    """The summary as a table, and where the page lies as a link; `said` is what became of the cases, in a sentence."""
    if not is_recorded():
        return
    with _in_passing():
        create_table_artifact(table=[dict(row) for row in rows], key=SUMMARY, description=said)
        create_link_artifact(link=page.as_uri(), link_text=str(page), key=PAGE, description="The page of this run")


@contextmanager
def _in_passing() -> Iterator[None]:
    try:
        yield
    except (PrefectException, httpx.HTTPError, OSError) as error:
        logging.getLogger("prefect").warning("the server did not take an artifact: %s", type(error).__name__)
