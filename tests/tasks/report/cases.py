"""Outcomes to report on: records alone, or with a scan, a reference and a mask on disk."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tasks.scan.records import Case, Cost, Geometry, Outcome, Problem, Score, Scores, Segmentation, Source
from tests.phantoms import affine, write_nifti

LABELS = {1: "left", 2: "right"}
GRID = Geometry(shape=(181, 217, 60), affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 4, 0), (0, 0, 0, 1)))


def score(label: int, dice: float, status: str = "scored") -> Score:
    """A score with that Dice; the distances are 2 and 1 mm, infinite for a missed structure, NaN where Dice is."""
    distance_mm = math.inf if status == "missed" else 2.0 + 0 * dice
    return Score(
        label=label,
        name=LABELS[label],
        status=status,
        dice=dice,
        jaccard=dice / (2 - dice),
        hd95_mm=distance_mm,
        assd_mm=distance_mm / 2,
        nsd=dice,
        nsd_tolerance_mm=1.0,
        volume_reference_ml=3.5,
        volume_prediction_ml=1234.56789,
        volume_error=351.734,
        components_reference=1,
        components_prediction=3,
    )


def segmented(name: str, *scores: Score, case: Case | None = None, mask: Path = Path("mask.nii.gz")) -> Outcome[Scores]:
    """A case with these scores; it took a second in each of two stages, one of them tried twice."""
    case = case or Case(name=name, image=Source(format="nifti", files=(Path("scan.nii"),)), geometry=GRID)
    segmentation = Segmentation(
        case=case, mask=mask, mask_sha256="b" * 64, input_sha256="a" * 64, volumes_ml={2: 3.21, 1: 12.345}
    )
    costs = tuple(
        Cost(stage=stage, seconds=1, peak_memory_mb=memory_mb)
        for stage, memory_mb in (("ingest", 100), ("infer", 300), ("infer", 200))
    )
    return Outcome(name=name, case=case, value=Scores(segmentation=segmentation, scores=scores), costs=costs)


def broken(name: str, message: str = "slice 3 is missing", remedy: str = "send it again") -> Outcome[Scores]:
    """A case that ingest quarantined."""
    problem = Problem(stage="ingest", status="quarantined", reason="missing_slice", message=message, remedy=remedy)
    return Outcome(name=name, problem=problem)


def on_disk(
    folder: Path, name: str, reference: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float, float]
) -> Outcome[Scores]:
    """A case on RAS axes with files: the scan shows 100 where the reference is 1, 0 elsewhere."""
    grid = affine(spacing_mm)
    scan = write_nifti(folder / f"{name}.nii.gz", (reference * 100).astype(np.int16), grid)
    truth = write_nifti(folder / f"{name}_reference.nii.gz", reference, grid)
    mask = write_nifti(folder / "segmentations" / f"{name}.nii.gz", prediction, grid)
    rows = tuple(tuple(float(value) for value in row) for row in grid)
    case = Case(
        name=name,
        image=Source(format="nifti", files=(scan,)),
        geometry=Geometry(shape=reference.shape, affine=rows),
        reference=Source(format="nifti", files=(truth,)),
    )
    dice = 2 * np.count_nonzero(reference & prediction) / (np.count_nonzero(reference) + np.count_nonzero(prediction))
    return segmented(name, score(1, dice), case=case, mask=mask)
