"""What can be segmented but should be looked at: flags, never refusals, and none that repeats a text of the header.

The limits are this project's own, and wide: a flag on every third scan is one that nobody reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from tasks.scan.frames import is_dicom
from tasks.scan.reading import reading
from tasks.scan.records import Shape, Source, Spacing

FEW_SLICES = 10
"""Fewer voxels than this along an axis are too few for a shape to be seen in."""

EXTREME_ANISOTROPY = 6.0
"""Longest side of a voxel over its shortest, from which on partial volume rules."""

SMALLEST_SIDE_MM, LARGEST_SIDE_MM = 0.05, 15.0
"""Sides of a voxel that scanners of people make: dental cone beams have 0.075 mm, thick slices 10 mm."""

LONGEST_MM = 2500.0
"""No scanner sees further."""

FAR = 2.0
"""A spacing is far from the training data when it is this many times above their largest, or below their smallest."""

TRUNCATED = 0.5
"""A field of view is truncated when an axis is shorter than this fraction of the training data's median in mm."""

_MODALITIES = {"CT", "MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "OT"}


def plausibility_flags(shape: Shape, spacing_mm: Spacing) -> list[str]:
    """Whether the header's lengths can be millimetres of a person; in any order of the axes."""
    sides = f"voxels of {_mm(spacing_mm)} mm"
    if min(spacing_mm) < SMALLEST_SIDE_MM or max(spacing_mm) > LARGEST_SIDE_MM:
        return [f"implausible spacing: {sides}; are the header's lengths in mm?"]
    lengths_mm = np.multiply(shape, spacing_mm)
    if lengths_mm.max() > LONGEST_MM:
        return [f"implausible field of view: {_mm(lengths_mm)} mm, {sides}; are the header's lengths in mm?"]
    return []


def grid_flags(shape: Shape, spacing_mm: Spacing, fingerprint: Mapping[str, Any]) -> list[str]:
    """What is odd about a grid on RAS+ axes, by itself and beside the model's `fingerprint` (empty: by itself only).

    `shape` is in voxels, after cropping to what is not 0, as it is in the fingerprint.
    """
    flags = []
    if min(shape) < FEW_SLICES:
        flags.append(f"few slices: {min(shape)} along one axis")
    if max(spacing_mm) > EXTREME_ANISOTROPY * min(spacing_mm):
        flags.append(f"extreme anisotropy: voxels of {_mm(spacing_mm)} mm")
    known = fingerprint.get("spacing_mm")
    if known and any(
        side > FAR * high or side * FAR < low
        for side, low, high in zip(spacing_mm, known["min"], known["max"], strict=True)
    ):
        there = f"{_mm(known['min'])} to {_mm(known['max'])}"
        flags.append(f"spacing far from the training data: {_mm(spacing_mm)} mm, there {there}")
    if known and "shape" in fingerprint:
        usual_mm = np.multiply(fingerprint["shape"]["median"], known["median"])
        here_mm = np.multiply(shape, spacing_mm)
        if (here_mm < TRUNCATED * usual_mm).any():
            flags.append(f"truncated field of view: {_mm(here_mm)} mm, in the training data {_mm(usual_mm)}")
    return flags


def intensity_percentiles(cropped: NDArray[np.float32]) -> tuple[float, float, float]:
    """The 0.5th, 50th and 99.5th percentile of `cropped` (X, Y, Z)."""
    low, middle, high = (float(value) for value in np.percentile(cropped, (0.5, 50, 99.5)))
    return low, middle, high


def intensity_flags(
    percentiles: tuple[float, float, float], fingerprint: Mapping[str, Any], channel: int = 0
) -> list[str]:
    """Whether the intensities of a channel leave out those that the labelled tissue had in training.

    Compared are the first and the last of its `intensity_percentiles` with the range of the foreground's means.
    """
    ranges = [fingerprint.get("foreground_mean"), *fingerprint.get("further_foreground_means", ())]
    known = ranges[channel] if channel < len(ranges) else None
    if not known:
        return []
    low, _, high = percentiles
    if low <= known["max"] and known["min"] <= high:
        return []
    where = f" in channel {channel + 1}" if len(ranges) > 1 else ""
    return [
        f"intensity far from the training data{where}: {low:.4g} to {high:.4g}, "
        f"the labelled tissue there has {known['min']:.4g} to {known['max']:.4g}"
    ]


def modality_flags(source: Source, case: str, *, quantitative: bool) -> list[str]:
    """Whether a DICOM series is tagged CT for a model of another modality, or the other way round."""
    if source.format not in ("dicom", "sheared"):
        return []
    file = source.files[0]
    with reading(file, case):
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Modality"], force=is_dicom(file))
        modality = str(header.get("Modality", ""))
    if (modality == "CT") == quantitative:
        return []
    shown = modality if modality in _MODALITIES else "unknown"
    return [f"wrong modality: {shown}, the model was trained on {'CT' if quantitative else 'another one'}"]


def _mm(lengths: Sequence[float] | NDArray[np.float64]) -> str:
    return "x".join(f"{length:.4g}" for length in lengths)
