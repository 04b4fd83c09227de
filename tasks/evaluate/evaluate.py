"""One row per case and label: what was found, what should have been found, how far they are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from prefect import task

from tasks.evaluate.metrics import overlap, surface_distances
from tasks.pool import logged, map_cases
from tasks.scan.errors import UnknownLabel
from tasks.scan.geometry import canonical_spacing_mm
from tasks.scan.records import FORBID_UNKNOWN, Geometry, Outcome, Score, Scores, Segmentation, Source
from tasks.scan.volume import read_labels

Labels = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How segmentations are compared with references."""

    __pydantic_config__ = FORBID_UNKNOWN

    nsd_tolerance_mm: float = 1.0
    """How far apart two surfaces may be and still agree, for the normalised surface Dice."""

    def __post_init__(self) -> None:
        if not self.nsd_tolerance_mm > 0:
            raise ValueError("nsd_tolerance_mm must be above 0")


def evaluate_case(segmentation: Segmentation, labels: Mapping[int, str], config: EvaluationConfig) -> Scores:
    """A score per label. Raises GridMismatch or UnknownLabel when the reference cannot be compared."""
    case = segmentation.case
    if case.reference is None:
        return unscored(segmentation, labels, config, "no_reference")
    reference = read_labels(case.reference, case.geometry, case.name, case.image)
    unknown = sorted(set(np.unique(reference).tolist()) - {0, *labels})
    if unknown:
        raise UnknownLabel(
            case.name,
            f"the reference holds the values {unknown}",
            f"only 0 and the model's labels {sorted(labels)}",
            "map the reference's values to the model's labels",
        )
    mask = Source(format="nifti", files=(segmentation.mask,))
    prediction = read_labels(mask, case.geometry, case.name)
    scores = tuple(
        score_label(reference == value, prediction == value, case.geometry, (value, name), config)
        for value, name in sorted(labels.items())
    )
    return Scores(segmentation=segmentation, scores=scores)


@task(name="evaluate")
def evaluate(
    cases: Sequence[Outcome[Segmentation]], labels: Mapping[int, str], config: EvaluationConfig, pool: str
) -> list[Outcome[Scores]]:
    """Every case of the shard scored, in parallel. A case whose reference is refused keeps its mask, unscored."""
    results = map_cases(pool, "evaluate", evaluate_case, cases, labels, config)
    return keep_refused(cases, logged("evaluate", results), labels, config)


def keep_refused(
    before: Sequence[Outcome[Segmentation]],
    after: Sequence[Outcome[Scores]],
    labels: Mapping[int, str],
    config: EvaluationConfig,
) -> list[Outcome[Scores]]:
    """`after`, where a case whose reference was refused has its segmentation all the same, unscored."""
    return [
        replace(result, value=unscored(case.value, labels, config, "reference_refused"))
        if case.value and not result.value
        else result
        for case, result in zip(before, after, strict=True)
    ]


def score_label(
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    grid: Geometry,
    label: tuple[int, str],
    config: EvaluationConfig,
) -> Score:
    """All metrics of one label (its value and name), from two masks on the RAS+ axes of `grid`."""
    counts = overlap(reference, prediction)
    distances = surface_distances(reference, prediction, canonical_spacing_mm(grid), config.nsd_tolerance_mm)
    return Score(
        label=label[0],
        name=label[1],
        status=counts.status,
        dice=counts.dice,
        jaccard=counts.jaccard,
        hd95_mm=distances.hd95_mm,
        assd_mm=distances.assd_mm,
        nsd=distances.nsd,
        nsd_tolerance_mm=config.nsd_tolerance_mm,
        volume_reference_ml=(counts.both + counts.only_reference) * grid.voxel_ml,
        volume_prediction_ml=(counts.both + counts.only_prediction) * grid.voxel_ml,
    )


def unscored(segmentation: Segmentation, labels: Mapping[int, str], config: EvaluationConfig, status: str) -> Scores:
    """Rows that say why there are no numbers; the volume found is known all the same."""
    scores = tuple(
        Score(
            label=value,
            name=name,
            status=status,
            dice=math.nan,
            jaccard=math.nan,
            hd95_mm=math.nan,
            assd_mm=math.nan,
            nsd=math.nan,
            nsd_tolerance_mm=config.nsd_tolerance_mm,
            volume_reference_ml=math.nan,
            volume_prediction_ml=segmentation.volumes_ml.get(value, 0.0),
        )
        for value, name in sorted(labels.items())
    )
    return Scores(segmentation=segmentation, scores=scores)
