"""The training loop: patches in, a trained network out, within a given time or number of steps.

AdamW with a short linear warm-up and polynomial decay, gradient clipping, and an exponential moving average of the
weights, which is what is kept. The forward pass runs under autocast in the precision the machine is fast in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Generator, Tensor
from torch.optim.swa_utils import AveragedModel

from unet.augment import AugmentConfig, change_intensity, draw_patch, random_affine
from unet.devices import Precision, channels_last, choose_precision
from unet.losses import segmentation_loss
from unet.model import UNet

Progress = Callable[["Step"], None]
Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How long, how fast and with what to train."""

    patch: tuple[int, ...]
    """Side lengths of a training patch, in voxels."""
    spacing_mm: tuple[float, ...]
    """Spacing of the training volumes, for rotations."""
    batch_size: int = 4
    """Patches per step."""
    seconds: float | None = None
    """Time budget; the learning rate decays with the share of it that is used."""
    steps: int | None = None
    """Number of steps, instead of a time: the only way to get the same weights twice."""
    learning_rate: float = 3e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 1e-2
    """Weight decay of AdamW."""
    warmup: float = 0.03
    """Share of the budget in which the learning rate rises linearly."""
    average_decay: float = 0.98
    """Decay per step of the moving average of the weights."""
    foreground: float = 1 / 3
    """Share of patches that are centred on a voxel of a foreground class."""
    precision: Precision = "auto"
    """Number type of the forward pass."""
    seed: int = 0
    """Seed of initial weights, patches and augmentation."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Ranges of the augmentation."""

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise ValueError("give either seconds or steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where training is: steps made, share of the budget used (0 to 1), loss of this step, seconds since the start."""

    number: int
    share: float
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Volume:
    """One training volume in memory: `image` (C, X, Y, Z) float32, `labels` (X, Y, Z) uint8."""

    image: Tensor
    labels: Tensor


def train(
    network: UNet, volumes: Sequence[Volume], config: TrainingConfig, device: torch.device, on_step: Progress
) -> UNet:
    """A copy of `network` on `device` with the averaged weights, in evaluation mode.

    Raises FloatingPointError when the loss is no longer a number, and ValueError without volumes.
    """
    if not volumes:
        raise ValueError("there is nothing to train on")
    random = torch.Generator().manual_seed(config.seed)
    memory_format = channels_last(network.config.dimensions)
    network = network.to(device=device, memory_format=memory_format).train()  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=_moving_average(config.average_decay), use_buffers=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    precision = choose_precision(config.precision, device)
    foreground = [_foreground_by_class(volume.labels) for volume in volumes]
    start, number, share = time.monotonic(), 0, 0.0
    while share < 1:
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(share, config.warmup)
        images, labels = draw_batch(volumes, foreground, config, random)
        images = images.to(device=device, memory_format=memory_format)
        loss = _step(network, images, labels.to(device), optimiser, precision)
        average.update_parameters(network)
        number, seconds = number + 1, time.monotonic() - start
        share = number / config.steps if config.steps else seconds / (config.seconds or 1)
        on_step(Step(number=number, share=min(share, 1.0), loss=loss, seconds=seconds))
    return cast(UNet, average.module).eval()


def draw_batch(
    volumes: Sequence[Volume], foreground: Sequence[list[Tensor]], config: TrainingConfig, random: Generator
) -> tuple[Tensor, Tensor]:
    """Random augmented patches: images (B, C, X, Y, Z) float32 and labels (B, X, Y, Z) int64."""
    images, labels = [], []
    for _ in range(config.batch_size):
        index = _integer(len(volumes), random)
        volume = volumes[index]
        centre = _centre(volume, foreground[index], config, random)
        affine = random_affine(config.augment, config.spacing_mm, random)
        image, truth = draw_patch(volume.image, volume.labels, centre, config.patch, affine)
        images.append(change_intensity(image, config.augment, random))
        labels.append(truth)
    return torch.stack(images), torch.stack(labels)


def _step(
    network: UNet, images: Tensor, labels: Tensor, optimiser: torch.optim.Optimizer, precision: torch.dtype
) -> float:
    """The loss of one optimisation step."""
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        logits = network(images)
    loss = segmentation_loss(logits, labels)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FloatingPointError("the loss is not a number any more; lower the learning rate, or use float32")
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
    optimiser.step()
    return value


def _moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """The update average ← d·average + (1 − d)·current; d rises to `decay`, so that early weights are forgotten."""

    @torch.no_grad()
    def update(average: Tensors, current: Tensors, count: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for kept, new in zip(average, current, strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, weight)
            else:
                kept.copy_(new)

    return update


def _schedule(share: float, warmup: float) -> float:
    """Learning rate relative to its peak when `share` of the budget is used: linear up, then (1 − t)^0.9."""
    if share < warmup:
        return max(share / warmup, 0.05)
    return float((1 - (share - warmup) / (1 - warmup)) ** 0.9)


def _foreground_by_class(labels: Tensor) -> list[Tensor]:
    """For each class present in `labels` (X, Y, Z), the voxel indices (N, 3) of up to 10,000 of its voxels."""
    places = []
    for value in torch.unique(labels[labels > 0]).tolist():
        indices = torch.nonzero(labels == value)
        places.append(indices[:: max(1, len(indices) // 10_000)])
    return places


def _centre(volume: Volume, foreground: list[Tensor], config: TrainingConfig, random: Generator) -> Tensor:
    """Where the next patch is centred, in voxels: on a foreground voxel, or anywhere it stays inside the volume."""
    patch = torch.tensor(config.patch, dtype=torch.float32)
    size = torch.tensor(volume.labels.shape, dtype=torch.float32)
    jitter = (torch.rand(len(patch), generator=random) * 2 - 1) * config.augment.shift * patch
    slack = (size - patch).clamp(min=0) / 2
    middle = (size - 1) / 2
    if foreground and float(torch.rand((), generator=random)) < config.foreground:
        places = foreground[_integer(len(foreground), random)]
        place = places[_integer(len(places), random)].float()
        return torch.minimum(torch.maximum(place, middle - slack), middle + slack) + jitter
    return middle + (torch.rand(len(patch), generator=random) * 2 - 1) * slack + jitter


def _integer(limit: int, random: Generator) -> int:
    return int(torch.randint(limit, (), generator=random))
