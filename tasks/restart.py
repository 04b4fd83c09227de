"""Processes of the pool that are ended and begun anew: the one that is stuck, or all, when none is left."""

from __future__ import annotations

import time
from typing import Any

from distributed import Client, Future, LocalCluster

RESTART_SECONDS = 30
"""How long to wait for a restarted worker to come back; the others work on without it if it does not."""


def fill_anew(cluster: LocalCluster, count: int) -> None:
    """Ends what is left of the pool's nannies, and starts `count` new ones with a process each."""
    cluster.scale(0)
    deadline = time.monotonic() + RESTART_SECONDS
    while cluster.workers and time.monotonic() < deadline:
        time.sleep(0.1)
    cluster.scale(count)


def restart_worker_of(client: Client, future: Future[Any]) -> None:
    """Free the worker that is stuck in `future`; the other cases it held are given to others."""
    processing = client.processing()
    future.cancel()
    stuck = [address for address, keys in processing.items() if future.key in keys]
    client.restart_workers(stuck, timeout=RESTART_SECONDS, raise_for_error=False)
