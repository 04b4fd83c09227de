"""Processes of the pool that are ended and begun anew: the one that is stuck, or all, when none is left."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from distributed import Client, Future, LocalCluster

RESTART_SECONDS = 30
"""How long to wait for a restarted worker to come back; the others work on without it if it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A local pool, how many workers it is to have, and the ids of its first processes, which Dask saw up."""

    cluster: LocalCluster
    count: int
    seen: frozenset[int]


def fill_anew(pool: Own) -> None:
    """Ends what is left of the nannies of `pool`, and starts as many new ones as it is to have, with a process each."""
    pool.cluster.scale(0)
    deadline = time.monotonic() + RESTART_SECONDS
    while pool.cluster.workers and time.monotonic() < deadline:
        time.sleep(0.1)
    pool.cluster.scale(pool.count)


def restart_worker_of(client: Client, future: Future[Any]) -> None:
    """Free the worker that is stuck in `future`; the other cases it held are given to others."""
    processing = client.processing()
    future.cancel()
    stuck = [address for address, keys in processing.items() if future.key in keys]
    client.restart_workers(stuck, timeout=RESTART_SECONDS, raise_for_error=False)
