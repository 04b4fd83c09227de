"""How much memory a case will need, before it runs, and the way to run it that follows."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from unet.model import UNetConfig

ONE_PASS_VOXELS = 2**23
"""A constant, not what memory is free: one scan gives one mask on every machine that can hold it."""
SMALL_VOXELS = 2**19
"""An image of so many voxels is computed by one core, several at a time. Tiles of larger ones have more, as a rule."""
SUMS_IN_MEMORY_BYTES = 2**30
"""Sums of logits larger than this are kept in a file: tiles touch a part of it at a time, and the mask is the same."""
LIVE_MAPS = 5
"""Volumes of the first level's maps that exist at once: measured (`benchmarks/memory.py`), for both backends."""
BYTES_PER_CLASS = 12
"""Of each class and voxel of a pass: the logits as they are computed, turned into float32, and returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a case runs: its tile (None: one pass), whether the sums are in a file, and what it needs in memory."""

    tile: tuple[int, ...] | None
    on_disk: bool
    needed_bytes: int

    def __str__(self) -> str:
        if self.tile is None:
            return "whole"
        return f"tiles of {' × '.join(str(side) for side in self.tile)}{', sums on disk' if self.on_disk else ''}"


def choose_way(
    config: UNetConfig,
    size: tuple[int, ...],
    patch: tuple[int, ...],
    width: int,
    free_bytes: float,
    *,
    fixed: bool = False,
) -> Way | None:
    """The first way for an image of `size` that fits into `free_bytes`; None when not even the last does.

    In one pass where it has at most 2^23 voxels, else in tiles that are a multiple of the training `patch`; where that
    does not fit, in tiles of the patch, whose mask may differ in a few voxels. `width` is bytes of a number. `fixed`:
    in tiles of the patch, and no others.
    """
    tiles = (_within(patch, size),) if fixed else (usual_tile(size, patch), _within(patch, size))
    ways = (_way(config, size, tile, width) for tile in tiles)
    return next((way for way in ways if way.needed_bytes <= free_bytes), None)


def _way(config: UNetConfig, size: tuple[int, ...], tile: tuple[int, ...] | None, width: int) -> Way:
    voxels = prod(size)
    image = 4 * config.in_channels * voxels
    if tile is None:
        return Way(tile=None, on_disk=False, needed_bytes=image + pass_bytes(config, voxels, width))
    sums = 4 * config.out_channels * voxels
    on_disk = sums > SUMS_IN_MEMORY_BYTES
    needed = image + pass_bytes(config, prod(tile), width) + 4 * voxels + (0 if on_disk else sums)
    return Way(tile=tile, on_disk=on_disk, needed_bytes=needed)


def smallest_way(config: UNetConfig, size: tuple[int, ...], patch: tuple[int, ...], width: int) -> Way:
    """The way that needs least."""
    return _way(config, size, _within(patch, size), width)


def pass_bytes(config: UNetConfig, voxels: int, width: int) -> int:
    """What one pass over an image of `voxels` needs beside image and weights."""
    maps = LIVE_MAPS * width * config.features[0]
    return voxels * (maps + BYTES_PER_CLASS * config.out_channels + BYTES_PER_CLASS * config.in_channels)


def usual_tile(size: tuple[int, ...], patch: tuple[int, ...]) -> tuple[int, ...] | None:
    """The tile of an image of `size` where memory is no matter; None: one pass."""
    return None if prod(size) <= ONE_PASS_VOXELS else _within(largest_tile(patch), size)


def largest_tile(patch: tuple[int, ...]) -> tuple[int, ...]:
    """`patch` times the largest integer that keeps it within half of what may be one pass; `patch` itself at least."""
    factor = 1
    while prod(patch) * (factor + 1) ** len(patch) <= ONE_PASS_VOXELS // 2:
        factor += 1
    return tuple(side * factor for side in patch)


def _within(tile: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(length, limit) for length, limit in zip(size, tile, strict=True))
