"""How much memory a case will need, before it runs, and the way to run it that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count, product
from math import ceil, prod

import torch

from unet.config import UNetConfig
from unet.model import UNet

ONE_PASS_VOXELS = 2**22
"""A pass has so many voxels at most, where nothing is known of the network."""
PASS_BYTES = 3 * 2**29
"""What a pass may need, as OpenVINO in bfloat16 has it. A constant, not what memory is free, and the same for every
backend and precision: one scan gives one mask on every machine that can hold it."""
SUMS_IN_MEMORY_BYTES = 2**29
"""Sums of logits larger than this are kept in a file: tiles touch a part of it at a time, and the mask is the same."""
BYTES_OF_NUMBERS = 4
"""Images, logits and their sums are in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appetite:
    """What a backend holds at the worst moment of a pass; measured (`benchmarks/memory.py`)."""

    per_map: int
    """Bytes of each voxel and map of the first level, in the block before the head."""
    per_class: int
    """Bytes of each voxel and class: the logits as they are computed, and as they are returned."""
    per_weight: int
    """Bytes of each number of the network, which is compiled once more for images of another kind."""
    head_per_map: int | None = None
    """Bytes of each voxel and map in the head, if the block's are gone by then; None: all is there at once."""
    always: int = 0
    """Bytes that the allocator keeps, whatever the image is."""


OPENVINO_BFLOAT16 = Appetite(per_map=10, per_class=10, per_weight=2)
OPENVINO_FLOAT32 = Appetite(per_map=19, per_class=11, per_weight=4)
TORCH_BFLOAT16 = Appetite(per_map=22, per_class=4, per_weight=0, head_per_map=4, always=72 * 2**20)
TORCH_FLOAT32 = Appetite(per_map=16, per_class=4, per_weight=0, head_per_map=4, always=72 * 2**20)


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
    appetite: Appetite,
    free_bytes: float,
    *,
    fixed: bool = False,
) -> Way | None:
    """The first way for an image of `size` that fits into `free_bytes`; None when not even the last does.

    In one pass where that is not too large, else in tiles of at least the training `patch`; where that does not fit, in
    tiles of the patch, whose mask may differ in a few voxels. `fixed`: in tiles of the patch, and no others.
    """
    usual = usual_tile(size, patch, most_voxels(config))
    tiles = (_within(patch, size),) if fixed else (usual, _within(patch, size))
    ways = (_way(config, size, tile, appetite) for tile in tiles)
    return next((way for way in ways if way.needed_bytes <= free_bytes), None)


def _way(config: UNetConfig, size: tuple[int, ...], tile: tuple[int, ...] | None, appetite: Appetite) -> Way:
    voxels = prod(size)
    image = BYTES_OF_NUMBERS * config.in_channels * voxels
    if tile is None:
        return Way(tile=None, on_disk=False, needed_bytes=image + pass_bytes(config, voxels, appetite))
    sums, weights = (BYTES_OF_NUMBERS * maps * voxels for maps in (config.out_channels, 1))
    on_disk = sums > SUMS_IN_MEMORY_BYTES
    if on_disk:  # image and sums are files mapped to memory: what is there are whole lines, of one class at a time
        lines = BYTES_OF_NUMBERS * prod(tile[:-1]) * size[-1]
        image, sums = config.in_channels * lines, lines
    needed = image + pass_bytes(config, prod(tile), appetite) + weights + sums
    return Way(tile=tile, on_disk=on_disk, needed_bytes=needed)


def smallest_way(config: UNetConfig, size: tuple[int, ...], patch: tuple[int, ...], appetite: Appetite) -> Way:
    """The way that needs least."""
    return _way(config, size, _within(patch, size), appetite)


def pass_bytes(config: UNetConfig, voxels: int, appetite: Appetite) -> int:
    """What one pass over an image of `voxels` needs beside the image."""
    block, head = appetite.per_map * config.features[0], appetite.per_class * config.out_channels
    if appetite.head_per_map is not None:
        block, head = max(block, head + appetite.head_per_map * config.features[0]), 0
    always = appetite.always + appetite.per_weight * count_weights(config)
    return always + voxels * (block + head + 3 * BYTES_OF_NUMBERS * config.in_channels)


@cache
def count_weights(config: UNetConfig) -> int:
    """Numbers that the network of `config` has."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in UNet(config).parameters())


def most_voxels(config: UNetConfig) -> int:
    """How many voxels a pass of the network of `config` may have."""
    return PASS_BYTES // (pass_bytes(config, 1, OPENVINO_BFLOAT16) - pass_bytes(config, 0, OPENVINO_BFLOAT16))


def usual_tile(size: tuple[int, ...], patch: tuple[int, ...], most: int | None = None) -> tuple[int, ...] | None:
    """The tile of an image of `size` where a pass has `most` voxels, and memory is no matter; None: one pass."""
    most = most or ONE_PASS_VOXELS
    return None if prod(size) <= most else best_tile(size, patch, most)


def best_tile(size: tuple[int, ...], patch: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The tile, nowhere smaller than `patch` and of `most` voxels if the patch is, that computes least twice.

    Tiles overlap by half. Long ones, from one end of the image to the other along an axis or two, overlap along the
    others alone: of 512 × 512 × 600 voxels each is computed three to five times, of small cubes seven times.
    """
    choices = [_sides(length, side) for length, side in zip(size, patch, strict=True)]
    fitting = [tile for tile in product(*choices) if prod(tile) <= most]
    if not fitting:
        return _within(patch, size)
    return min(fitting, key=lambda tile: _cost(size, tile))


def _sides(length: int, patch: int) -> Sequence[int]:
    """For each number of tiles along an axis the shortest side that needs no more, a multiple of what the patch is."""
    step, sides = patch & -patch, [length]
    for tiles in count(2):
        shorter = ceil(2 * length / (tiles + 1) / step) * step
        if shorter <= patch:
            return [*sides, patch] if patch < length else [length]
        if shorter < sides[-1]:
            sides.append(shorter)
    return sides


def _cost(size: tuple[int, ...], tile: tuple[int, ...]) -> float:
    """Voxels that all tiles compute, and a quarter of those in whose lines along the last axis they lie: these are
    fetched and written back, as voxels of a line are neighbours in memory and in files."""
    counts = [tile_count(length, side) for length, side in zip(size, tile, strict=True)]
    return prod(counts) * (prod(tile) + prod(tile[:-1]) * size[-1] / 4)


def tile_count(length: int, tile: int, *, overlap: bool = True) -> int:
    """How many tiles an axis needs that are at most half a tile apart, or, without `overlap`, a whole one."""
    return 1 if length <= tile else ceil((length - tile) / (tile / 2 if overlap else tile)) + 1


def _within(tile: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(length, limit) for length, limit in zip(size, tile, strict=True))
