"""Logits for a volume of any size: one pass where it fits, else overlapping tiles weighted by a Gaussian.

Isensee et al. 2021: half-patch steps, redistributed evenly so that the last tile ends at the border; weights of
σ = patch / 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, pairwise, product

import torch
from torch import Tensor

from unet.agreement import count_pairs, mean_pairwise_dice
from unet.backends import Network
from unet.memory import tile_count, usual_tile

PLANES = 64
"""Of sums in a file, so many are looked at at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the networks say of one image: mean logits (K, X, Y, Z), float32, on the image's device.

    `agreement` has for each class but the background how far the members of an ensemble agree, or, of one network,
    its answers to the flipped images: the mean Dice over all pairs of their own label maps, NaN where none has the
    class. Empty when there is only one answer.
    """

    logits: Tensor
    agreement: dict[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """How tiles are joined."""

    slice_axis: int | None = None
    """Along it the networks see one slice after the other (`unet.slices`), so tiles need not overlap there."""
    nnunet: bool = False
    """Whether tiles are weighted as nnU-Net does it: of an even side, the middle is the voxel after it; in float16."""


@torch.inference_mode()
def predict(
    networks: Sequence[Network], image: Tensor, patch: tuple[int, ...], mirror_axes: Sequence[int] = ()
) -> Answer:
    """The mean over `networks`, made ready by `unet.backends.ready`, for `image` (C, X, Y, Z).

    A volume of at most 2^22 voxels is one pass: nothing to stitch. Larger ones pass in tiles that are no smaller than
    the training `patch`, and as long as may be: long tiles overlap less. `mirror_axes` averages over
    all flips of these spatial axes; give only axes that training mirrored. In tiles, the label maps that are compared
    for the agreement are those of the tile whose centre is nearest.
    """
    return predict_in(usual_tile(tuple(image.shape[1:]), patch), networks, image, mirror_axes)


@torch.inference_mode()
def predict_in(
    tile: tuple[int, ...] | None,
    networks: Sequence[Network],
    image: Tensor,
    mirror_axes: Sequence[int] = (),
    sums: Sums | None = None,
    seams: Seams = Seams(),
) -> Answer:
    """What `predict` returns, in tiles of `tile` (None: in one pass), summed in `sums` if they are given."""
    voices = _voices(networks, mirror_axes)
    if tile is not None:
        return _stitched(voices, image, tile, sums, seams)
    logits, maps = _heard(voices, image)
    return Answer(logits=logits, agreement=mean_pairwise_dice(count_pairs(maps, len(logits))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Where the weighted logits of tiles are added up: zeros (K, X, Y, Z), perhaps in a file, and what
    lets go of memory the parts that were added to."""

    values: Tensor
    let_go: Callable[[], None]


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


def _stitched(
    voices: Sequence[_Voice], image: Tensor, tile: tuple[int, ...], sums: Sums | None, seams: Seams
) -> Answer:
    """The answer in tiles."""
    size = tuple(image.shape[1:])
    importance = tile_weights(tile, seams).to(image.device)
    weights, counts = torch.zeros(size, device=image.device), torch.zeros(())
    flat: dict[float, tuple[Tensor, Tensor]] = {}
    for place, core in tiles_with_cores(size, tile, seams.slice_axis):
        logits, maps = _heard_once(voices, image[(slice(None), *place)], flat)
        if sums is None:
            sums = Sums(values=torch.zeros((len(logits), *size), device=image.device), let_go=lambda: None)
        _add(sums, place, logits, importance)
        weights[place] += importance
        counts = counts + count_pairs(maps[(slice(None), *core)], len(logits))
        del logits, maps  # else they are there beside those of the next tile
    if sums is None:
        raise ValueError(f"an image of {size} has no voxel")
    for of_class in sums.values:
        for first in range(0, len(of_class), PLANES):
            of_class[first : first + PLANES].div_(weights[first : first + PLANES])
            sums.let_go()
    return Answer(logits=sums.values, agreement=mean_pairwise_dice(counts))


def _add(sums: Sums, place: tuple[slice, ...], logits: Tensor, importance: Tensor) -> None:
    """`logits` times `importance` are in `sums`, too; of a file, one class at a time is in memory."""
    for of_class, said in zip(sums.values, logits, strict=True):
        of_class[place].addcmul_(said, importance)
        sums.let_go()


