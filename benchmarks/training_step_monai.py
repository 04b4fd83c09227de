"""MONAI's training step on a CPU: dictionary transforms of its tutorials, float32, DiceCELoss, AdamW (monai 1.6.1)."""

from __future__ import annotations

import torch
from monai.losses import DiceCELoss
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

from benchmarks.training_step import BATCH, PATCH, Batch, Step, network, optimise, volume


def step() -> Step:
    """How a batch is drawn and learnt from, to be called again and again."""
    net = network()
    transforms = Compose(
        [
            RandAffined(
                keys=("image", "label"),
                prob=1.0,
                spatial_size=PATCH,
                rotate_range=(0.35,) * 3,
                scale_range=(0.25,) * 3,
                translate_range=(3, 4, 3),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            RandGaussianNoised(keys="image", prob=0.3, std=0.1),
            RandScaleIntensityd(keys="image", prob=0.3, factors=0.25),
            RandShiftIntensityd(keys="image", prob=0.3, offsets=0.25),
            RandAdjustContrastd(keys="image", prob=0.3, gamma=(0.75, 1.3)),
        ]
    )
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2)
    image, labels = volume()

    def draw() -> Batch:
        drawn = [transforms({"image": image.clone(), "label": labels[None].clone()}) for _ in range(BATCH)]
        return tuple(torch.stack([one[key].as_tensor() for one in drawn]) for key in ("image", "label"))

    def learn(batch: Batch) -> None:
        optimise(net, optimiser, loss(net(batch[0]), batch[1]))

    return draw, learn
