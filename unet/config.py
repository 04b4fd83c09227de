"""What a network, its augmentation and its machine are set to: plain records, which are read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]
BackendName = Literal["auto", "torch", "openvino"]
Upsampling = Literal["transposed", "nearest", "linear"]
Normalisation = Literal["batch", "instance", "none"]
Activation = Literal["relu", "leaky"]
Downsampling = Literal["max", "strided"]
Encoder = Literal["plain", "residual"]
PerAxis = tuple[int, ...]
SMALL_VOXELS = 2**19
"""An image of so many voxels is computed by one core, several at a time. Tiles of larger ones have more, as a rule."""


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
    activation: Activation = "relu"
    """What follows it; leaky: a slope of 0.01 below 0."""
    downsampling: Downsampling = "max"
    """How the encoder shrinks: by max pooling, or by the stride of each level's first convolution."""
    encoder: Encoder = "plain"
    """Convolutions, or one convolution and then residual blocks, which shrink by their stride."""
    convolutions: tuple[int, ...] = ()
    """Convolutions, or residual blocks, at each level of the encoder; empty: 2 everywhere."""
    decoder_convolutions: tuple[int, ...] = ()
    """Convolutions at each level of the decoder, finest first; empty: 2 everywhere."""

    def __post_init__(self) -> None:
        levels = len(self.features)
        if self.dimensions not in (1, 2, 3):
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
        self._check_counts(levels)

    def _check_counts(self, levels: int) -> None:
        for counts, needed in ((self.convolutions, levels), (self.decoder_convolutions, levels - 1)):
            if counts and (len(counts) != needed or min(counts) < 1):
                raise ValueError(f"{levels} levels need {needed} counts of convolutions of at least 1, not {counts}")
        if self.encoder == "residual" and self.downsampling != "strided":
            raise ValueError("a residual encoder shrinks by its strides: downsampling must be 'strided'")

    def pooling(self, level: int) -> PerAxis:
        """Pooling factor per axis between `level` and the next coarser one."""
        return self.poolings[level] if self.poolings else (2,) * self.dimensions

    def kernel(self, level: int) -> PerAxis:
        """Kernel size per axis at `level`."""
        return self.kernels[level] if self.kernels else (3,) * self.dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """How far a training patch may be from the scan it is drawn from."""

    rotation_degrees: float = 20.0
    """Largest rotation about each axis, either way; about the coarse axis only, where voxels are anisotropic."""
    scale: float = 0.25
    """Largest relative zoom in or out."""
    shift: float = 0.08
    """Largest displacement of a whole-volume patch, as a fraction of the patch."""
    noise_sd: float = 0.1
    """Largest standard deviation of added Gaussian noise, in units of the image's own deviation."""
    contrast: float = 0.25
    """Largest relative change of brightness and of contrast."""
    gamma: float = 0.4
    """Largest |log2| of the exponent of the gamma curve."""
    affine_probability: float = 0.5
    """Chance that a patch is turned and zoomed; the others are whole voxels of the volume, as sharp as they are."""
    mirror_axes: tuple[int, ...] = ()
    """Spatial axes that are flipped half of the time; recorded with the model, because inference may use only these."""
    probability: float = 0.3
    """Chance of each intensity change."""
