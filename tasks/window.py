"""What one stage has in the pool just now, and how many cases its next future may hold."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Future

from tasks.belt import Belt
from tasks.work import Batch, Place, Work

TOGETHER, TOGETHER_SECONDS = 4, 0.25
"""How many cases travel in a future at most, and about how long it takes. If one kills its process, the others in the
future are done again, and so are those of another that had just ended there, if they were not fetched yet: few, so that
one bad case of fifty costs less than ten executions more."""


@dataclass(slots=True, kw_only=True, eq=False)
class Window:
    """What one stage has in the pool, by future.

    `slots` are as many as the pool has workers, for all stages together: so whatever is submitted starts at once.
    """

    client: Client
    work: Work
    packed_work: bytes
    belt: Belt[Any]
    slots: threading.Semaphore
    running: dict[Future[Any], Batch] = field(default_factory=dict)
    suspects: list[Place] = field(default_factory=list)
    """Cases that were in the hands of processes that died: they are tried again when the others are done, one by one.

    To Dask, whatever waits in a process that dies is as guilty as what it was doing; alone, a case is innocent or not.
    """
    alone: Counter[int] = field(default_factory=Counter)
    """How often each of the suspects, by place, was tried alone, or is."""
    last_death: float = -math.inf
    """When a future was last found whose process had died, as `time.monotonic` has it."""
    recent: deque[float] = field(default_factory=lambda: deque([math.inf], maxlen=4))
    """Seconds a case of the last futures that ended."""

    @property
    def size(self) -> int:
        """How many cases the next future may hold."""
        return max(1, min(self.work.together, int(TOGETHER_SECONDS / max(*self.recent, 1e-6))))
