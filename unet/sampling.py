"""Which patches a training step sees: where they are centred, how they are turned, what they look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from unet.augment import change_intensity, draw_patch, random_affine
from unet.config import AugmentConfig

MOST_PLACES = 1_000


@dataclass(frozen=True, slots=True)
class Volume:
    """One training volume: `image` (C, X, Y, Z) float32 and what the network is to say of it.

    `target` is (X, Y, Z) of an integer type for segmentation, or (K, X, Y, Z) of a floating type for regression.
    """

    image: Tensor
    target: Tensor


@dataclass(frozen=True, slots=True)
class Place:
    """Up to 1,000 voxel indices (N, n) of one class in the volume of that number."""

    volume: int
    indices: Tensor


Places = list[list[Place]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """What a patch is."""

    patch: tuple[int, ...]
    """Side lengths of a training patch, in voxels."""
    spacing_mm: tuple[float, ...]
    """Spacing of the training volumes, for rotations."""
    batch_size: int = 4
    """Patches per step."""
    foreground: float = 1 / 3
    """Share of patches that are centred on a voxel of a foreground class; every class has the same chance."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Ranges of the augmentation."""


def foreground_places(volumes: Sequence[Volume]) -> Places:
    """For each foreground class of `volumes`, where it is in each volume that has it; nothing for regression."""
    places: dict[int, list[Place]] = {}
    for number, volume in enumerate(volumes):
        if volume.target.is_floating_point():
            continue
        indices = torch.nonzero(volume.target).to(torch.int16)
        classes = volume.target[volume.target > 0]
        for value in torch.unique(classes).tolist():
            of_class = indices[classes == value]
            of_class = of_class[:: max(1, len(of_class) // MOST_PLACES)].clone()
            places.setdefault(value, []).append(Place(number, of_class))
    return [places[value] for value in sorted(places)]


def draw_batch(
    volumes: Sequence[Volume], places: Places, config: SamplingConfig, random: Generator
) -> tuple[Tensor, Tensor]:
    """Random augmented patches: images (B, C, X, Y, Z) float32, and targets (B, X, Y, Z) int64 or (B, K, X, Y, Z)."""
    images, targets = [], []
    for _ in range(config.batch_size):
        volume, centre = _choose(volumes, places, config, random)
        affine = random_affine(config.augment, config.spacing_mm, random)
        if torch.equal(affine.abs(), torch.eye(len(config.patch))):
            centre = _on_voxels(centre, config.patch)
        image, target = draw_patch(volume.image, volume.target, centre, config.patch, affine)
        images.append(torch.cat([change_intensity(channel[None], config.augment, random) for channel in image]))
        targets.append(target)
    return torch.stack(images), torch.stack(targets)


def _choose(
    volumes: Sequence[Volume], places: Places, config: SamplingConfig, random: Generator
) -> tuple[Volume, Tensor]:
    """A volume and the voxel a patch is centred on: of a foreground class, or anywhere the patch stays inside."""
    patch = torch.tensor(config.patch, dtype=torch.float32)
    jitter = _spread(len(patch), random) * config.augment.shift * patch
    if places and float(torch.rand((), generator=random)) < config.foreground:
        of_class = places[_integer(len(places), random)]
        place = of_class[_integer(len(of_class), random)]
        volume = volumes[place.volume]
        wished = place.indices[_integer(len(place.indices), random)].float()
        middle, slack = _inside(volume, patch)
        return volume, torch.minimum(torch.maximum(wished, middle - slack), middle + slack) + jitter
    volume = volumes[_integer(len(volumes), random)]
    middle, slack = _inside(volume, patch)
    return volume, middle + _spread(len(patch), random) * slack + jitter


def _inside(volume: Volume, patch: Tensor) -> tuple[Tensor, Tensor]:
    """Middle of `volume`, and how far from it a patch may be centred without leaving the volume, in voxels."""
    size = torch.tensor(volume.image.shape[1:], dtype=torch.float32)
    return (size - 1) / 2, (size - patch).clamp(min=0) / 2


def _on_voxels(centre: Tensor, patch: tuple[int, ...]) -> Tensor:
    """The nearest place to `centre` from which the voxels of a patch that is not turned are voxels of the volume."""
    half = (torch.tensor(patch) - 1) / 2
    return (centre - half).round() + half


def _spread(count: int, random: Generator) -> Tensor:
    return torch.rand(count, generator=random) * 2 - 1


def _integer(limit: int, random: Generator) -> int:
    return int(torch.randint(limit, (), generator=random))
