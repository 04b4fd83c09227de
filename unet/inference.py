"""Logits for a volume of any size: one pass where it fits, else overlapping tiles weighted by a Gaussian.

Isensee et al. 2021: half-patch steps, redistributed evenly so that the last tile ends at the border; weights of
σ = patch / 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from math import ceil, prod

import torch
from torch import Tensor

from unet.agreement import count_pairs, mean_pairwise_dice
from unet.backends import Network

ONE_PASS_VOXELS = 2**23
"""A constant, not what memory is free: one scan gives one mask on every machine. About 5 GB at 32 maps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the networks say of one image: mean logits (K, X, Y, Z), float32, on the image's device.

    `agreement` has for each class but the background how far the members of an ensemble agree, or, of one network,
    its answers to the flipped images: the mean Dice over all pairs of their own label maps, NaN where none has the
    class. Empty when there is only one answer.
    """

    logits: Tensor
    agreement: dict[int, float]


@torch.inference_mode()
def predict(
    networks: Sequence[Network], image: Tensor, patch: tuple[int, ...], mirror_axes: Sequence[int] = ()
) -> Answer:
    """The mean over `networks`, made ready by `unet.backends.ready`, for `image` (C, X, Y, Z).

    A volume of at most 2^23 voxels is one pass: nothing to stitch. Larger ones pass in tiles that are a multiple of
    the training `patch`, because large tiles overlap less and are computed faster. `mirror_axes` averages over
    all flips of these spatial axes; give only axes that training mirrored. In tiles, the label maps that are compared
    for the agreement are those of the tile whose centre is nearest.
    """
    size = tuple(image.shape[1:])
    voices = _voices(networks, mirror_axes)
    if prod(size) <= ONE_PASS_VOXELS:
        logits, maps = _heard(voices, image)
        return Answer(logits=logits, agreement=mean_pairwise_dice(count_pairs(maps, len(logits))))
    tile = tuple(min(length, limit) for length, limit in zip(size, largest_tile(patch), strict=True))
    return _stitched(voices, image, tile)


@dataclass(frozen=True, slots=True)
class _Voice:
    """One of the answers that are averaged: those of a network to an image flipped along each of `flips`."""

    network: Network
    flips: tuple[tuple[int, ...], ...]


def _voices(networks: Sequence[Network], mirror_axes: Sequence[int]) -> list[_Voice]:
    """The members of an ensemble, each with all flips; of a single network, each flip by itself."""
    flips = [axes for n in range(len(mirror_axes) + 1) for axes in combinations(mirror_axes, n)]
    if len(networks) > 1:
        return [_Voice(network, tuple(flips)) for network in networks]
    return [_Voice(networks[0], (axes,)) for axes in flips]


def _stitched(voices: Sequence[_Voice], image: Tensor, tile: tuple[int, ...]) -> Answer:
    """The answer in tiles."""
    size = tuple(image.shape[1:])
    importance = gaussian_weights(tile).to(image.device)
    total, weights = torch.zeros((), device=image.device), torch.zeros(size, device=image.device)
    counts = torch.zeros(())
    for place, core in tiles_with_cores(size, tile):
        part = image[(slice(None), *place)]
        logits, maps = _heard(voices, part)
        if not total.ndim:
            total = torch.zeros((len(logits), *size), device=image.device)
        total[(slice(None), *place)] += logits * importance
        weights[place] += importance
        counts = counts + count_pairs(maps[(slice(None), *core)], len(logits))
    return Answer(logits=total.div_(weights), agreement=mean_pairwise_dice(counts))


def _heard(voices: Sequence[_Voice], image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean logits (K, X, Y, Z) over `voices`, and the label map of each, (M, X, Y, Z), when there are several."""
    total = torch.zeros((), device=image.device)
    maps: list[Tensor] = []
    for voice in voices:
        logits = torch.zeros((), device=image.device)
        for flip in voice.flips:
            dims = [axis + 1 for axis in flip]
            logits = logits + voice.network(image.flip(dims)[None])[0].flip(dims)
        if len(voices) > 1:
            maps.append(logits.argmax(dim=0).to(torch.int16))
        total = total + logits
    answers = sum(len(voice.flips) for voice in voices)
    return total / answers, torch.stack(maps) if maps else torch.zeros((0, *image.shape[1:]), dtype=torch.int16)


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


def tiles_with_cores(
    size: tuple[int, ...], tile: tuple[int, ...]
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Each tile with its core: the part of it, counted from its own corner, to whose voxels no other centre is nearer.

    The cores of all tiles together are the volume, once.
    """
    for place in tiles(size, tile):
        core = []
        for part, length, side in zip(place, size, tile, strict=True):
            starts = tile_starts(length, side)
            middles = [(one + other + side) // 2 for one, other in pairwise(starts)]
            first, last = [0, *middles][starts.index(part.start)], [*middles, length][starts.index(part.start)]
            core.append(slice(first - part.start, last - part.start))
        yield place, tuple(core)


def gaussian_weights(tile: tuple[int, ...]) -> Tensor:
    """Weights of shape `tile`: 1 at the centre, σ an eighth of the side, zeros lifted to the smallest other weight."""
    weights = torch.ones(())
    for side in tile:
        position = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (position / (side / 8)) ** 2)
    weights = (weights / weights.max()).float()
    return weights.clamp(min=float(weights[weights > 0].min()))
