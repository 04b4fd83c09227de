"""Every metric of every label of two label maps, with every empty case said. The data dictionary is `docs/metrics.md`.

Definitions: Maier-Hein, Reinke et al., "Metrics reloaded", Nature Methods 21, 195–212 (2024); normalised surface Dice:
Nikolov et al., arXiv:1809.04430. Both maps are passed over once for all labels; after that only surfaces are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from tasks.evaluate.distances import nearest_mm, within
from tasks.evaluate.surfaces import Compact, Surface, surface_voxels, surfels
from tasks.scan.records import Spacing

Labels = NDArray[np.uint16]
CONNECTIVITY: Literal[26] = 26
"""Voxels that share a face, an edge or a corner are of one component."""


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

    @property
    def volume_error(self) -> float:
        """(prediction − reference) / reference, in voxels; NaN unless neither mask is empty. 0 is perfect."""
        reference = self.both + self.only_reference
        return (self.only_prediction - self.only_reference) / reference if self.status == "scored" else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceDistances:
    """Distances between two surfaces: `hd95_mm` and `assd_mm` (0 is perfect), `nsd` at a tolerance (1 is perfect)."""

    hd95_mm: float
    assd_mm: float
    nsd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """All that two label maps say of one label."""

    overlap: Overlap
    surface: SurfaceDistances
    components_reference: int
    components_prediction: int


def measure(
    reference: Labels, prediction: Labels, spacing_mm: Spacing, tolerances_mm: Mapping[int, float]
) -> dict[int, Measures]:
    """The measures of each label in `tolerances_mm`, which gives its tolerance for `nsd`.

    The maps have one shape (X, Y, Z) and hold values from 0 to 65535; 0, and what is no label asked for, is background.
    """
    values = sorted(tolerances_mm)
    maps = _compact(reference, prediction, values)
    both = np.bincount(maps[0][maps[0] == maps[1]], minlength=len(values) + 1)
    first, second = (_describe(labels, len(values), spacing_mm) for labels in maps)
    return {
        value: Measures(
            overlap=_overlap(int(both[index]), int(first.voxels[index]), int(second.voxels[index])),
            surface=_compare_surfaces(first, second, index, spacing_mm, tolerances_mm[value]),
            components_reference=int(first.components[index]),
            components_prediction=int(second.components[index]),
        )
        for index, value in enumerate(values, start=1)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Description:
    """One label map: voxels and components by label index, and where all surfaces are."""

    voxels: NDArray[np.int64]
    components: NDArray[np.int64]
    surface: Surface
    surfels: Surface


def _describe(labels: Compact, count: int, spacing_mm: Spacing) -> _Description:
    pieces: NDArray[np.unsignedinteger] = cc3d.connected_components(labels, connectivity=CONNECTIVITY)
    label_of_piece = np.zeros(int(pieces.max()) + 1, np.int64)
    label_of_piece[pieces.ravel()] = labels.ravel()
    return _Description(
        voxels=np.bincount(labels.ravel(), minlength=count + 1),
        components=np.bincount(label_of_piece[1:], minlength=count + 1),
        surface=surface_voxels(labels, count),
        surfels=surfels(labels, count, spacing_mm),
    )


def _compact(reference: Labels, prediction: Labels, values: Sequence[int]) -> tuple[Compact, Compact]:
    """Both maps with the index (from 1) of each value instead of it, cropped to where either is not background."""
    index: Compact = np.zeros(2**16, np.uint8 if len(values) < 2**8 else np.uint16)
    index[list(values)] = np.arange(1, len(values) + 1)
    first, second = index[reference], index[prediction]
    either = (first != 0) | (second != 0)
    box = []
    for axis in range(3):
        lines = np.flatnonzero(either.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(slice(lines[0], lines[-1] + 1) if len(lines) else slice(0, 1))
    return np.ascontiguousarray(first[*box]), np.ascontiguousarray(second[*box])


def _overlap(both: int, reference: int, prediction: int) -> Overlap:
    return Overlap(both=both, only_prediction=prediction - both, only_reference=reference - both)


def _compare_surfaces(
    reference: _Description, prediction: _Description, index: int, spacing_mm: Spacing, tolerance_mm: float
) -> SurfaceDistances:
    """Both empty: all NaN. One empty: distances inf and `nsd` 0.

    Nothing was found where something is, or the reverse; a missing structure must never look better than a bad one.
    """
    filled = int(reference.voxels[index] > 0) + int(prediction.voxels[index] > 0)
    if filled == 0:
        return SurfaceDistances(hd95_mm=math.nan, assd_mm=math.nan, nsd=math.nan)
    if filled == 1:
        return SurfaceDistances(hd95_mm=math.inf, assd_mm=math.inf, nsd=0.0)
    first, second = reference.surface.of(index), prediction.surface.of(index)
    there, back = nearest_mm(first, second, spacing_mm), nearest_mm(second, first, spacing_mm)
    return SurfaceDistances(
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        assd_mm=float(np.concatenate((there, back)).mean()),
        nsd=_surface_dice(reference.surfels, prediction.surfels, index, spacing_mm, tolerance_mm),
    )


def _surface_dice(
    reference: Surface, prediction: Surface, index: int, spacing_mm: Spacing, tolerance_mm: float
) -> float:
    first, second = reference.of(index), prediction.of(index)
    near = (within(first, second, spacing_mm, tolerance_mm), within(second, first, spacing_mm, tolerance_mm))
    areas_mm2 = np.concatenate((reference.areas_of(index), prediction.areas_of(index)))
    return float(areas_mm2[np.concatenate(near)].sum() / areas_mm2.sum())
