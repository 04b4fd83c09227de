"""How many threads of a process compute, by the system's own account (Linux). Worker processes can import it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK
import torch

SECONDS = 0.5
TICKS_PER_SECOND = 100


def busy_threads(work: Callable[[], object]) -> int:
    """How many threads had at least a quarter of the processor's time while `work` went on for half a second of it.

    Python's other threads do not count: they are those of Dask, which have the more to do the longer that lasts.
    """
    others = {str(thread.native_id) for thread in threading.enumerate()} - {str(threading.get_native_id())}
    before, start = _ticks(), time.process_time()
    while time.process_time() - start < SECONDS:
        work()
    spent = {thread: ticks - before.get(thread, 0) for thread, ticks in _ticks().items() if thread not in others}
    return sum(ticks >= SECONDS * TICKS_PER_SECOND / 4 for ticks in spent.values())


def busy_with_all_libraries(_: int) -> int:
    """The same of what the stages compute with: products of matrices, torch's interpolation, a filter of ITK."""
    matrix = np.ones((500, 500), np.float32)
    volume = torch.ones(1, 1, 40, 40, 40)
    image = SimpleITK.GetImageFromArray(np.ones((40, 40, 40), np.float32))

    def work() -> None:
        matrix @ matrix
        torch.from_numpy(matrix) @ torch.from_numpy(matrix)
        torch.nn.functional.interpolate(volume, scale_factor=2, mode="trilinear")
        SimpleITK.Mean(image, (2, 2, 2))

    return busy_threads(work)


def _ticks() -> dict[str, int]:
    """Hundredths of a second that each thread of this process has computed."""
    found = {}
    for thread in Path("/proc/self/task").iterdir():
        fields = (thread / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        found[thread.name] = int(fields[11]) + int(fields[12])
    return found
