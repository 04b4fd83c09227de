"""One row per case and label: what was found, what should have been found, how far they are apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tasks.evaluate.config import EvaluationConfig
from tasks.evaluate.metrics import Measures, measure
from tasks.evaluate.unscored import unscored, with_signs
from tasks.scan.errors import UnknownLabel
from tasks.scan.geometry import canonical_spacing_mm
from tasks.scan.records import Geometry, Score, Scores, Segmentation, Source, Spacing
from tasks.scan.volume import read_labels

NOMINAL_DIGITS, NOMINAL_SHARE = 4, 1e-6
"""A side of a voxel is meant to be the number of so many decimals that it differs from by no more than this share."""


def evaluate_case(segmentation: Segmentation, labels: Mapping[int, str], config: EvaluationConfig) -> Scores:
    """A score per label. Raises GridMismatch or UnknownLabel when the reference cannot be compared."""
    case = segmentation.case
    if case.reference is None:
        return unscored(segmentation, labels, config, "no_reference")
    reference = read_labels(case.reference, case.geometry, case.name, case.image)
    known = np.zeros(2**16, bool)
    known[[0, *labels]] = True
    strangers = reference[~known[reference]]
    if len(strangers):
        unknown = np.unique(strangers).tolist()
        raise UnknownLabel(
            case.name,
            f"the reference holds the values {unknown}",
            f"only 0 and the model's labels {sorted(labels)}",
            "map the reference's values to the model's labels",
        )
    mask = Source(format="nifti", files=(segmentation.mask,))
    prediction = read_labels(mask, case.geometry, case.name)
    tolerances_mm = config.tolerances_mm(labels)
    measured = measure(reference, prediction, nominal_spacing_mm(case.geometry), tolerances_mm)
    scores = tuple(
        with_signs(
            score_label((value, name), measured[value], tolerances_mm[value], case.geometry.voxel_ml),
            segmentation.signs.get(value),
        )
        for value, name in sorted(labels.items())
    )
    return Scores(segmentation=segmentation, scores=scores)


def nominal_spacing_mm(geometry: Geometry) -> Spacing:
    """The spacing along the RAS+ axes, without what a header's rounding did to it.

    On a turned grid the voxels of 1 mm are 0.99999997 or 1.00000004 mm long, for an affine is stored in float32: a
    distance of one voxel would then lie within a tolerance of 1 mm, or beyond it, by chance.
    """
    x, y, z = (
        rounded if abs(rounded - length) <= NOMINAL_SHARE * length else length
        for length in canonical_spacing_mm(geometry)
        for rounded in [round(length, NOMINAL_DIGITS)]
    )
    return x, y, z


def score_label(label: tuple[int, str], measures: Measures, tolerance_mm: float, voxel_ml: float) -> Score:
    """The row of one label (its value and name)."""
    overlap, surface = measures.overlap, measures.surface
    return Score(
        label=label[0],
        name=label[1],
        status=overlap.status,
        dice=overlap.dice,
        jaccard=overlap.jaccard,
        hd95_mm=surface.hd95_mm,
        assd_mm=surface.assd_mm,
        nsd=surface.nsd,
        nsd_tolerance_mm=tolerance_mm,
        volume_reference_ml=(overlap.both + overlap.only_reference) * voxel_ml,
        volume_prediction_ml=(overlap.both + overlap.only_prediction) * voxel_ml,
        volume_error=overlap.volume_error,
        components_reference=measures.components_reference,
        components_prediction=measures.components_prediction,
    )
