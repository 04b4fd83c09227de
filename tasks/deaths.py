"""Why a case took its process with it: it outgrew the memory of a worker, or something else did it."""

from __future__ import annotations

from typing import Any

from distributed import Client, Future, get_worker

from tasks.scan.errors import CaseError, OutOfMemory, WorkerDied

BEGUN = "segment-cohort-begun"
"""The event with which a process says which future it begins."""
OVER_MEMORY = "worker-restart-memory"
"""The event that Dask's nanny sends when it ends a process for its memory."""


def say_begun() -> None:
    """Called by a worker, before anything that may end it: this process has this future in hand now."""
    worker = get_worker()
    worker.log_event(BEGUN, {"key": worker.get_current_task(), "worker": worker.address})


def why_it_died(future: Future[Any], case: str, stage: str) -> CaseError:
    """The error of a `case` whose process was ended each time it was tried in `stage`."""
    client: Client = future.client
    begun = [event for _, event in client.get_events(BEGUN)]
    workers = {event["worker"] for event in begun if event["key"] == future.key}
    ended = [event for _, event in client.get_events(OVER_MEMORY)]
    used = [event["rss"] for event in ended if event["worker"] in workers]
    if not used:
        return WorkerDied(
            case,
            f"stage {stage} killed its process each time it was tried",
            "a scan that can be processed within the memory of a worker",
            "run it alone with fewer --workers; if it dies again, the file itself is suspect",
        )
    return OutOfMemory(
        case,
        f"stage {stage} was stopped when it held {max(used) / 1e9:.1f} GB",
        "a scan that fits into the memory of a worker",
        "run with fewer --workers, which leaves more for each, or raise pool.memory_mb; then --retry",
    )
