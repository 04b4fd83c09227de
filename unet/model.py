"""The U-Net in one, two and three dimensions.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv:1505.04597, as
taught by R. Souza, "The U-net Model, a fully convolutional neural network model", University of Calgary, W2024: padded
convolutions, so that output size = input size; two convolutions a level; skip connections by concatenation.

What we changed: any number of dimensions and levels, kernel and pooling per level and axis (anisotropic voxels), a
choice of upsampling and normalisation, and inputs of any size: of an odd side the last voxel is pooled alone, and what
comes back up is cut to the size of what it meets. (Padding the input up to a multiple computes more, for the same Dice:
`docs/inference.md`.) It is also the network of nnU-Net (Isensee et al. 2021; arXiv:2404.09556), with strided
convolutions instead of pooling, leaky ReLU, any number of convolutions a level, and perhaps an encoder of residual
blocks (ResNet-D, arXiv:1812.01187).

Shapes below are written for three dimensions. B batch, C input channels, K output maps, F_i feature maps of level i.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from unet.config import PerAxis, UNetConfig

_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOLING = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Block(nn.Sequential):
    """`count` padded convolutions, each with normalisation and ReLU: (B, in, X, Y, Z) → (B, out, X, Y, Z) / stride."""

    def __init__(
        self, config: UNetConfig, maps: tuple[int, int], level: int, count: int = 2, stride: PerAxis = ()
    ) -> None:
        (_, out_maps), kernel = maps, config.kernel(level)
        layers = [*_convolution(config, maps, kernel, stride), _activation(config)]
        for _ in range(count - 1):
            layers += [*_convolution(config, (out_maps, out_maps), kernel), _activation(config)]
        super().__init__(*layers)


class Residual(nn.Module):
    """Two convolutions beside a shortcut: (B, in, X, Y, Z) → (B, out, X, Y, Z) / stride.

    The shortcut averages where the convolutions stride, and has a 1 × 1 convolution where the number of maps changes.
    """

    def __init__(self, config: UNetConfig, maps: tuple[int, int], level: int, stride: PerAxis = ()) -> None:
        super().__init__()
        (in_maps, out_maps), kernel = maps, config.kernel(level)
        first, second = _convolution(config, maps, kernel, stride), _convolution(config, (out_maps, out_maps), kernel)
        self.body = nn.Sequential(*first, _activation(config), *second)
        shortcut: list[nn.Module] = []
        if any(step > 1 for step in stride):
            shortcut.append(_AVERAGE[config.dimensions](stride, stride, ceil_mode=True, count_include_pad=False))
        if in_maps != out_maps:
            shortcut += _convolution(config, maps, (1,) * config.dimensions, bias=False)
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = _activation(config)

    def forward(self, image: Tensor) -> Tensor:
        """Maps (B, out, X, Y, Z) / stride for maps (B, in, X, Y, Z)."""
        activated: Tensor = self.activation(self.body(image) + self.shortcut(image))
        return activated


def _convolution(
    config: UNetConfig, maps: tuple[int, int], kernel: PerAxis, stride: PerAxis = (), *, bias: bool = True
) -> list[nn.Module]:
    """A padded convolution, and the normalisation after it if there is one."""
    padding = tuple(size // 2 for size in kernel)
    steps = stride or (1,) * config.dimensions
    convolution = _CONVOLUTION[config.dimensions](
        *maps, cast(int, kernel), cast(int, steps), padding=cast(int, padding), bias=bias
    )
    if config.normalisation == "batch":
        return [convolution, _BATCH_NORM[config.dimensions](maps[1])]
    if config.normalisation == "instance":
        return [convolution, _INSTANCE_NORM[config.dimensions](maps[1], affine=True)]
    return [convolution]


def _activation(config: UNetConfig) -> nn.Module:
    return nn.ReLU(inplace=True) if config.activation == "relu" else nn.LeakyReLU(0.01, inplace=True)


def _encoder_level(config: UNetConfig, level: int) -> nn.Sequential:
    """The layers of `level` on the way down, which shrink what comes in where no pooling stands before them."""
    out_maps = config.features[level]
    in_maps = config.features[level - 1] if level else config.in_channels
    stride = config.pooling(level - 1) if level and config.downsampling == "strided" else ()
    count = config.convolutions[level] if config.convolutions else 2
    if config.encoder == "plain":
        return Block(config, (in_maps, out_maps), level, count, stride)
    layers: list[nn.Module] = []
    if level == 0:
        layers, in_maps = [*Block(config, (in_maps, out_maps), level, 1)], out_maps
    layers.append(Residual(config, (in_maps, out_maps), level, stride))
    layers += [Residual(config, (out_maps, out_maps), level) for _ in range(count - 1)]
    return nn.Sequential(*layers)


def _pooling(config: UNetConfig, level: int) -> nn.Module:
    """The layer that takes `level` to the size of level + 1, unless the convolutions there do it."""
    if config.downsampling == "strided":
        return nn.Identity()
    return _POOLING[config.dimensions](config.pooling(level), ceil_mode=True)


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


class Join(nn.Module):
    """Maps that come up from below, cut to the size of those of their level, before these.

    (B, F, X', Y', Z') and (B, G, X, Y, Z) → (B, F + G, X, Y, Z), where X' ≥ X, Y' ≥ Y and Z' ≥ Z.
    """

    def forward(self, below: Tensor, beside: Tensor) -> Tensor:
        """Both as one tensor."""
        cut = below[(slice(None), slice(None), *(slice(length) for length in beside.shape[2:]))]
        return torch.cat((cut, beside), dim=1)


class UNet(nn.Module):
    """Encoder down to the bottleneck, decoder back up with skip connections, 1 × 1 convolution to the output maps."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        maps, levels = config.features, range(len(config.features))
        self.encoder = nn.ModuleList(_encoder_level(config, level) for level in levels)
        self.poolings = nn.ModuleList(_pooling(config, level) for level in levels[:-1])
        self.upsamplings, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level in reversed(levels[:-1]):
            upsampling, upsampled = _upsampling(config, level)
            self.upsamplings.append(upsampling)
            count = config.decoder_convolutions[level] if config.decoder_convolutions else 2
            self.decoder.append(Block(config, (upsampled + maps[level], maps[level]), level, count))
        self.join = Join()
        self.head = _CONVOLUTION[config.dimensions](maps[0], config.out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, K, X, Y, Z) for an image (B, C, X, Y, Z) of any size."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):  # level i: (B, F_i, X / 2^i, Y / 2^i, Z / 2^i), rounded up
            image = block(self.poolings[level - 1](image) if level else image)
            skips.append(image)
        skips.pop()
        for upsampling, block in zip(self.upsamplings, self.decoder, strict=True):
            image = block(self.join(upsampling(image), skips.pop()))
        logits: Tensor = self.head(image)
        return logits


def convolution_parameters(network: nn.Module) -> int:
    """Weights and biases of all convolutions: input maps × filter size × output maps + output maps, summed."""
    kinds = (*_CONVOLUTION.values(), *_TRANSPOSED.values())
    return sum(p.numel() for module in network.modules() if isinstance(module, kinds) for p in module.parameters())
