"""Logits for a volume of any size: one pass where it fits, else overlapping tiles weighted by a Gaussian.

Isensee et al. 2021: half-patch steps, redistributed evenly so that the last tile ends at the border; weights of
σ = patch / 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from math import ceil, prod

import torch
from torch import Tensor

from unet.devices import channels_last
from unet.model import UNet

ONE_PASS_VOXELS = 2**23
"""A constant, not what memory is free: one scan gives one mask on every machine. About 5 GB at 32 maps."""


@torch.inference_mode()
def predict(
    networks: Sequence[UNet],
    image: Tensor,
    patch: tuple[int, ...],
    precision: torch.dtype,
    mirror_axes: Sequence[int] = (),
) -> Tensor:
    """Logits (K, X, Y, Z), float32, on the image's device, for `image` (C, X, Y, Z): the mean over `networks`.

    A volume of at most 2^23 voxels is one pass: nothing to stitch. Larger ones pass in tiles that are a multiple of
    the training `patch`, because large tiles overlap less and are computed faster. `mirror_axes` averages over
    all flips of these spatial axes; give only axes that training mirrored.
    """
    size = tuple(image.shape[1:])
    if prod(size) <= ONE_PASS_VOXELS:
        return _mirrored(networks, image, precision, mirror_axes)
    total = torch.zeros((networks[0].config.out_channels, *size), device=image.device)
    weights = torch.zeros(size, device=image.device)
    tile = tuple(min(length, limit) for length, limit in zip(size, largest_tile(patch), strict=True))
    importance = gaussian_weights(tile).to(image.device)
    for place in tiles(size, tile):
        logits = _mirrored(networks, image[(slice(None), *place)], precision, mirror_axes)
        total[(slice(None), *place)] += logits * importance
        weights[place] += importance
    return total / weights


def largest_tile(patch: tuple[int, ...]) -> tuple[int, ...]:
    """`patch` times the largest integer that keeps it within half of what may be one pass; `patch` itself at least."""
    factor = 1
    while prod(patch) * (factor + 1) ** len(patch) <= ONE_PASS_VOXELS // 2:
        factor += 1
    return tuple(side * factor for side in patch)


def tile_starts(length: int, tile: int) -> list[int]:
    """Where tiles start on one axis: at most half a tile apart, evenly, the last one ending at the border."""
    if length <= tile:
        return [0]
    count = ceil((length - tile) / (tile / 2)) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def tiles(size: tuple[int, ...], tile: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The slices of all tiles that together cover `size`."""
    starts = [tile_starts(length, side) for length, side in zip(size, tile, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(start, start + side) for start, side in zip(corner, tile, strict=True))


def gaussian_weights(tile: tuple[int, ...]) -> Tensor:
    """Weights of shape `tile`: 1 at the centre, σ an eighth of the side, zeros lifted to the smallest other weight."""
    weights = torch.ones(())
    for side in tile:
        position = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (position / (side / 8)) ** 2)
    weights = (weights / weights.max()).float()
    return weights.clamp(min=float(weights[weights > 0].min()))


def _mirrored(networks: Sequence[UNet], image: Tensor, precision: torch.dtype, mirror_axes: Sequence[int]) -> Tensor:
    """Mean logits (K, X, Y, Z) over `networks` and all flips of `mirror_axes`, the unflipped image included."""
    flips = [[axis + 1 for axis in axes] for n in range(len(mirror_axes) + 1) for axes in combinations(mirror_axes, n)]
    total = torch.zeros((), device=image.device)
    for network, dims in product(networks, flips):
        total = total + _forward(network, image.flip(dims), precision).flip(dims)
    return total / (len(networks) * len(flips))


def _forward(network: UNet, image: Tensor, precision: torch.dtype) -> Tensor:
    batch = image[None].to(memory_format=channels_last(network.config.dimensions))
    with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        logits: Tensor = network(batch)
    return logits[0].float()
