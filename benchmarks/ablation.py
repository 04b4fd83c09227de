"""What each part of the training recipe is worth: `python -m benchmarks.ablation [--steps 800] [--only WORD …]`.

The hippocampus in 3-D, one fold of five by subject unseen: by default fold 1, the hardest, where differences show.
Each row changes one thing and trains for the same number of steps, so that what else the machine does has no say in
the score; what a step costs stands beside it, as a ratio to the recipe's in the same run. The recipe itself is trained
with several seeds: differences within their range are noise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.lecture_tasks import Task, hippocampus
from unet import (
    AugmentConfig,
    SamplingConfig,
    TrainingConfig,
    UNet,
    UNetConfig,
    predict,
    segmentation_loss,
    soft_dice_loss,
    train,
)
from unet.backends import ready
from unet.devices import choose_precision
from unet.metrics import dice

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a row may change."""

    network: UNetConfig
    training: TrainingConfig
    loss: Loss = segmentation_loss
    mirror: tuple[int, ...] = ()
    """Axes that inference mirrors."""


def main() -> None:
    """Train every row and print it as it is done."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with hippocampus")
    arguments.add_argument("--steps", type=int, default=800, help="steps of every training (default: 800)")
    arguments.add_argument("--fold", type=int, default=1, help="fold that is never seen (default: 1)")
    arguments.add_argument("--only", nargs="*", default=(), help="rows whose names hold one of these words")
    given = arguments.parse_args()
    task = hippocampus(given.data / "hippocampus", given.fold)
    print(f"{given.steps} steps each{'':<46}Dice head   body   mean   step")
    unit = None
    for name, recipe in rows(task, given.steps):
        if unit and given.only and not any(word in name for word in given.only):
            continue
        head, body, seconds = score(recipe, task)
        unit = unit or seconds
        print(f"{name:<56}{head:10.4f}{body:7.4f}{(head + body) / 2:7.4f}{seconds / unit:7.2f}", flush=True)


def rows(task: Task, steps: int) -> Iterator[tuple[str, Recipe]]:
    """Name and recipe of each row; the first is what `segment-cohort train` does."""
    network = UNetConfig(
        dimensions=3,
        out_channels=3,
        features=task.features,
        poolings=((2, 2, 2),) * 3,
        upsampling="transposed",
        normalisation="batch",
    )
    sampling = SamplingConfig(patch=task.patch, spacing_mm=(1.0, 1.0, 1.0), batch_size=task.batch_size)
    training = TrainingConfig(sampling=sampling, steps=steps)
    recipe = Recipe(network=network, training=training)

    def trained(**changes: object) -> Recipe:
        return replace(recipe, training=replace(training, **changes))  # type: ignore[arg-type]

    def drawn(**changes: object) -> Recipe:
        return trained(sampling=replace(sampling, **changes))  # type: ignore[arg-type]

    def augmented(**changes: object) -> Recipe:
        return drawn(augment=AugmentConfig(**changes))  # type: ignore[arg-type]

    def built(**changes: object) -> Recipe:
        return replace(recipe, network=replace(network, **changes))  # type: ignore[arg-type]

    yield "the recipe, seed 0", recipe
    yield "the recipe, seed 1", trained(seed=1)
    yield "the recipe, seed 2", trained(seed=2)
    yield "float32", trained(precision="float32")
    yield "no moving average of the weights", trained(average_decay=0.0)
    yield "moving average with decay 0.99", trained(average_decay=0.99)
    yield "learning rate 1e-3", trained(learning_rate=1e-3)
    yield "learning rate 6e-3", trained(learning_rate=6e-3)
    yield "cross-entropy alone", replace(recipe, loss=cross_entropy)
    yield "soft Dice alone", replace(recipe, loss=soft_dice_loss)
    yield "no augmentation", augmented(affine_probability=0, shift=0, probability=0)
    yield "no intensity augmentation", augmented(probability=0)
    yield "every patch turned and zoomed", augmented(affine_probability=1)
    yield "one patch in five turned and zoomed", augmented(affine_probability=0.2)
    yield "rotation up to 10°, zoom up to 15 %", augmented(rotation_degrees=10, scale=0.15)
    yield "mirrored on all axes in training", augmented(mirror_axes=(0, 1, 2))
    yield "… and at inference", replace(augmented(mirror_axes=(0, 1, 2)), mirror=(0, 1, 2))
    yield "no foreground oversampling", drawn(foreground=0.0)
    yield "batch of 2", drawn(batch_size=2)
    yield "batch of 8", drawn(batch_size=8)
    yield "instance normalisation", built(normalisation="instance")
    yield "nearest-neighbour upsampling", built(upsampling="nearest")
    yield "three levels", built(features=task.features[:3], poolings=((2, 2, 2),) * 2)
    yield "32 to 256 maps", built(features=tuple(2 * maps for maps in task.features))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy without the soft Dice."""
    return torch.nn.functional.cross_entropy(logits.float(), labels)


def score(recipe: Recipe, task: Task) -> tuple[float, float, float]:
    """Mean Dice of head and body over the unseen cases, and seconds a step."""
    torch.manual_seed(recipe.training.seed)
    start = time.perf_counter()
    trained = train(UNet(recipe.network), task.learnt, recipe.training, lambda _step, _network: None, recipe.loss)
    seconds = (time.perf_counter() - start) / (recipe.training.steps or 1)
    cpu = torch.device("cpu")
    run = ready(trained, "torch", cpu, choose_precision(recipe.training.precision, cpu))
    found = []
    for volume in task.unseen:
        said = predict([run], volume.image, task.patch, recipe.mirror).logits.argmax(0)
        found.append([dice(said == value, volume.target == value) for value in (1, 2)])
    head, body = np.nanmean(found, axis=0)
    return float(head), float(body), seconds


if __name__ == "__main__":
    main()
