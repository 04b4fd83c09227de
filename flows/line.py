"""Waiting for stages that work side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from prefect.futures import PrefectFuture, as_completed

Stage: TypeAlias = PrefectFuture[Any]
"""A stage at work on a shard."""


def ended(line: Sequence[Stage], waited_for: Sequence[Stage]) -> None:
    """Returns when those `waited_for` have ended. Raises at once what any of the `line` raised.

    The stages before one that broke would wait for ever, with what they have for it in hand.
    """
    left = {stage.task_run_id for stage in waited_for}
    for stage in as_completed(list(line)):
        stage.result()
        left -= {stage.task_run_id}
        if not left:
            return
