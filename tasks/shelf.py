"""Where outcomes lie that nobody needs before the report: small, so that a night of many cases takes no more memory."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")


class Shelf(Generic[A]):
    """Holds what is put on it, in that order; as objects, a case's record takes about 6 KB."""

    def __init__(self) -> None:
        self._parcels: list[bytes] = []

    def put(self, values: Sequence[A]) -> None:
        """`values`, after those that are there."""
        self._parcels.append(zlib.compress(pickle.dumps(values), level=1))

    def take(self) -> Iterator[A]:
        """All values, first to last; the shelf is empty then."""
        parcels, self._parcels = self._parcels, []
        for parcel in parcels:
            yield from pickle.loads(zlib.decompress(parcel))
