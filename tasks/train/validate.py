"""How a network does on the cases it never saw, on its own grid: the curve of its training, and what to keep of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.model import KeepLargest, Plan
from tasks.postprocess import keep_largest
from tasks.train.prepare import TrainingVolume, load_volume
from unet import UNet, predict
from unet.backends import ready
from unet.metrics import dice

Dice = dict[int, float]
Classes = NDArray[np.unsignedinteger[Any]]
TOGETHER = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Dice by class of one held-out case, for every choice of what to keep the largest component of.

    NaN where a class is neither in the reference nor found. A choice is `foreground` (all classes together, first) and
    one more class by itself, or none (0).
    """

    name: str
    dice: dict[tuple[bool, int], Dice]


def segment_volume(network: UNet, volume: TrainingVolume, plan: Plan, precision: torch.dtype) -> Classes:
    """Class numbers (X, Y, Z) that `network` gives a prepared case."""
    device = next(network.parameters()).device
    run = ready(network, "torch", device, precision)
    logits = predict([run], load_volume(volume).image.to(device), plan.patch).logits
    classes: Classes = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
    return classes


def dice_by_class(prediction: Classes, reference: Classes, classes: Sequence[int]) -> Dice:
    """2·|A ∩ B| / (|A| + |B|) of each class; NaN where both are empty."""
    return {
        value: dice(torch.from_numpy(prediction == value), torch.from_numpy(reference == value)) for value in classes
    }


def reference_classes(volume: TrainingVolume) -> Classes:
    """The class numbers (X, Y, Z) of the reference."""
    classes: Classes = load_volume(volume).target.numpy()
    return classes


def weigh(network: UNet, volume: TrainingVolume, plan: Plan, precision: torch.dtype) -> Evidence:
    """What each choice of keeping the largest component does to the Dice of a held-out case."""
    reference, plain = reference_classes(volume), segment_volume(network, volume, plan, precision)
    classes = range(1, plan.network.out_channels)
    of_choice: dict[tuple[bool, int], Dice] = {}
    for foreground in (False, True):
        first = keep_largest(plain, KeepLargest(foreground=foreground))
        of_choice[foreground, TOGETHER] = dice_by_class(first, reference, classes)
        for value in classes:
            kept = keep_largest(first, KeepLargest(labels=(value,)))
            of_choice[foreground, value] = dice_by_class(kept, reference, (value,))
    return Evidence(name=volume.name, dice=of_choice)


def decide(evidence: Sequence[Evidence], labels: dict[int, str]) -> KeepLargest:
    """What to keep the largest component of, by the mean Dice of the held-out cases.

    First of all labels together: when the mean over labels rises and none falls. Then of each label: when its own mean
    rises. Nothing without held-out cases (Isensee et al. 2021).
    """
    if not evidence:
        return KeepLargest(evidence={"cases": 0, "why": "no case was held out, so nothing could be compared"})
    values = sorted(labels)
    numbers = range(1, len(values) + 1)

    plain = {number: _mean(evidence, (False, TOGETHER), number) for number in numbers}
    together = {number: _mean(evidence, (True, TOGETHER), number) for number in numbers}
    foreground = _better(plain, together)
    base = together if foreground else plain
    alone = {number: _mean(evidence, (foreground, number), number) for number in numbers}
    chosen = tuple(values[number - 1] for number in numbers if alone[number] > base[number])
    named = _by_name(labels)
    return KeepLargest(
        foreground=foreground,
        labels=chosen,
        evidence={
            "cases": len(evidence),
            "mean_dice": named(plain),
            "mean_dice_largest_of_all_together": named(together),
            "mean_dice_largest_of_each_then": named(alone),
        },
    )


def _mean(evidence: Sequence[Evidence], choice: tuple[bool, int], number: int) -> float:
    """Mean Dice of a class over the cases where it is defined; 0 where it never is."""
    of_cases = np.array([one.dice[choice][number] for one in evidence])
    return float(np.nanmean(of_cases)) if np.isfinite(of_cases).any() else 0.0


def _better(before: Dice, after: Dice) -> bool:
    """Whether the mean over classes rises and no class falls."""
    return sum(after.values()) > sum(before.values()) and all(after[number] >= before[number] for number in before)


def _by_name(labels: dict[int, str]) -> Callable[[Dice], dict[str, float]]:
    """How a mean by class number is written down: by the label's name, to four decimals."""
    names = [labels[value] for value in sorted(labels)]
    return lambda dice: {name: round(dice[number], 4) for number, name in enumerate(names, start=1)}
