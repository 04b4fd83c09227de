"""Label maps in one folder against those of the same names in another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.evaluate.config import EvaluationConfig
from tasks.evaluate.evaluate import evaluate_case
from tasks.evaluate.unscored import keep_refused
from tasks.ingest import Found
from tasks.ingest.discover import discover
from tasks.ingest.ingest import search_in_pool
from tasks.ingest.references import with_segmentations
from tasks.pool import map_cases
from tasks.scan.errors import NoPrediction
from tasks.scan.files import hash_files
from tasks.scan.records import Case, Outcome, Scores, Segmentation
from tasks.scan.volume import read_header, read_label_values, read_labels
from tasks.signs import read_signs


def compare_folders(
    predictions: Path, references: Path, config: EvaluationConfig, pool: str
) -> tuple[list[Outcome[Scores]], dict[int, str]]:
    """Scores of every case that either folder holds, and the labels: all values that occur, named by their number."""
    search = search_in_pool(pool)
    found, _ = discover(predictions, references, search)
    names = {one.name for one in found}
    others, _ = with_segmentations(*discover(references, None, search), references)
    alone = [one for one in others if one.name not in names]
    cases = [Outcome(name=one.name, value=one) for one in [*found, *alone]]
    read = map_cases(pool, "read", read_prediction, cases, frozenset(one.name for one in alone))
    labels = {value: str(value) for value in sorted({v for one in read if one.value for v in one.value.volumes_ml})}
    config.tolerances_mm(labels)  # a tolerance for a label that nobody has is refused here, not case by case
    scored = map_cases(pool, "evaluate", evaluate_case, read, labels, config)
    kept = [keep_refused(before, after, labels, config) for before, after in zip(read, scored, strict=True)]
    return kept, labels


def read_prediction(found: Found, alone: frozenset[str]) -> Segmentation:
    """The label map of `found`, with a volume for every value in it or in its reference.

    Raises NoPrediction when it is in `alone`, the references without prediction.
    """
    if found.name in alone:
        raise NoPrediction(found.name, "a reference alone", "a prediction of its name", "add it, or leave both out")
    grid = read_header(found.image, found.name).geometry
    labels = read_labels(found.image, grid, found.name)
    values = set(np.unique(labels).tolist())
    if found.reference:
        values |= read_label_values(found.reference, found.name)
    checksum = hash_files(found.image.files)
    return Segmentation(
        signs=read_signs(labels, values - {0}, {}),
        case=Case(name=found.name, image=found.image, geometry=grid, reference=found.reference),
        mask=found.image.files[0],
        mask_sha256=checksum,
        input_sha256=checksum,
        volumes_ml={value: int(np.count_nonzero(labels == value)) * grid.voxel_ml for value in sorted(values - {0})},
    )
