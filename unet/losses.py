"""What training minimises: cross-entropy plus soft Dice.

Isensee et al., "nnU-Net", Nature Methods 18, 203–211 (2021): the sum of both, Dice without the background, smooth 1e-5.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

SMOOTH = 1e-5


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the mean soft Dice of the foreground classes, over the whole batch at once.

    `logits` (B, K, X, Y, Z), `labels` (B, X, Y, Z) int64. Classes are counted over the batch, so one that is absent
    from a single patch does not turn its few false positives into a loss of 1. Raises ValueError when K = 1.
    """
    classes = logits.shape[1]
    if classes < 2:
        raise ValueError("soft Dice needs a background and at least one foreground class")
    probabilities = logits.float().softmax(dim=1).movedim(1, -1).reshape(-1, classes)
    truth = functional.one_hot(labels.reshape(-1), classes).to(probabilities.dtype)
    overlap = (probabilities * truth).sum(dim=0)
    total = probabilities.sum(dim=0) + truth.sum(dim=0)
    dice = (2 * overlap + SMOOTH) / (total + SMOOTH)
    return 1 - dice[1:].mean()


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice of `logits` (B, K, X, Y, Z) against `labels` (B, X, Y, Z) int64."""
    return functional.cross_entropy(logits.float(), labels) + soft_dice_loss(logits, labels)
