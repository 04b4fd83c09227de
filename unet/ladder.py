"""What is tried, one after the other, when the device has no memory left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

A = TypeVar("A")


def climb_down(rungs: Sequence[tuple[str, Callable[[], A]]]) -> tuple[str, A]:
    """The name of the first of `rungs` that has memory enough, and what it returns.

    Raises torch.OutOfMemoryError when the last has not.
    """
    for name, compute in rungs[:-1]:
        try:
            return name, compute()
        except torch.OutOfMemoryError:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    name, compute = rungs[-1]
    return name, compute()
