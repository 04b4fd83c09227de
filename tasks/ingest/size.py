"""Whether what a header claims can be believed and held, asked before anything is allocated for it."""

from __future__ import annotations

import math
from pathlib import Path

from tasks.scan.errors import DecompressionBomb, TooLarge
from tasks.scan.reading import Header, reading
from tasks.scan.records import Shape, Spacing
from tasks.scan.resample import resampled_shape

MOST_VOXELS_PER_BYTE = 100
"""A compressed scan has about 1 voxel in each byte of its file, and one that is mostly empty about 10; zeros have
130 (float64) to 1030 (uint8), which is all that deflate can do."""

MOST_RESAMPLED_VOXELS = 500_000_000
"""A whole body at 1 mm has 300 million voxels: 500 × 300 × 2000."""

LARGE_VOXELS = 50_000_000
"""Fewer voxels than these do no harm, however well they are packed."""


def check_size(header: Header, case: str, most_voxels: int) -> None:
    """Nothing, if the scan has at most `most_voxels`, and its files are large enough to hold that many.

    Raises:
        TooLarge, DecompressionBomb; UnreadableImage: a file that the header names is not there.
    """
    voxels = math.prod(header.geometry.shape) * len(header.source.channels)
    shape = " × ".join(str(length) for length in header.geometry.shape)
    if voxels > most_voxels:
        raise TooLarge(
            case,
            found=f"the header claims {shape} = {voxels:.3g} voxels, {voxels * 4 / 1e9:.3g} GB in memory",
            needed=f"at most {most_voxels:.3g} voxels",
            remedy="check the header; if the scan is that large, raise the setting ingest.most_voxels",
        )
    stored = sum(_size(file, case) for file in header.source.files)
    if voxels > LARGE_VOXELS and voxels > MOST_VOXELS_PER_BYTE * stored:
        raise DecompressionBomb(
            case,
            found=f"the header claims {shape} = {voxels:.3g} voxels in a file of {stored / 1e6:.3g} MB",
            needed=f"at most {MOST_VOXELS_PER_BYTE} voxels a byte, which only constant or missing voxels exceed",
            remedy="look at where the file comes from, and copy or convert it again",
        )


def check_resampled_size(shape: Shape, spacing_mm: Spacing, target_mm: Spacing, case: str) -> None:
    """Nothing, if a scan of `shape` and `spacing_mm` has a size that can be worked on at the network's `target_mm`.

    Raises:
        TooLarge: a spacing that cannot be right makes a giant of a small file.
    """
    resampled = resampled_shape(shape, spacing_mm, target_mm)
    if (voxels := math.prod(resampled)) > MOST_RESAMPLED_VOXELS:
        raise TooLarge(
            case,
            found=f"at the model's spacing of {_by(target_mm)} mm the scan would have "
            f"{_by(resampled)} = {voxels:.3g} voxels; its own are {_by(spacing_mm)} mm large",
            needed=f"at most {MOST_RESAMPLED_VOXELS:.3g} voxels",
            remedy="check the spacing in the header: its lengths may not be in mm",
        )


def _by(lengths: Shape | Spacing) -> str:
    return " × ".join(f"{length:.4g}" for length in lengths)


def _size(file: Path, case: str) -> int:
    with reading(file, case):
        return file.stat().st_size
