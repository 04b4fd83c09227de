"""How well an output agrees with its target: overlap for segmentation, error for regression, as the lecture has them.

On tensors of any shape and number of axes. The pipeline's tables have their own, with surfaces and millimetres:
`tasks/evaluate`.
"""

from __future__ import annotations

from torch import Tensor


def dice(prediction: Tensor, reference: Tensor) -> float:
    """2·|A ∩ B| / (|A| + |B|) of two boolean masks of one shape; NaN when both are empty."""
    total = int(prediction.sum()) + int(reference.sum())
    return 2 * int((prediction & reference).sum()) / total if total else float("nan")


def jaccard(prediction: Tensor, reference: Tensor) -> float:
    """|A ∩ B| / |A ∪ B| of two boolean masks of one shape; NaN when both are empty. Equals dice / (2 − dice)."""
    union = int((prediction | reference).sum())
    return int((prediction & reference).sum()) / union if union else float("nan")


def mean_squared_error(output: Tensor, target: Tensor) -> float:
    """The mean of (output − target)², in the square of their unit."""
    return float((output - target).square().mean())


def mean_absolute_error(output: Tensor, target: Tensor) -> float:
    """The mean of |output − target|, in their unit."""
    return float((output - target).abs().mean())
