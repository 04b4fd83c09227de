"""From the logits of a few dozen classes on the network's grid to one label map on the scan's, in little memory.

All classes at the scan's size would be gigabytes. Here the result grows slab by slab, class after class, and a class is
interpolated only where it can win: between eight neighbouring voxels it is nowhere above the largest of its eight
logits, and somebody is nowhere below the largest of the eight's smallest. So the result is bit for bit the argmax over
all classes at full size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.scan.planes import let_go, planes
from tasks.scan.records import Shape

SLAB_VOXELS = 2**20
"""Voxels of the scan that are decided at a time: so few that the processor's cache holds what is needed for them."""
ROUNDING = 2.0**-20
"""By how much of the largest logit an interpolated value may leave the range of its neighbours, as float32 rounds."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """Which two voxels of the network's grid, `low` and `high`, each of the scan's lies between, and how far along."""

    low: Tensor
    high: Tensor
    share: Tensor


Box = tuple[slice, ...]


def restore_labels(
    logits: NDArray[np.floating], shape: Shape, stepped: int | None = None
) -> NDArray[np.uint8 | np.uint16]:
    """The class with the largest logit, at `shape`, of `logits` (K, X, Y, Z), which may be a file mapped to memory.

    They are interpolated linearly: x_in = scale · (x_out + ½) − ½; along the axis `stepped` the nearest is taken. Of
    equal logits the first class wins.
    """
    axes = [_axis(n, length) for n, length in zip(logits.shape[1:], shape, strict=True)]
    if stepped is not None:
        axes[stepped] = _nearest(logits.shape[1 + stepped], shape[stepped])
    boxes = _where_it_can_win(logits, axes)
    kind = np.uint8 if len(logits) <= 256 else np.uint16
    labels = np.zeros(shape, kind)
    for slab in planes(labels, SLAB_VOXELS):
        labels[slab] = _decide(logits, boxes, axes, slab, shape).astype(kind)
        let_go(logits)
    return labels


def _decide(
    logits: NDArray[np.floating], boxes: list[Box | None], axes: list[_Axis], slab: slice, shape: Shape
) -> NDArray[np.int32]:
    """The labels of the scan's voxels in `slab` of the first axis."""
    whole = (slab, slice(0, shape[1]), slice(0, shape[2]))
    best = interpolate(logits[0], axes, whole)
    labels = torch.zeros(best.shape, dtype=torch.int32)
    for value, box in enumerate(boxes):
        if value == 0 or box is None:
            continue
        part = (slice(max(box[0].start, slab.start), min(box[0].stop, slab.stop)), *box[1:])
        if part[0].start >= part[0].stop:
            continue
        here = (slice(part[0].start - slab.start, part[0].stop - slab.start), *part[1:])
        score = interpolate(logits[value], axes, part)
        better = score > best[here]
        labels[here].masked_fill_(better, value)
        torch.maximum(best[here], score, out=best[here])
    found: NDArray[np.int32] = labels.numpy()
    return found


def interpolate(volume: NDArray[np.floating], axes: list[_Axis], box: Box) -> Tensor:
    """`volume` (X, Y, Z) at the voxels of the scan in `box`. Each voxel's value is the same whatever the box is."""
    low = [int(axis.low[part.start]) for axis, part in zip(axes, box, strict=True)]
    high = [int(axis.high[part.stop - 1]) + 1 for axis, part in zip(axes, box, strict=True)]
    needed = volume[tuple(slice(first, last) for first, last in zip(low, high, strict=True))]
    result = torch.from_numpy(np.ascontiguousarray(needed, np.float32))
    for dim, (axis, part, first) in enumerate(zip(axes, box, low, strict=True)):
        share = axis.share[part]
        if not bool(share.any()):
            result = result.index_select(dim, axis.low[part] - first)
            continue
        below, above = (result.index_select(dim, index[part] - first) for index in (axis.low, axis.high))
        result = torch.lerp(below, above, share.reshape([-1 if d == dim else 1 for d in range(3)]))
    return result


def _axis(length: int, wanted: int) -> _Axis:
    places = (torch.arange(wanted, dtype=torch.float64) + 0.5) * (length / wanted) - 0.5
    places = places.clamp(0, length - 1)
    low = places.floor().long()
    return _Axis(low, (low + 1).clamp(max=length - 1), (places - low).float())


def _nearest(length: int, wanted: int) -> _Axis:
    """The nearer of each two voxels alone; of two as near, the later. In 64 bits, as nnU-Net's scipy tells a tie."""
    places = length / wanted * (torch.arange(wanted, dtype=torch.float64) + 0.5) - 0.5
    near = (places + 0.5).floor().clamp(0, length - 1).long()
    return _Axis(near, near, torch.zeros(wanted))


def _where_it_can_win(logits: NDArray[np.floating], axes: list[_Axis]) -> list[Box | None]:
    """For each class the box of the scan's voxels outside of which another class is above it; None if that is all."""
    sides = logits.shape[1:]
    used = [[torch.zeros(length, dtype=torch.bool) for length in sides] for _ in logits]
    for slab in planes(logits[0], SLAB_VOXELS):
        part = logits[:, slab.start : slab.stop + 1]
        floor, largest = torch.full((), -torch.inf), 0.0
        for volume in part:
            lowest = _of_eight(torch.minimum, volume)
            floor = torch.maximum(floor, lowest)
            largest = max(largest, -float(lowest.min()), float(volume.max()))
        floor -= largest * ROUNDING
        for of_class, volume in zip(used, part, strict=True):
            cells = (_of_eight(torch.maximum, volume) > floor)[: slab.stop - slab.start]
            of_class[0][slab] = cells.any(2).any(1)
            across = cells.any(0)
            of_class[1] |= across.any(1)
            of_class[2] |= across.any(0)
        let_go(logits)
    return [_box(of_class, axes) for of_class in used]


def _of_eight(pick: Callable[[Tensor, Tensor], Tensor], volume: NDArray[np.floating]) -> Tensor:
    """What `pick` leaves of each voxel of `volume` (X, Y, Z) and the seven after it; after the last is none."""
    values = torch.from_numpy(np.ascontiguousarray(volume, np.float32))
    for dim, length in enumerate(values.shape):
        later = pick(values.narrow(dim, 0, length - 1), values.narrow(dim, 1, length - 1))
        values = torch.cat((later, values.narrow(dim, length - 1, 1)), dim)
    return values


def _box(used: list[Tensor], axes: list[_Axis]) -> Box | None:
    """The scan's voxels whose lower neighbours lie between the first and the last that are `used` along each axis."""
    box = []
    for cells, axis in zip(used, axes, strict=True):
        places = torch.nonzero(cells).flatten()
        if not len(places):
            return None
        start = int(torch.searchsorted(axis.low, places[0]))
        stop = int(torch.searchsorted(axis.low, places[-1], right=True))
        box.append(slice(start, stop))
    return None if any(part.start >= part.stop for part in box) else tuple(box)
