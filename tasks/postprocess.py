"""Postprocess: undo padding, resampling, cropping and reorientation; do what the model's held-out cases decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from tasks.model import KeepLargest, Model, Plan
from tasks.preprocess import from_network_axes, network_spacing_mm, uncrop, unpad
from tasks.scan.files import hash_files
from tasks.scan.planes import count_values, planes, translated
from tasks.scan.records import Geometry, Prediction, Segmentation
from tasks.scan.resample import coarse_axis
from tasks.scan.restore import restore_labels
from tasks.scan.volume import write_mask
from tasks.signs import boundary_entropy, classes_of, expected_dice, read_signs, sign_flags
from tasks.slice_order import in_order

Labels = NDArray[np.unsignedinteger[Any]]


def postprocess_case(prediction: Prediction, model: Model, masks: Path) -> Segmentation:
    """The label map of `prediction` on the scan's own grid, written to `masks` and verified by reading it back."""
    prepared = prediction.prepared
    case = prepared.case
    logits = unpad(np.load(prediction.logits, mmap_mode="c"), prepared.resampled_shape, prepared.pad_start)
    labels = restore_labels(logits, prepared.crop_shape, stepped_axis(case.geometry, model.plan))
    answer = model_values(labels, model)
    ordered = in_order(answer, model.slice_order)
    values = keep_largest(ordered, model.keep_largest)
    uncropped = uncrop(values, prepared.crop_start, prepared.canonical_shape)
    whole = from_network_axes(uncropped, case.geometry, model.plan)
    path = masks / f"{case.name}.nii.gz"
    write_mask(whole, case, path)
    counts = count_values(whole)
    volumes_ml = {
        value: int(counts[value]) * case.geometry.voxel_ml if value < len(counts) else 0.0 for value in model.labels
    }
    classes = classes_of(logits)
    doubts = {
        "boundary_entropy": boundary_entropy(logits, classes),
        "dice_expected": expected_dice(logits, classes),
        "agreement": prediction.agreement,
    }
    known = {name: by_value(of_class, model) for name, of_class in doubts.items()}
    known["removed"] = lost_fraction(ordered, values)
    if model.slice_order.labels:
        known["relabelled"] = lost_fraction(answer, ordered)
    signs = read_signs(whole, model.labels, known)
    flags = sign_flags(signs, volumes_ml, model.labels, model.fingerprint)
    return Segmentation(
        case=replace(case, warnings=(*case.warnings, *flags)),
        mask=path,
        mask_sha256=hash_files([path]),
        input_sha256=prepared.input_sha256,
        content_sha256=prepared.content_sha256,
        volumes_ml=volumes_ml,
        signs=signs,
        intensity=prepared.intensity,
    )


def stepped_axis(geometry: Geometry, plan: Plan) -> int | None:
    """The network's axis along which nnU-Net does not interpolate logits, as slices are thick; None without."""
    if plan.nnunet is None:
        return None
    spacing_mm = network_spacing_mm(geometry, plan)
    return coarse_axis(plan.target_mm(spacing_mm), spacing_mm)


def keep_largest(labels: Labels, kept: KeepLargest) -> Labels:
    """`labels` (X, Y, Z), where only the largest component is left, of all together or of each that `kept` names."""
    result = labels.copy()
    if kept.foreground:
        result[~_largest(labels > 0)] = 0
    for value in kept.labels:
        mask = result == value
        result[mask & ~_largest(mask)] = 0
    return result


def lost_fraction(before: Labels, after: Labels) -> dict[int, float]:
    """By label value: the fraction of its voxels in `before` that have it no more; nothing for an absent label."""
    counts = count_values(before)
    left = np.zeros_like(counts)
    for part in planes(before):
        left += np.bincount(before[part][before[part] == after[part]], minlength=len(counts))
    return {int(value): float(1 - left[value] / counts[value]) for value in np.flatnonzero(counts) if value}


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected component (26 neighbours) of `mask` (X, Y, Z)."""
    found: NDArray[np.bool_] = cc3d.largest_k(mask, k=1, connectivity=26).astype(bool)
    return found


def by_value(of_class: Mapping[int, float], model: Model) -> dict[int, float]:
    """What is known by class number, from 1, by the model's label values instead."""
    return {value: of_class[number] for number, value in enumerate(sorted(model.labels), start=1) if number in of_class}


def model_values(classes: Labels, model: Model) -> Labels:
    """Class numbers 0…K−1 as the model's label values, which need not be consecutive."""
    values = [0, *sorted(model.labels)]
    return translated(classes, np.array(values, np.uint8 if max(values) < 256 else np.uint16))
