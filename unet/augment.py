"""Random patches for training: one affine resampling of image and labels together, then intensity changes.

The ranges are nnU-Net's (Isensee et al. 2021, supplement 4). Rotation, scaling and the choice of the patch are one
sampling grid, so a voxel is interpolated once, straight from the whole volume, and no border is invented inside it.
Interpolating blurs, and inference sees scans as sharp as they are: so part of the patches are not interpolated at all.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from unet.config import AugmentConfig


def draw_patch(
    image: Tensor,
    target: Tensor,
    centre: Tensor,
    patch: tuple[int, ...],
    affine: Tensor,
) -> tuple[Tensor, Tensor]:
    """A patch of `image` (C, X, Y, Z) and `target` around `centre`, turned by `affine`.

    `centre` (n,) and `affine` (n, n) count voxels of the volume; `patch` is the size of what is returned. `target` is
    (X, Y, Z) of an integer type, and is returned as int64, or (K, X, Y, Z) of a floating type. Outside of the volume
    the image is 0 (its mean, after normalisation) and the target 0. Linear, for integers nearest. For one, two and
    three spatial axes; only the part of the volume under the patch is read.
    """
    axes = [torch.arange(length, dtype=torch.float32) - (length - 1) / 2 for length in patch]
    position = centre + torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ affine.T
    first, last = position.flatten(0, -2).aminmax(dim=0)
    end = torch.tensor(image.shape[1:])
    low = torch.minimum(first.floor().long().clamp(min=0), end - 1)
    high = torch.maximum(torch.minimum(last.ceil().long() + 1, end), low + 1)
    near = tuple(slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    position = position - low
    drawn = _sample(image[(slice(None), *near)], position, "bilinear")
    if target.is_floating_point():
        return drawn, _sample(target[(slice(None), *near)], position, "bilinear")
    return drawn, _sample(target[near][None].float(), position, "nearest")[0].long()


def _sample(volume: Tensor, position: Tensor, mode: str) -> Tensor:
    """`volume` (C, X, Y, Z) at `position` (*patch, n), in voxels: (C, *patch)."""
    size = torch.tensor(volume.shape[1:], dtype=torch.float32)
    grid = ((2 * position + 1) / size - 1).flip(-1)[None]  # grid_sample counts the last axis first
    if position.shape[-1] > 1:
        return functional.grid_sample(volume[None], grid, mode=mode, padding_mode="zeros", align_corners=False)[0]
    line = torch.cat((grid, torch.zeros_like(grid)), dim=-1)[:, None]  # it has no 1-D form: an image of one row
    drawn = functional.grid_sample(volume[None, :, None], line, mode=mode, padding_mode="zeros", align_corners=False)
    return drawn[0, :, 0]


def random_affine(config: AugmentConfig, spacing_mm: tuple[float, ...], random: Generator) -> Tensor:
    """A rotation, zoom and mirroring (n × n) that acts on voxel offsets, rotating in millimetres.

    Of a patch that is not turned, the identity, perhaps mirrored.
    """
    matrix = torch.eye(len(spacing_mm))
    if _chance(random, config.affine_probability):
        matrix = _turned(config, spacing_mm, random)
    for axis in config.mirror_axes:
        if _uniform(random) > 0:
            matrix[axis] = -matrix[axis]
    return matrix


def _turned(config: AugmentConfig, spacing_mm: tuple[float, ...], random: Generator) -> Tensor:
    dimensions, spacing = len(spacing_mm), torch.tensor(spacing_mm)
    matrix = torch.eye(dimensions) * (1 + config.scale * _uniform(random))
    for first in range(dimensions):
        for second in range(first + 1, dimensions):
            if max(spacing_mm[first], spacing_mm[second]) > 2 * min(spacing_mm[first], spacing_mm[second]):
                continue  # turning across thick slices would only smear them
            matrix = matrix @ _rotation(dimensions, first, second, config.rotation_degrees * _uniform(random))
    return matrix * spacing / spacing[:, None]


def change_intensity(image: Tensor, config: AugmentConfig, random: Generator) -> Tensor:
    """`image` (1, X, Y, Z), z-scored, with random noise, brightness, contrast and gamma."""
    if _chance(random, config.probability):
        image = image + torch.randn(image.shape, generator=random) * config.noise_sd * abs(_uniform(random))
    if _chance(random, config.probability):
        image = image * (1 + config.contrast * _uniform(random))
    if _chance(random, config.probability):
        image = image + config.contrast * _uniform(random)
    if _chance(random, config.probability):
        low, high = image.min(), image.max()
        exponent = 2 ** (config.gamma * _uniform(random))
        image = ((image - low) / (high - low).clamp(min=1e-6)) ** exponent * (high - low) + low
    return image


def _rotation(dimensions: int, first: int, second: int, degrees: float) -> Tensor:
    angle = torch.deg2rad(torch.tensor(degrees))
    matrix = torch.eye(dimensions)
    matrix[first, first] = matrix[second, second] = angle.cos()
    matrix[first, second], matrix[second, first] = -angle.sin(), angle.sin()
    return matrix


def _uniform(random: Generator) -> float:
    """A number between -1 and 1."""
    return float(torch.rand((), generator=random)) * 2 - 1


def _chance(random: Generator, probability: float) -> bool:
    return float(torch.rand((), generator=random)) < probability
