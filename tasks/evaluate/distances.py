"""Distances in mm between two sets of places on one grid.

Surfaces are mostly close: what is near is looked up step by step outwards, what is not is left to a search tree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tasks.scan.records import Spacing

Places = NDArray[np.int64]

NEAR_STEPS = 2
"""How many of the shortest steps are looked up for a distance before the tree is asked (measured on brain regions)."""

MOST_STEPS = 1000
"""Up to how many places within a tolerance are looked up one by one; where there are more, the tree is faster."""


def nearest_mm(places: Places, others: Places, spacing_mm: Spacing) -> NDArray[np.float64]:
    """The distance (N,) of each of `places` (N, 3) to the nearest of `others` (M, 3); neither is empty.

    Both are whole numbers of steps of `spacing_mm`.
    """
    steps, lengths_mm = _ball(spacing_mm, NEAR_STEPS * min(spacing_mm))
    found = _first_hit(places, others, steps)
    distances_mm = lengths_mm[found]
    far = np.flatnonzero(found < 0)
    if len(far):
        tree = cKDTree(others * spacing_mm, balanced_tree=False, compact_nodes=False)
        _, index = tree.query(places[far] * spacing_mm)
        distances_mm[far] = _length_mm(places[far] - others[index], spacing_mm)
    return distances_mm


def within(places: Places, others: Places, spacing_mm: Spacing, tolerance_mm: float) -> NDArray[np.bool_]:
    """Which of `places` (N, 3) are at most `tolerance_mm` from one of `others` (M, 3); neither is empty."""
    if np.prod(2 * tolerance_mm / np.array(spacing_mm) + 1) > 2 * MOST_STEPS:
        return nearest_mm(places, others, spacing_mm) <= tolerance_mm
    steps, _ = _ball(spacing_mm, tolerance_mm)
    return _first_hit(places, others, steps) >= 0


def _ball(spacing_mm: Spacing, radius_mm: float) -> tuple[Places, NDArray[np.float64]]:
    """All steps (K, 3) that are at most `radius_mm` long, and their lengths (K,), the shortest first."""
    reach = (radius_mm / np.array(spacing_mm)).astype(np.int64) + 1
    steps = np.indices((2 * reach + 1).tolist()).reshape(3, -1).T - reach
    lengths_mm = _length_mm(steps, spacing_mm)
    order = np.argsort(lengths_mm, kind="stable")[: np.count_nonzero(lengths_mm <= radius_mm)]
    return steps[order], lengths_mm[order]


def _first_hit(places: Places, others: Places, steps: Places) -> Places:
    """For each of `places` the index of the first of `steps` that leads to one of `others`; -1 where none does."""
    reach = np.abs(steps).max(axis=0)
    start = np.minimum(places.min(axis=0), others.min(axis=0)) - reach
    x, y, z = np.maximum(places.max(axis=0), others.max(axis=0)) + reach - start + 1
    strides = np.array([y * z, z, 1])
    occupied = np.zeros(x * y * z, bool)
    occupied[(others - start) @ strides] = True
    index = (places - start) @ strides
    found = np.full(len(places), -1)
    waiting = np.arange(len(places))
    for number, step in enumerate(steps @ strides):
        hit = occupied[index[waiting] + step]
        found[waiting[hit]] = number
        waiting = waiting[~hit]
    return found


def _length_mm(steps: Places, spacing_mm: Spacing) -> NDArray[np.float64]:
    # From whole steps, not from positions: a distance of three steps of 0.7 mm is then the same number everywhere, and
    # compares with a tolerance as in `surface-distance`.
    squares: NDArray[np.float64] = (steps * np.array(spacing_mm)) ** 2
    lengths_mm: NDArray[np.float64] = np.sqrt(squares.sum(axis=1))
    return lengths_mm
