"""Overlap and surface distances of two masks, with every empty case said. The data dictionary is `docs/metrics.md`.

Definitions: Maier-Hein, Reinke et al., "Metrics reloaded", Nature Methods 21, 195–212 (2024); normalised surface Dice:
Nikolov et al., arXiv:1809.04430, computed by its authors' package `surface-distance`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import surface_distance
from numpy.typing import NDArray
from scipy import ndimage

from tasks.scan.records import Spacing

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Voxels in both masks (TP), only in the prediction (FP), only in the reference (FN)."""

    both: int
    only_prediction: int
    only_reference: int

    @property
    def status(self) -> str:
        """`both_empty`, `false_positive` (reference empty), `missed` (prediction empty), or `scored`."""
        reference, prediction = self.both + self.only_reference, self.both + self.only_prediction
        if reference and prediction:
            return "scored"
        if reference:
            return "missed"
        return "false_positive" if prediction else "both_empty"

    @property
    def dice(self) -> float:
        """2·TP / (2·TP + FP + FN); NaN when both masks are empty. 1 is perfect."""
        total = 2 * self.both + self.only_prediction + self.only_reference
        return 2 * self.both / total if total else math.nan

    @property
    def jaccard(self) -> float:
        """TP / (TP + FP + FN) = dice / (2 − dice); NaN when both masks are empty. 1 is perfect."""
        union = self.both + self.only_prediction + self.only_reference
        return self.both / union if union else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceDistances:
    """Distances between two surfaces: `hd95_mm` and `assd_mm` (0 is perfect), `nsd` at a tolerance (1 is perfect)."""

    hd95_mm: float
    assd_mm: float
    nsd: float


def overlap(reference: Mask, prediction: Mask) -> Overlap:
    """Counts of agreeing and differing voxels of two masks of one shape."""
    both = int(np.count_nonzero(reference & prediction))
    return Overlap(
        both=both,
        only_prediction=int(np.count_nonzero(prediction)) - both,
        only_reference=int(np.count_nonzero(reference)) - both,
    )


def surface_distances(reference: Mask, prediction: Mask, spacing_mm: Spacing, tolerance_mm: float) -> SurfaceDistances:
    """Surface distances of two masks of one shape (X, Y, Z).

    Both empty: all NaN. One empty: distances inf and `nsd` 0, because nothing was found where something is, or the
    reverse; a missing structure must never look better than a bad one.
    """
    if not reference.any() and not prediction.any():
        return SurfaceDistances(hd95_mm=math.nan, assd_mm=math.nan, nsd=math.nan)
    if not reference.any() or not prediction.any():
        return SurfaceDistances(hd95_mm=math.inf, assd_mm=math.inf, nsd=0.0)
    box = _box_around(reference | prediction)
    reference, prediction = np.pad(reference[box], 1), np.pad(prediction[box], 1)
    to_prediction, to_reference = directed_distances_mm(reference, prediction, spacing_mm)
    return SurfaceDistances(
        hd95_mm=float(max(np.percentile(to_prediction, 95), np.percentile(to_reference, 95))),
        assd_mm=float(np.concatenate((to_prediction, to_reference)).mean()),
        nsd=normalised_surface_dice(reference, prediction, spacing_mm, tolerance_mm),
    )


def directed_distances_mm(
    reference: Mask, prediction: Mask, spacing_mm: Spacing
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of each surface voxel of one mask to the nearest of the other: from the reference, from the prediction.

    A surface voxel is one with a face neighbour outside of its mask; what lies beyond the array counts as outside.
    """
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (reference, prediction)]
    to_reference, to_prediction = (ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges)
    return to_prediction[edges[0]], to_reference[edges[1]]


def normalised_surface_dice(reference: Mask, prediction: Mask, spacing_mm: Spacing, tolerance_mm: float) -> float:
    """Share of both surfaces, by area, that lies within `tolerance_mm` of the other one."""
    distances = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
    return float(surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm))


def _box_around(mask: Mask) -> tuple[slice, ...]:
    """The slices of the smallest box that holds `mask`, which is not empty."""
    box: tuple[slice, ...] = ndimage.find_objects(mask.astype(np.uint8))[0]
    return box
