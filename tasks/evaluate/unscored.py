"""Rows of a case that there is nothing to compare with, or that could not be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from tasks.evaluate.config import EvaluationConfig
from tasks.scan.records import Outcome, Score, Scores, Segmentation, Signs


def keep_refused(
    before: Outcome[Segmentation], after: Outcome[Scores], labels: Mapping[int, str], config: EvaluationConfig
) -> Outcome[Scores]:
    """`after`; a case whose reference was refused has its segmentation all the same, unscored."""
    if before.value is None or after.value is not None:
        return after
    return replace(after, value=unscored(before.value, labels, config, "reference_refused"))


def unscored(segmentation: Segmentation, labels: Mapping[int, str], config: EvaluationConfig, status: str) -> Scores:
    """Rows that say why there are no numbers; the volume found is known all the same."""
    tolerances_mm = config.tolerances_mm(labels)
    scores = tuple(
        with_signs(
            Score(
                label=value,
                name=name,
                status=status,
                dice=math.nan,
                jaccard=math.nan,
                hd95_mm=math.nan,
                assd_mm=math.nan,
                nsd=math.nan,
                nsd_tolerance_mm=tolerances_mm[value],
                volume_reference_ml=math.nan,
                volume_prediction_ml=segmentation.volumes_ml.get(value, 0.0),
                volume_error=math.nan,
                components_reference=math.nan,
                components_prediction=math.nan,
            ),
            segmentation.signs.get(value),
        )
        for value, name in sorted(labels.items())
    )
    return Scores(segmentation=segmentation, scores=scores)


def with_signs(score: Score, signs: Signs | None) -> Score:
    """`score` with what the segmentation says by itself, where that was looked at."""
    if signs is None:
        return score
    return replace(
        score,
        components_prediction=signs.components,
        border_voxels=signs.border_voxels,
        boundary_entropy=signs.boundary_entropy,
        dice_expected=signs.dice_expected,
        agreement=signs.agreement,
    )
