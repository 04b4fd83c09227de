"""The training loop: patches in, a trained network out, within a given time or number of steps.

AdamW with a short linear warm-up and polynomial decay, gradient clipping, and an exponential moving average of the
weights, which is what is kept. The forward pass runs under autocast in the precision the machine is fast in. Every
half minute all of it is written to a checkpoint, from which training goes on after a kill as if nothing had been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Generator, Tensor
from torch.optim.swa_utils import AveragedModel

from unet.checkpoint import load_tensors, save_tensors
from unet.config import Precision
from unet.devices import channels_last, choose_precision
from unet.losses import segmentation_loss
from unet.model import UNet
from unet.sampling import SamplingConfig, Volume, draw_batch, foreground_places

GRADIENT_NORM = 12.0
Loss = Callable[[Tensor, Tensor], Tensor]
Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How long, how fast and with what to train."""

    sampling: SamplingConfig
    """What a patch is, and how many make a step."""
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
    precision: Precision = "auto"
    """Number type of the forward pass."""
    seed: int = 0
    """Seed of patches and augmentation."""
    checkpoint: Path | None = None
    """File that training goes on from, if it is there, and that is written now and then and at the end."""
    checkpoint_seconds: float = 30.0
    """How much of a training a kill may cost."""

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise ValueError("give either seconds or steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where training is: steps made, share of the budget used (0 to 1), seconds trained, and this step's figures."""

    number: int
    share: float
    seconds: float
    learning_rate: float
    loss: float


Progress = Callable[[Step, UNet], None]
"""Called after each step with the network of the averaged weights, in evaluation mode."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """Everything that a step changes."""

    network: UNet
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    random: Generator


def train(
    network: UNet, volumes: Sequence[Volume], config: TrainingConfig, on_step: Progress, loss: Loss = segmentation_loss
) -> UNet:
    """A copy of `network`, on its device, with the averaged weights of the training, in evaluation mode.

    `loss` takes outputs (B, K, X, Y, Z) and targets as `Volume` has them, with the batch in front. Raises
    FloatingPointError when the loss is no longer a number, and ValueError without volumes or when the checkpoint is of
    another network.
    """
    if not volumes:
        raise ValueError("there is nothing to train on")
    parts, device = _begin(network, config), next(network.parameters()).device
    precision, places = choose_precision(config.precision, device), foreground_places(volumes)
    number, seconds = _restore(parts, config.checkpoint)
    start, saved = time.monotonic() - seconds, seconds
    while (share := _share(config, number, seconds)) < 1:
        rate = config.learning_rate * _schedule(share, config.warmup)
        for group in parts.optimiser.param_groups:
            group["lr"] = rate
        images, targets = draw_batch(volumes, places, config.sampling, parts.random)
        images = images.to(device=device, memory_format=channels_last(network.config.dimensions))
        value = _step(parts, images, targets.to(device), loss, precision)
        number, seconds = number + 1, time.monotonic() - start
        share = min(_share(config, number, seconds), 1.0)
        step = Step(number=number, share=share, seconds=seconds, learning_rate=rate, loss=value)
        on_step(step, cast(UNet, parts.average.module))
        if config.checkpoint and (share == 1 or seconds - saved >= config.checkpoint_seconds):
            saved = seconds
            _save(parts, number, seconds, config.checkpoint)
    return cast(UNet, parts.average.module)


def _begin(network: UNet, config: TrainingConfig) -> _Parts:
    network = network.to(memory_format=channels_last(network.config.dimensions)).train()  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=_moving_average(config.average_decay), use_buffers=True)
    average.module.eval()
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return _Parts(network, average, optimiser, torch.Generator().manual_seed(config.seed))


def _share(config: TrainingConfig, number: int, seconds: float) -> float:
    """The share of the budget that is used."""
    return number / config.steps if config.steps else seconds / (config.seconds or 1)


def _step(parts: _Parts, images: Tensor, targets: Tensor, loss: Loss, precision: torch.dtype) -> float:
    """The loss of one optimisation step."""
    parts.optimiser.zero_grad(set_to_none=True)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        outputs = parts.network(images)
    difference = loss(outputs.float(), targets)
    value = float(difference.detach())
    if not math.isfinite(value):
        raise FloatingPointError("the loss is not a number any more")
    difference.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parts.network.parameters(), GRADIENT_NORM)
    parts.optimiser.step()
    parts.average.update_parameters(parts.network)
    return value


def _save(parts: _Parts, number: int, seconds: float, path: Path) -> None:
    """Write all that a step changes to `path`, whole or not at all."""
    tensors = {f"network.{name}": tensor for name, tensor in parts.network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in parts.average.state_dict().items()}
    for index, of_parameter in parts.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in of_parameter.items()}
    tensors["random"] = parts.random.get_state()
    save_tensors(tensors, path, {"steps": str(number), "seconds": str(seconds)})


def _restore(parts: _Parts, path: Path | None) -> tuple[int, float]:
    """Steps made and seconds trained so far, after all that a step changes was set to what `path` holds, if it is."""
    if path is None or not path.is_file():
        return 0, 0.0
    tensors, metadata = load_tensors(path)
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    of_parameters: dict[int, dict[str, Tensor]] = {}
    try:
        parts.network.load_state_dict(groups["network"])
        parts.average.load_state_dict(groups["average"])
        for name, tensor in groups["optimiser"].items():
            index, _, quantity = name.partition(".")
            of_parameters.setdefault(int(index), {})[quantity] = tensor
        parts.optimiser.load_state_dict({**parts.optimiser.state_dict(), "state": of_parameters})
        parts.random.set_state(groups["random"][""])
        return int(metadata["steps"]), float(metadata["seconds"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path.name} is not a checkpoint of this network and version: {error}") from error


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
