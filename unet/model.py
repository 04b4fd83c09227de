"""The U-Net in one, two and three dimensions.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv:1505.04597, as
taught by R. Souza, "The U-net Model, a fully convolutional neural network model", University of Calgary, W2024: padded
convolutions, so that output size = input size; two convolutions a level; skip connections by concatenation.

What we changed: any number of dimensions and levels, kernel and pooling per level and axis (anisotropic voxels), a
choice of upsampling and normalisation, and inputs of any size, which are padded at the far end and cropped back.

Shapes below are written for three dimensions. B batch, C input channels, K output maps, F_i feature maps of level i.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

Upsampling = Literal["transposed", "nearest", "linear"]
Normalisation = Literal["batch", "instance", "none"]
PerAxis = tuple[int, ...]

_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOLING = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """The description a network is built from; the default is the reference network of the lecture."""

    dimensions: int = 2
    """Spatial axes: 1, 2 or 3."""
    in_channels: int = 1
    """Channels C of the input."""
    out_channels: int = 1
    """Output maps K: classes with the background for segmentation, quantities for regression."""
    features: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Feature maps of each level, finest first."""
    poolings: tuple[PerAxis, ...] = ()
    """Pooling factor per axis between level i and i + 1; empty: 2 on every axis, every time."""
    kernels: tuple[PerAxis, ...] = ()
    """Odd kernel size per axis at each level; empty: 3 on every axis."""
    upsampling: Upsampling = "nearest"
    """How the decoder doubles the size; transposed convolution also halves the maps."""
    normalisation: Normalisation = "none"
    """What stands between each convolution and its ReLU."""

    def __post_init__(self) -> None:
        levels = len(self.features)
        if self.dimensions not in _CONVOLUTION:
            raise ValueError(f"dimensions must be 1, 2 or 3, not {self.dimensions}")
        if levels == 0 or min((self.in_channels, self.out_channels, *self.features)) < 1:
            raise ValueError("a network needs at least one level, and at least one map everywhere")
        if self.poolings and len(self.poolings) != levels - 1:
            raise ValueError(f"{levels} levels need {levels - 1} poolings, not {len(self.poolings)}")
        if self.kernels and len(self.kernels) != levels:
            raise ValueError(f"{levels} levels need {levels} kernels, not {len(self.kernels)}")
        if any(len(sizes) != self.dimensions for sizes in (*self.poolings, *self.kernels)):
            raise ValueError(f"every pooling and kernel needs {self.dimensions} numbers")
        if any(size % 2 == 0 for kernel in self.kernels for size in kernel):
            raise ValueError("kernel sizes must be odd, so that padding keeps the size")

    def pooling(self, level: int) -> PerAxis:
        """Pooling factor per axis between `level` and the next coarser one."""
        return self.poolings[level] if self.poolings else (2,) * self.dimensions

    def kernel(self, level: int) -> PerAxis:
        """Kernel size per axis at `level`."""
        return self.kernels[level] if self.kernels else (3,) * self.dimensions

    @property
    def divisor(self) -> PerAxis:
        """Product of all poolings per axis: what a side must be a multiple of."""
        product = [1] * self.dimensions
        for level in range(len(self.features) - 1):
            product = [done * factor for done, factor in zip(product, self.pooling(level), strict=True)]
        return tuple(product)


class Block(nn.Sequential):
    """Two padded convolutions, each followed by normalisation and ReLU: (B, in, X, Y, Z) → (B, out, X, Y, Z)."""

    def __init__(self, config: UNetConfig, in_maps: int, out_maps: int, level: int) -> None:
        kernel = config.kernel(level)
        layers: list[nn.Module] = []
        for maps in (in_maps, out_maps):
            padding = tuple(size // 2 for size in kernel)
            convolution = _CONVOLUTION[config.dimensions]
            layers.append(convolution(maps, out_maps, cast(int, kernel), padding=cast(int, padding)))
            if config.normalisation == "batch":
                layers.append(_BATCH_NORM[config.dimensions](out_maps))
            elif config.normalisation == "instance":
                layers.append(_INSTANCE_NORM[config.dimensions](out_maps, affine=True))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


def _upsampling(config: UNetConfig, level: int) -> tuple[nn.Module, int]:
    """The layer that takes level + 1 to the size of `level`, and the number of maps it gives."""
    factor, coarse, fine = config.pooling(level), config.features[level + 1], config.features[level]
    if config.upsampling == "transposed":
        layer = _TRANSPOSED[config.dimensions](coarse, fine, cast(int, factor), stride=cast(int, factor))
        return layer, fine
    scale = tuple(float(size) for size in factor)
    if config.upsampling == "nearest":
        return nn.Upsample(scale_factor=scale, mode="nearest"), coarse
    return nn.Upsample(scale_factor=scale, mode=_LINEAR[config.dimensions], align_corners=False), coarse


class UNet(nn.Module):
    """Encoder down to the bottleneck, decoder back up with skip connections, 1 × 1 convolution to the output maps."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        maps, levels = config.features, range(len(config.features))
        inputs = (config.in_channels, *maps[:-1])
        self.encoder = nn.ModuleList(Block(config, inputs[level], maps[level], level) for level in levels)
        self.poolings = nn.ModuleList(_POOLING[config.dimensions](config.pooling(level)) for level in levels[:-1])
        self.upsamplings, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level in reversed(levels[:-1]):
            upsampling, upsampled = _upsampling(config, level)
            self.upsamplings.append(upsampling)
            self.decoder.append(Block(config, upsampled + maps[level], maps[level], level))
        self.head = _CONVOLUTION[config.dimensions](maps[0], config.out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, K, X, Y, Z) for an image (B, C, X, Y, Z) of any size."""
        logits = self.levels(pad_to_multiple(image, self.config.divisor))
        return logits[(slice(None), slice(None), *(slice(length) for length in image.shape[2:]))]

    def levels(self, image: Tensor) -> Tensor:
        """Logits (B, K, X, Y, Z) for an image (B, C, X, Y, Z) whose sides are multiples of the divisor."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):  # level i: (B, F_i, X / 2^i, Y / 2^i, Z / 2^i)
            image = block(self.poolings[level - 1](image) if level else image)
            skips.append(image)
        skips.pop()
        for upsampling, block in zip(self.upsamplings, self.decoder, strict=True):
            image = block(torch.cat((upsampling(image), skips.pop()), dim=1))
        logits: Tensor = self.head(image)
        return logits


def pad_to_multiple(image: Tensor, divisor: PerAxis) -> Tensor:
    """`image` (B, C, X, Y, Z) with zeros at the far end of each axis, up to the next multiple of `divisor`."""
    missing = [-length % factor for length, factor in zip(image.shape[2:], divisor, strict=True)]
    if not any(missing):
        return image
    return functional.pad(image, [side for amount in reversed(missing) for side in (0, amount)])


def convolution_parameters(network: nn.Module) -> int:
    """Weights and biases of all convolutions: input maps × filter size × output maps + output maps, summed."""
    kinds = (*_CONVOLUTION.values(), *_TRANSPOSED.values())
    return sum(p.numel() for module in network.modules() if isinstance(module, kinds) for p in module.parameters())
