"""How a network does on the cases it never saw, on its own grid: the curve of its training, and what to keep of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.model import KeepLargest, Plan, SliceOrder
from tasks.postprocess import keep_largest
from tasks.slice_order import in_order
from tasks.train.prepare import TrainingVolume, load_volume
from unet import UNet, predict
from unet.backends import ready
from unet.metrics import dice

Dice = dict[int, float]
Choice = tuple[bool, bool, int]
"""Whether labels are put in order, whether the largest component of all is kept, and of which class by itself then."""
Classes = NDArray[np.unsignedinteger[Any]]
TOGETHER = 0
NOTHING_HELD_OUT = "no case was held out, so nothing could be compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Dice by class of one held-out case, for every choice of postprocessing.

    NaN where a class is neither in the reference nor found.
    """

    name: str
    dice: dict[Choice, Dice]


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


def weigh(
    network: UNet,
    volume: TrainingVolume,
    plan: Plan,
    precision: torch.dtype,
    order: SliceOrder = SliceOrder(),  # noqa: B008
) -> Evidence:
    """What each choice of postprocessing does to the Dice of a held-out case; `order` is one of class numbers."""
    reference, plain = reference_classes(volume), segment_volume(network, volume, plan, precision)
    classes = range(1, plan.network.out_channels)
    of_choice: dict[Choice, Dice] = {}
    for ordered in (False, True) if order.labels else (False,):
        start = in_order(plain, order) if ordered else plain
        for foreground in (False, True):
            first = keep_largest(start, KeepLargest(foreground=foreground))
            of_choice[ordered, foreground, TOGETHER] = dice_by_class(first, reference, classes)
            for value in classes:
                kept = keep_largest(first, KeepLargest(labels=(value,)))
                of_choice[ordered, foreground, value] = dice_by_class(kept, reference, (value,))
    return Evidence(name=volume.name, dice=of_choice)


def numbered(order: SliceOrder, labels: dict[int, str]) -> SliceOrder:
    """`order` of class numbers instead of label values."""
    values = [0, *sorted(labels)]
    return replace(order, labels=tuple(values.index(value) for value in order.labels))


def decide_order(evidence: Sequence[Evidence], labels: dict[int, str], orders: Sequence[SliceOrder]) -> SliceOrder:
    """The order that the references of every member keep, where it serves the held-out cases.

    That is when their mean Dice rises and that of no label falls. `orders` has one for each member.
    """
    order = orders[0]
    if any((one.axis, one.labels) != (order.axis, order.labels) for one in orders):
        return SliceOrder(evidence={"why": "the references of the folds do not keep one order"})
    if not order.labels:
        return order
    if not evidence:
        return SliceOrder(evidence={**order.evidence, "cases": 0, "why": NOTHING_HELD_OUT})
    plain, ordered = (_means(evidence, (choice, False, TOGETHER), labels) for choice in (False, True))
    named = _by_name(labels)
    figures = {"cases": len(evidence), "mean_dice": named(plain), "mean_dice_in_order": named(ordered)}
    return replace(order if _better(plain, ordered) else SliceOrder(), evidence=order.evidence | figures)


def decide_largest(evidence: Sequence[Evidence], labels: dict[int, str], *, ordered: bool) -> KeepLargest:
    """What to keep the largest component of, by the mean Dice of the held-out cases, in order if that was chosen.

    First of all labels together: when the mean over labels rises and none falls. Then of each label: when its own mean
    rises. Nothing without held-out cases (Isensee et al. 2021).
    """
    if not evidence:
        return KeepLargest(evidence={"cases": 0, "why": NOTHING_HELD_OUT})
    values = sorted(labels)
    numbers = range(1, len(values) + 1)

    plain = _means(evidence, (ordered, False, TOGETHER), labels)
    together = _means(evidence, (ordered, True, TOGETHER), labels)
    foreground = _better(plain, together)
    base = together if foreground else plain
    alone = {number: _mean(evidence, (ordered, foreground, number), number) for number in numbers}
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


def _means(evidence: Sequence[Evidence], choice: Choice, labels: dict[int, str]) -> Dice:
    """The mean Dice of each class."""
    return {number: _mean(evidence, choice, number) for number in range(1, len(labels) + 1)}


def _mean(evidence: Sequence[Evidence], choice: Choice, number: int) -> float:
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
