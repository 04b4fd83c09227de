"""From one spacing to another and back, on RAS+ axes.

Voxel centres map as x_in = scale · (x_out + ½) − ½, so the extent of a volume is kept and the way back needs only the
former shape. Through the plane of thick slices nothing is interpolated: order 0 there (Isensee et al. 2021).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch.nn import functional

from tasks.scan.records import Shape, Spacing

Volume = NDArray[np.float32]


def resampled_shape(shape: Shape, spacing_mm: Spacing, target_mm: Spacing) -> Shape:
    """Voxels per axis that cover the same extent at `target_mm`: round(old spacing / new × old size), at least 1."""
    x, y, z = (max(1, round(n * old / new)) for n, old, new in zip(shape, spacing_mm, target_mm, strict=True))
    return (x, y, z)


def coarse_axis(spacing_mm: Spacing) -> int | None:
    """The axis of thick slices: the one that is more than three times as coarse as the finest, if there is only one."""
    coarse = [axis for axis, length in enumerate(spacing_mm) if length > 3 * min(spacing_mm)]
    return coarse[0] if len(coarse) == 1 else None


def resample_image(image: Volume, spacing_mm: Spacing, shape: Shape) -> Volume:
    """`image` (X, Y, Z) at `shape`, by a cubic spline; along thick slices, by the nearest one."""
    axis = coarse_axis(spacing_mm)
    if axis is None:
        return _zoom(image, shape, order=3)
    within = tuple(n if i == axis else m for i, (n, m) in enumerate(zip(image.shape, shape, strict=True)))
    return _zoom(_zoom(image, within, order=3), shape, order=0)


def resample_labels(labels: NDArray[np.uint16], shape: Shape) -> NDArray[np.uint8]:
    """`labels` (X, Y, Z) at `shape`: linear for each label by itself, which then owns the voxels above one half."""
    if labels.shape == shape:
        return labels.astype(np.uint8)
    result = np.zeros(shape, np.uint8)
    for value in np.unique(labels[labels > 0]):
        share = restore_logits(torch.from_numpy((labels == value).astype(np.float32)), shape)
        result[share.numpy() > 0.5] = value
    return result


def restore_logits(volume: torch.Tensor, shape: Shape) -> torch.Tensor:
    """One class's `volume` (X, Y, Z), linearly at `shape`."""
    if tuple(volume.shape) == shape:
        return volume
    return functional.interpolate(volume[None, None], size=shape, mode="trilinear", align_corners=False)[0, 0]


def _zoom(image: Volume, shape: tuple[int, ...], *, order: Literal[0, 3]) -> Volume:
    if image.shape == shape:
        return image
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]
    return zoom(image, factors, order=order, mode="nearest", grid_mode=True)
