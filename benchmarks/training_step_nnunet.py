"""nnU-Net's training step on a CPU: its transforms, float32, its loss, SGD with Nesterov momentum (nnunetv2 2.8.1)."""

from __future__ import annotations

import numpy as np
import torch
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from benchmarks.training_step import BATCH, PATCH, Batch, Step, network, optimise, volume


def step() -> Step:
    """How a batch is drawn and learnt from, to be called again and again."""
    thirty_degrees = (-np.pi / 6, np.pi / 6)
    large = [int(side) for side in get_patch_size(PATCH, *(thirty_degrees,) * 3, (0.85, 1.25))]
    transforms = nnUNetTrainer.get_training_transforms(PATCH, thirty_degrees, None, (0, 1, 2), False)  # noqa: FBT003
    net = network()
    loss = DC_and_CE_loss(
        {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    )
    optimiser = torch.optim.SGD(net.parameters(), 1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)
    image, labels = volume()
    room = [
        side
        for length, wanted in zip(reversed(labels.shape), reversed(large), strict=True)
        for side in _sides(length, wanted)
    ]
    image, labels = torch.nn.functional.pad(image, room), torch.nn.functional.pad(labels.short(), room, value=-1)[None]

    def draw() -> Batch:
        drawn = [transforms(image=image.clone(), segmentation=labels.clone()) for _ in range(BATCH)]
        return tuple(torch.stack([one[key] for one in drawn]) for key in ("image", "segmentation"))

    def learn(batch: Batch) -> None:
        optimise(net, optimiser, loss(net(batch[0]), batch[1]))

    return draw, learn


def _sides(length: int, wanted: int) -> tuple[int, int]:
    missing = max(0, wanted - length)
    return missing // 2, missing - missing // 2
