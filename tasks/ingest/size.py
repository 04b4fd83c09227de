"""Whether what a header claims can be believed and held, asked before anything is allocated for it."""

from __future__ import annotations

import math
from pathlib import Path

from tasks.scan.errors import DecompressionBomb, TooLarge
from tasks.scan.reading import Header, reading

MOST_VOXELS_PER_BYTE = 100
"""A compressed scan has about 1 voxel in each byte of its file, and one that is mostly empty about 10; zeros have
130 (float64) to 1030 (uint8), which is all that deflate can do."""

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


def _size(file: Path, case: str) -> int:
    with reading(file, case):
        return file.stat().st_size
