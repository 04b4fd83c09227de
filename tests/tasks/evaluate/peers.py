"""The same metrics by other people's code, or by a few lines of scipy that follow other people's definition."""

from __future__ import annotations

import numpy as np
import SimpleITK
import surface_distance
from scipy import ndimage

Spacing = tuple[float, float, float]


def itk_overlap(reference: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """Dice and Jaccard of two masks by SimpleITK."""
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (reference, prediction)))
    return overlap.GetDiceCoefficient(1), overlap.GetJaccardCoefficient(1)


def monai_hd95_mm(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Spacing) -> float:
    """HD95 of two masks as MONAI computes it (`monai.metrics.hausdorff_distance`): edge voxels, larger direction."""
    edges = [mask ^ ndimage.binary_erosion(mask) for mask in (reference, prediction)]
    to_reference, to_prediction = (ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges)
    return max(np.percentile(to_prediction[edges[0]], 95), np.percentile(to_reference[edges[1]], 95))


def deepmind(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Spacing, tolerance_mm: float
) -> tuple[float, float, float]:
    """NSD and the two surface areas (mm²) by DeepMind's `surface-distance`."""
    found = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
    nsd = surface_distance.compute_surface_dice_at_tolerance(found, tolerance_mm)
    return nsd, found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()


def count_components(mask: np.ndarray) -> int:
    """Pieces of a mask whose voxels share a face, an edge or a corner, by scipy."""
    return int(ndimage.label(mask, np.ones((3, 3, 3)))[1])
