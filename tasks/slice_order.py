"""Labels that follow one another along an axis of the image, one in each slice: found in references, restored in masks.

A protocol that ends a structure at a plane draws such references: of a hippocampus every coronal slice is head or body,
never both. A network decides voxel by voxel, and draws a ragged border where there can only be a plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.model import SliceOrder

Labels = NDArray[np.unsignedinteger[Any]]
Counts = NDArray[np.int64]
STRAYS = 0.01
"""Labels are in order along an axis where at most this fraction of the references' voxels, by their mean, is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """In which order the labels of one reference lie along an axis, by the mean of their voxels' coordinates."""

    labels: tuple[int, ...]
    strays: float
    """The fraction of the labelled voxels that lies in slices of another label, when each slice has one."""


def orderings(reference: Labels) -> tuple[Ordering, ...]:
    """The ordering of `reference` (X, Y, Z) along each of its axes."""
    values = [int(value) for value in np.unique(reference) if value]
    return tuple(_ordering(values, counts) for counts in _count(reference, values))


def common_order(references: Sequence[tuple[Ordering, ...]], labels: Sequence[int]) -> SliceOrder:
    """The order that every one of `references` keeps along an axis: of `labels`, all of which one reference must hold.

    Of several axes the one with the fewest strays; without such an axis, or with a single label, none.
    """
    found = []
    for axis in range(3):
        here = [reference[axis] for reference in references]
        whole = next((one.labels for one in here if len(one.labels) == len(labels)), ())
        strays = float(np.mean([one.strays for one in here])) if here else 1.0
        if strays <= STRAYS and all(one.labels == tuple(v for v in whole if v in one.labels) for one in here):
            found.append((strays, axis, whole))
    if len(labels) < 2 or not found:
        return SliceOrder(evidence={"why": "the references' labels do not follow one another along an axis"})
    strays, axis, order = min(found)
    return SliceOrder(axis=axis, labels=order, evidence={"references": len(references), "strays": round(strays, 4)})


def in_order(labels: Labels, order: SliceOrder) -> Labels:
    """`labels` (X, Y, Z) on RAS+ axes, every voxel that has one given that of its slice.

    The slices' labels are in `order` and agree with as many voxels as possible: a cumulative maximum over slices.
    """
    if not order.labels:
        return labels
    of_slice = np.array(order.labels, labels.dtype)[_follow(_count(labels, order.labels)[order.axis])]
    return np.where(labels > 0, np.expand_dims(of_slice, tuple({0, 1, 2} - {order.axis})), labels)


def _ordering(values: Sequence[int], counts: Counts) -> Ordering:
    """The ordering of `values`, of which `counts` (K, slices) says how many voxels each slice holds."""
    means = counts @ np.arange(counts.shape[1]) / counts.sum(axis=1)
    by_mean = np.argsort(means, kind="stable")
    counts = counts[by_mean]
    agree = counts[_follow(counts), np.arange(counts.shape[1])].sum()
    return Ordering(labels=tuple(values[row] for row in by_mean), strays=float(1 - agree / counts.sum()))


def _count(labels: Labels, values: Sequence[int]) -> list[Counts]:
    """Along each axis of `labels` (X, Y, Z), how many voxels of each of `values` (K) every slice holds: (K, slices)."""
    row_of = np.zeros(max(values) + 1, np.intp)
    row_of[list(values)] = np.arange(len(values))
    counts = [np.zeros((len(values), length), np.int64) for length in labels.shape]
    for x, plane in enumerate(labels):
        y, z = np.nonzero(plane)
        rows = row_of[plane[y, z]]
        counts[0][:, x] = np.bincount(rows, minlength=len(values))
        for axis, coordinates in ((1, y), (2, z)):
            cells = rows * labels.shape[axis] + coordinates
            counts[axis] += np.bincount(cells, minlength=counts[axis].size).reshape(counts[axis].shape)
    return counts


def _follow(counts: Counts) -> NDArray[np.intp]:
    """For each slice a row of `counts` (K, slices), never one before that of the slice before, with the largest sum."""
    rows, slices = counts.shape
    best, before = np.zeros(rows, np.int64), np.empty((slices, rows), np.intp)
    for at in range(slices):
        leads = best == np.maximum.accumulate(best)
        before[at] = np.maximum.accumulate(np.where(leads, np.arange(rows), 0))
        best = best[before[at]] + counts[:, at]
    path, row = np.empty(slices, np.intp), int(best.argmax())
    for at in reversed(range(slices)):
        path[at] = row
        row = int(before[at, row])
    return path
