"""The plan of a network from the fingerprint of its training data, by rule (Isensee et al. 2021, in words).

Spacing: the median. Patch: the median shape, shrunk until a step fits the machine. Pooling: every axis that is long
and fine enough, level after level. Each number can be set by hand instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import psutil
import torch

from tasks.model import Plan, Window
from tasks.scan.records import Shape, Spacing
from tasks.scan.resample import resampled_shape
from tasks.train.config import PlanConfig
from tasks.train.fingerprint import Fingerprint
from unet import UNetConfig

SMALLEST_POOLED = 8
MOST_LEVELS = 6
BYTES_PER_VOXEL_AND_MAP = 32  # about six stored activations a level, two or four bytes each, over all levels


def make_plan(fingerprints: Sequence[Fingerprint], classes: int, config: PlanConfig, device: torch.device) -> Plan:
    """The plan for `classes` output maps (background included). Needs at least one fingerprint."""
    spacing_mm = config.spacing_mm or target_spacing_mm([one.spacing_mm for one in fingerprints], fingerprints)
    shapes = [resampled_shape(one.shape, one.spacing_mm, spacing_mm) for one in fingerprints]
    median = np.median(shapes, axis=0).round().astype(int).tolist()
    maps = config.maps or (32 if device.type == "cuda" else 16)
    budget = voxels_per_step(device, maps)
    patch = config.patch or fit_patch((median[0], median[1], median[2]), spacing_mm, budget // 2)
    poolings, kernels = topology(patch, spacing_mm)
    windows = [intensity_window(fingerprints, channel) for channel in range(len(fingerprints[0].samples))]
    features = tuple(min(maps * 2**level, 320) for level in range(len(kernels)))
    return Plan(
        network=UNetConfig(
            dimensions=3,
            in_channels=len(windows),
            out_channels=classes,
            features=features,
            poolings=poolings,
            kernels=kernels,
            upsampling="transposed",
            normalisation="batch",
        ),
        spacing_mm=spacing_mm,
        patch=patch,
        batch_size=config.batch_size or max(2, min(4, budget // prod(patch))),
        window=windows[0],
        further_windows=tuple(windows[1:]),
        augment=config.augment,
    )


def target_spacing_mm(spacings: Sequence[Spacing], fingerprints: Sequence[Fingerprint]) -> Spacing:
    """The median spacing per axis; of one very coarse axis with few voxels, the 10th percentile instead.

    Very coarse: more than 3 times the next coarsest axis, with more than 3 times fewer voxels than the other axes. The
    percentile is never finer than the next coarsest axis.
    """
    target = np.median(spacings, axis=0)
    shape = np.median([one.shape for one in fingerprints], axis=0)
    coarsest = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarsest]
    if target[coarsest] > 3 * target[others].max() and shape[coarsest] * 3 < shape[others].min():
        tenth = np.percentile([spacing[coarsest] for spacing in spacings], 10)
        target[coarsest] = max(tenth, target[others].max())
    return (float(target[0]), float(target[1]), float(target[2]))


def topology(patch: Shape, spacing_mm: Spacing) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """Pooling between levels and kernel of each level for a patch.

    An axis is pooled while it has at least 8 voxels and is less than twice as coarse as the finest; a level ends the
    network when no axis is left. Kernels are 3, but 1 along an axis that is still too coarse to be pooled.
    """
    size, spacing = list(patch), list(spacing_mm)
    poolings: list[Shape] = []
    kernels: list[Shape] = []
    while True:
        fine = [length < 2 * min(spacing) for length in spacing]
        kernels.append(_per_axis([3 if near else 1 for near in fine]))
        pooled = [near and length >= SMALLEST_POOLED for near, length in zip(fine, size, strict=True)]
        if not any(pooled) or len(kernels) == MOST_LEVELS:
            return tuple(poolings), tuple(kernels)
        factors = [2 if yes else 1 for yes in pooled]
        poolings.append(_per_axis(factors))
        size = [-(-length // factor) for length, factor in zip(size, factors, strict=True)]
        spacing = [length * factor for length, factor in zip(spacing, factors, strict=True)]


def fit_patch(median: Shape, spacing_mm: Spacing, most_voxels: int) -> Shape:
    """A patch of at most `most_voxels`, a multiple of its network's poolings: `median`, or as much of it as fits.

    The axis that is longest relative to the median is shortened first, so the aspect ratio stays that of the body.
    """
    patch = list(median)
    while True:
        rounded = _round_up(_per_axis(patch), spacing_mm)
        if prod(rounded) <= most_voxels or max(patch) <= SMALLEST_POOLED:
            return rounded
        axis = max(range(3), key=lambda axis: rounded[axis] / median[axis])
        patch[axis] = max(1, int(patch[axis] * 0.95))


def voxels_per_step(device: torch.device, maps: int) -> int:
    """Voxels that one training step may hold: half of the free memory, but no more than the device does in a second."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return min(free // 2 // (BYTES_PER_VOXEL_AND_MAP * maps), 6_000_000)
    free = psutil.virtual_memory().available
    return min(free // 2 // (BYTES_PER_VOXEL_AND_MAP * maps), 400_000 * 16 // maps)


def intensity_window(fingerprints: Sequence[Fingerprint], channel: int = 0) -> Window | None:
    """For a quantitative channel (CT): percentiles, mean and deviation of the data set's foreground; else None."""
    if not all(one.quantitative[channel] for one in fingerprints):
        return None
    samples = np.concatenate([np.asarray(one.samples[channel]) for one in fingerprints])
    lower, upper = np.percentile(samples, [0.5, 99.5])
    return Window(lower=float(lower), upper=float(upper), mean=float(samples.mean()), sd=float(samples.std()))


def _round_up(patch: Shape, spacing_mm: Spacing) -> Shape:
    """`patch`, each side lifted to the next multiple of the poolings it will see."""
    divisor = np.prod(topology(patch, spacing_mm)[0] or ((1, 1, 1),), axis=0)
    return _per_axis([-(-length // int(factor)) * int(factor) for length, factor in zip(patch, divisor, strict=True)])


def _per_axis(values: Sequence[int]) -> Shape:
    x, y, z = values
    return (int(x), int(y), int(z))