def _heard_once(
    voices: Sequence[_Voice], image: Tensor, flat: dict[float, tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """What `_heard` returns; of tiles of one value everywhere, as air is, the first is kept in `flat`."""
    value = float(image[(0,) * image.ndim])
    if not bool((image == value).all()):
        return _heard(voices, image)
    if value not in flat:
        flat.clear()
        flat[value] = _heard(voices, image)
    return flat[value]


def _heard(voices: Sequence[_Voice], image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean logits (K, X, Y, Z) over `voices`, and the label map of each, (M, X, Y, Z), when there are several.

    Added up in what the first network returned: another volume of all classes may be what memory cannot hold.
    """
    maps: list[Tensor] = []

    def speak(voice: _Voice) -> Tensor:
        logits = reduce(Tensor.add_, (_flipped(voice.network, image, flip) for flip in voice.flips))
        if len(voices) > 1:
            maps.append(logits.argmax(dim=0).to(torch.int16))
        return logits

    total, count = reduce(Tensor.add_, map(speak, voices)), sum(len(voice.flips) for voice in voices)
    mean = total if count == 1 else total.div_(count)
    return mean, torch.stack(maps) if maps else torch.zeros((0, *image.shape[1:]), dtype=torch.int16)


def _flipped(network: Network, image: Tensor, flip: tuple[int, ...]) -> Tensor:
    """The logits (K, X, Y, Z) that `network` gives to `image` flipped along the axes `flip`, flipped back."""
    dims = [axis + 1 for axis in flip]
    return network(image.flip(dims)[None])[0].flip(dims) if dims else network(image[None])[0]


def tile_starts(length: int, tile: int, *, overlap: bool = True) -> list[int]:
    """Where tiles start on one axis: at most half a tile apart (without `overlap`, a whole one), evenly, the last one
    ending at the border."""
    if length <= tile:
        return [0]
    count = tile_count(length, tile, overlap=overlap)
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def tiles(size: tuple[int, ...], tile: tuple[int, ...], slice_axis: int | None = None) -> Iterator[tuple[slice, ...]]:
    """The slices of all tiles that together cover `size`."""
    for corner in product(*_starts(size, tile, slice_axis)):
        yield tuple(slice(start, start + side) for start, side in zip(corner, tile, strict=True))


def tiles_with_cores(
    size: tuple[int, ...], tile: tuple[int, ...], slice_axis: int | None = None
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Each tile with its core: the part of it, counted from its own corner, to whose voxels no other centre is nearer.

    The cores of all tiles together are the volume, once.
    """
    along = _starts(size, tile, slice_axis)
    for place in tiles(size, tile, slice_axis):
        core = []
        for part, length, side, starts in zip(place, size, tile, along, strict=True):
            middles = [(one + other + side) // 2 for one, other in pairwise(starts)]
            first, last = [0, *middles][starts.index(part.start)], [*middles, length][starts.index(part.start)]
            core.append(slice(first - part.start, last - part.start))
        yield place, tuple(core)


def _starts(size: tuple[int, ...], tile: tuple[int, ...], slice_axis: int | None) -> list[list[int]]:
    """Where tiles start on each axis."""
    lengths = zip(size, tile, strict=True)
    return [tile_starts(length, side, overlap=axis != slice_axis) for axis, (length, side) in enumerate(lengths)]


def tile_weights(tile: tuple[int, ...], seams: Seams) -> Tensor:
    """Weights of shape `tile`; all slices along the axis of slices weigh the same."""
    sides = tuple(1 if axis == seams.slice_axis else side for axis, side in enumerate(tile))
    weights = nnunet_weights(sides) if seams.nnunet else gaussian_weights(sides)
    return weights.expand(tile)


def gaussian_weights(tile: tuple[int, ...]) -> Tensor:
    """Weights of shape `tile`: 1 at the centre, σ an eighth of the side, zeros lifted to the smallest other weight."""
    return _lifted(_gaussian(tile, [(side - 1) / 2 for side in tile]).float())


def nnunet_weights(tile: tuple[int, ...]) -> Tensor:
    """The same as nnU-Net's `compute_gaussian` has them: 10 at voxel side // 2, of 16 bits."""
    return _lifted((_gaussian(tile, [side // 2 for side in tile]) * 10).half()).float()


def _gaussian(tile: tuple[int, ...], middle: Sequence[float]) -> Tensor:
    weights = torch.ones((), dtype=torch.float64)
    for side, centre in zip(tile, middle, strict=True):
        position = torch.arange(side, dtype=torch.float64) - centre
        weights = weights[..., None] * torch.exp(-0.5 * (position / (side / 8)) ** 2)
    return weights / weights.max()


def _lifted(weights: Tensor) -> Tensor:
    return weights.clamp(min=float(weights[weights > 0].min()))
