"""How far several label maps of one image agree, counted piece by piece, so that no map need be kept."""

from __future__ import annotations

from math import nan

import torch
from torch import Tensor


def count_pairs(maps: Tensor, classes: int) -> Tensor:
    """Voxels (K, M, M), float64, that maps i and j of `maps` (M, X, Y, Z) both give to each of K `classes`.

    The diagonal has the size of each map's own region. Counts of the parts of an image add up to those of the whole.
    Background, class 0, is not counted.
    """
    flat = maps.flatten(1)
    flat = flat[:, (flat > 0).any(dim=0)]  # most of a scan is background in all maps
    counts = torch.zeros((classes, len(maps), len(maps)), dtype=torch.float64)
    for value in range(1, classes):
        regions = (flat == value).float()
        counts[value] = (regions @ regions.T).double()
    return counts


def mean_pairwise_dice(counts: Tensor) -> dict[int, float]:
    """By class, from 1: the mean over all pairs of maps of 2·both / (one + other), from `counts` (K, M, M).

    A pair in which neither map has the class is left out; NaN where that is every pair. Empty for a single map.
    """
    if counts.shape[1] < 2:
        return {}
    first, second = torch.triu_indices(counts.shape[1], counts.shape[1], offset=1)
    sizes = counts.diagonal(dim1=1, dim2=2)
    dice = 2 * counts[:, first, second] / (sizes[:, first] + sizes[:, second])  # 0 / 0 is NaN
    return {
        value: float(dice[value].nanmean()) if not dice[value].isnan().all() else nan for value in range(1, len(counts))
    }
