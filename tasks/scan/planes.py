"""A large volume a few planes at a time: done at once, what numpy does with an index takes eight bytes for each voxel.

A scan of 512 × 512 × 600 voxels has 157 million of them, and the memory of a case is promised.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

N = TypeVar("N", bound=np.generic)
AT_A_TIME = 2**22
"""Voxels in the planes that are looked at together."""


def planes(volume: NDArray[Any], at_a_time: int = AT_A_TIME) -> Iterator[slice]:
    """Slices of the first axis of `volume` that together are all of it, each of about `at_a_time` numbers."""
    thickness = max(1, at_a_time // max(1, math.prod(volume.shape[1:])))
    for first in range(0, len(volume), thickness):
        yield slice(first, min(first + thickness, len(volume)))


def count_values(labels: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.int64]:
    """How many voxels of `labels` (X, Y, Z) have each value from 0 to the largest."""
    counts = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    for part in planes(labels):
        counts += np.bincount(labels[part].ravel(), minlength=len(counts))
    return counts


def translated(labels: NDArray[np.unsignedinteger[Any]], table: NDArray[N]) -> NDArray[N]:
    """What `table` has for each value of `labels` (X, Y, Z)."""
    result = np.empty(labels.shape, table.dtype)
    for part in planes(labels):
        result[part] = table[labels[part]]
    return result


def let_go(array: NDArray[Any]) -> None:
    """What was read of the file that is mapped to memory as `array` leaves the memory; other arrays stay as they are.

    Else a process seems to grow, by the system's account, by all of a file that it went through.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)
