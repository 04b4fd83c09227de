"""How many cases a pool has room for: as many as it has workers, for all stages together that share it."""

from __future__ import annotations

import threading

from distributed import Client

_slots: dict[str, tuple[threading.Semaphore, int]] = {}
"""By the pool's address; with how many there are, taken or free."""
_lock = threading.Lock()


def slots_of(client: Client, pool: str) -> threading.Semaphore:
    """As many as the pool has workers; a cluster that has grown has more."""
    workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    with _lock:
        slots, size = _slots.get(pool, (threading.Semaphore(0), 0))
        if workers > size:
            slots.release(workers - size)
        _slots[pool] = (slots, max(size, workers))
        return slots


def forget(pool: str) -> None:
    """That pool is closed."""
    _slots.pop(pool, None)
