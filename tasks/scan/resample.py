"""From one spacing to another and back, on RAS+ axes.

Voxel centres map as x_in = scale · (x_out + ½) − ½, so the extent of a volume is kept and the way back needs only the
former shape. Through the plane of thick slices nothing is interpolated: order 0 there (Isensee et al. 2021).

A cubic spline is a linear map along each axis by itself, prefilter and all: each voxel of the result is a sum over
those of the image, whose weights fall by a factor of 3.7 from one to the next. So it is three products with banded
matrices, which processors are fastest at; a block of the result depends on a block of the image and 16 voxels around.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import spline_filter1d
from torch.nn import functional

from tasks.scan.records import Shape, Spacing

Volume = NDArray[np.float32]
Box = tuple[slice, ...]

SIDE = 128
"""Voxels of the result that are computed at a time along each of the first two axes."""
EDGE = 12
"""How far scipy continues an image by its outermost values before it fits the spline."""
SMALLEST_WEIGHT = 1e-8
"""Weights below this are left out: beyond 16 voxels, and far below what float32 resolves."""


def resampled_shape(shape: Shape, spacing_mm: Spacing, target_mm: Spacing) -> Shape:
    """Voxels per axis that cover the same extent at `target_mm`: round(old spacing / new × old size), at least 1."""
    x, y, z = (max(1, round(old / new * n)) for n, old, new in zip(shape, spacing_mm, target_mm, strict=True))
    return (x, y, z)


def coarse_axis(spacing_mm: Spacing, target_mm: Spacing) -> int | None:
    """The axis of thick slices, before or else after resampling: the coarsest, if it is alone and more than three times
    as coarse as the finest."""
    for spacing in (spacing_mm, target_mm):
        if max(spacing) > 3 * min(spacing):
            coarsest = [axis for axis, length in enumerate(spacing) if length == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def resample_image(image: Volume, shape: Shape, thick: int | None) -> Volume:
    """`image` (X, Y, Z) at `shape`, by a cubic spline; along the axis `thick`, by the nearest slice.

    The spline is that of `scipy.ndimage.zoom(order=3, mode="nearest", grid_mode=True)`, and what it makes brighter or
    darker than all of the image (with `thick`, than all of the slice) is clipped: nnU-Net's `skimage.transform.resize`.
    It is computed block by block, so that beside image and result only a few blocks are in memory.
    """
    if image.shape == shape:
        return image
    low, high = value_limits(image, thick)
    result = np.empty(shape, np.float32)
    for block in _blocks(shape):
        result[block] = resample_block(image, shape, thick, block, (low, high))
    return result


def resample_block(image: Volume, shape: Shape, thick: int | None, block: Box, limits: tuple[Volume, Volume]) -> Volume:
    """The part `block` of what `resample_image` returns, up to rounding.

    Of `image`, which may be a file mapped to memory, only what the block depends on is read; `limits` are those of
    `value_limits`.
    """
    spans = [
        (_nearest if axis == thick else _spline)(n, length, part)
        for axis, (n, length, part) in enumerate(zip(image.shape, shape, block, strict=True))
    ]
    values = np.ascontiguousarray(image[tuple(span.needed for span in spans)], np.float32)
    low, high = (limit[tuple(_of(limit, axis, span.needed) for axis, span in enumerate(spans))] for limit in limits)
    for axis in sorted((0, 1, 2), key=lambda axis: (axis == thick, spans[axis].growth)):  # least work first
        span = spans[axis]
        if span.nearest is not None:
            values = np.clip(values, low, high).take(span.nearest, axis=axis)
        elif span.weights is not None:
            values = _weighted(values, span.weights, axis)
    return values if thick is not None else np.clip(values, low, high, out=values)


def value_limits(image: Volume, thick: int | None) -> tuple[Volume, Volume]:
    """The least and the largest value of `image`, or of each of its slices along `thick`, with as many axes."""
    axes = tuple(axis for axis in range(3) if axis != thick)
    return image.min(axis=axes, keepdims=True), image.max(axis=axes, keepdims=True)


def resample_labels(labels: NDArray[np.uint16], shape: Shape) -> NDArray[np.uint8]:
    """`labels` (X, Y, Z) at `shape`: linear for each label by itself, which then owns the voxels from one half on."""
    if labels.shape == shape:
        return labels.astype(np.uint8)
    result = np.zeros(shape, np.uint8)
    for value in np.unique(labels[labels > 0]):
        share = restore_logits(torch.from_numpy((labels == value).astype(np.float32)), shape)
        result[share.numpy() >= 0.5] = value
    return result


def restore_logits(volume: torch.Tensor, shape: Shape) -> torch.Tensor:
    """One class's `volume` (X, Y, Z), linearly at `shape`."""
    if tuple(volume.shape) == shape:
        return volume
    return functional.interpolate(volume[None, None], size=shape, mode="trilinear", align_corners=False)[0, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """How some voxels of the result follow from those of the image along one axis."""

    needed: slice
    """Voxels of the image that have a part in them."""
    growth: float
    """Voxels that come out for each that goes in."""
    weights: Volume | None = None
    """Of each needed voxel (columns) in each of the result (rows); None: they are the same."""
    nearest: NDArray[np.intp] | None = None
    """Instead: which needed voxel each of the result is."""


def _spline(n: int, length: int, part: slice) -> _Span:
    if n == length:
        return _Span(needed=part, growth=1)
    rows = _spline_weights(n, length)[part]
    used = np.flatnonzero(rows.any(axis=0))
    needed = slice(int(used[0]), int(used[-1]) + 1)
    return _Span(needed=needed, growth=len(rows) / (needed.stop - needed.start), weights=rows[:, needed].copy())


def _nearest(n: int, length: int, part: slice) -> _Span:
    index = np.floor(_places(n, length)[part] + 0.5).clip(0, n - 1).astype(np.intp)
    needed = slice(int(index[0]), int(index[-1]) + 1)
    return _Span(needed=needed, growth=len(index) / (needed.stop - needed.start), nearest=index - needed.start)


def _places(n: int, length: int) -> NDArray[np.float64]:
    """Where the voxels of the result are among those of the image."""
    places: NDArray[np.float64] = n / length * (np.arange(length, dtype=np.float64) + 0.5) - 0.5
    return places


@lru_cache(maxsize=16)
def _spline_weights(n: int, length: int) -> Volume:
    """The part (length, n) that each of `n` voxels has in each of `length`, by a cubic spline."""
    continued = np.pad(np.eye(n), ((EDGE, EDGE), (0, 0)), mode="edge")
    coefficients = spline_filter1d(continued, order=3, axis=0, mode="mirror")
    places = _places(n, length) + EDGE
    first = np.floor(places).astype(np.intp)
    t = (places - first)[:, None]
    basis = ((1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 4 - 6 * (1 - t) ** 2 + 3 * (1 - t) ** 3, t**3)
    weights = np.zeros((length, n))
    for offset, share in enumerate(basis, start=-1):
        weights += share / 6 * coefficients[first + offset]
    weights[np.abs(weights) < SMALLEST_WEIGHT] = 0
    return weights.astype(np.float32)


def _weighted(values: Volume, weights: Volume, axis: int) -> Volume:
    """The product of `weights` with `values` (X, Y, Z) along `axis`."""
    matrix, tensor = torch.from_numpy(weights), torch.from_numpy(values)
    if axis == 0:
        result = (matrix @ tensor.flatten(1)).reshape(len(weights), *values.shape[1:])
    elif axis == 1:
        result = matrix @ tensor
    else:
        result = tensor @ matrix.T
    return result.numpy()


def _blocks(shape: Shape) -> Iterator[Box]:
    """Boxes that together are a volume of `shape`, once."""
    for x, y in product(range(0, shape[0], SIDE), range(0, shape[1], SIDE)):
        yield slice(x, min(x + SIDE, shape[0])), slice(y, min(y + SIDE, shape[1])), slice(0, shape[2])


def _of(limit: Volume, axis: int, needed: slice) -> slice:
    """The part of `limit` that goes with the `needed` voxels of an axis: all of it, where it has one value for all."""
    return needed if limit.shape[axis] > 1 else slice(None)
