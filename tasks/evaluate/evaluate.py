"""One row per case and label: what was found, what should have been found, how far they are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.attempt import logged
from tasks.belt import Belt, Line, hand_on
from tasks.evaluate.metrics import Measures, measure
from tasks.pool import stream_cases
from tasks.scan.errors import UnknownLabel, UnknownSetting
from tasks.scan.geometry import canonical_spacing_mm
from tasks.scan.records import FORBID_UNKNOWN, Geometry, Outcome, Score, Scores, Segmentation, Signs, Source, Spacing
from tasks.scan.volume import read_labels

NOMINAL_DIGITS, NOMINAL_SHARE = 4, 1e-6
"""A side of a voxel is meant to be the number of so many decimals that it differs from by no more than this share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How segmentations are compared with references."""

    __pydantic_config__ = FORBID_UNKNOWN

    nsd_tolerance_mm: float = 1.0
    """How far apart two surfaces may be and still agree, for the normalised surface Dice."""
    nsd_tolerance_mm_of: Mapping[str, float] = field(default_factory=dict)
    """The tolerance of single labels, by name, where it is another."""

    def __post_init__(self) -> None:
        if not all(tolerance > 0 for tolerance in (self.nsd_tolerance_mm, *self.nsd_tolerance_mm_of.values())):
            raise ValueError("nsd_tolerance_mm must be above 0")

    def tolerances_mm(self, labels: Mapping[int, str]) -> dict[int, float]:
        """The tolerance of each of `labels` (name by value). Raises UnknownSetting for a name that none of them has."""
        unknown = sorted(set(self.nsd_tolerance_mm_of) - set(labels.values()))
        if unknown:
            known = ", ".join(sorted(labels.values()))
            raise UnknownSetting(
                f"evaluation.nsd_tolerance_mm_of: no label is called {unknown[0]!r}; there are {known}"
            )
        return {value: self.nsd_tolerance_mm_of.get(name, self.nsd_tolerance_mm) for value, name in labels.items()}


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


@task(name="evaluate", cache_policy=NO_CACHE)
def evaluate(
    cases: Line[Segmentation],
    labels: Mapping[int, str],
    config: EvaluationConfig,
    pool: str,
    belt: Belt[Scores] | None = None,
) -> list[Outcome[Scores]]:
    """Every case of the shard scored, in parallel. A case whose reference is refused keeps its mask, unscored."""
    done = stream_cases(pool, "evaluate", evaluate_case, cases, labels, config)
    scored = (keep_refused(before, after, labels, config) for before, after in done)
    return list(hand_on(logged("evaluate", scored), belt))


def keep_refused(
    before: Outcome[Segmentation], after: Outcome[Scores], labels: Mapping[int, str], config: EvaluationConfig
) -> Outcome[Scores]:
    """`after`; a case whose reference was refused has its segmentation all the same, unscored."""
    if before.value is None or after.value is not None:
        return after
    return replace(after, value=unscored(before.value, labels, config, "reference_refused"))


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
