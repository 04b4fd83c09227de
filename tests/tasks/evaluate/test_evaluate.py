"""A case against its reference: rows for every label, refusals by name."""

import math

import numpy as np
import pytest

from tasks.evaluate import EvaluationConfig
from tasks.evaluate.evaluate import evaluate_case
from tasks.scan.errors import GridMismatch, UnknownLabel, UnknownSetting
from tasks.scan.records import Case, Geometry, Segmentation, Source
from tests.phantoms import affine, box, oblique_affine, write_nifti

SHAPE = (6, 5, 4)
LABELS = {1: "head", 2: "body"}
GRID = affine(spacing_mm=(2, 1, 1), shape=SHAPE)


def segmentation(folder, prediction, reference=None, grid=GRID, scan=GRID) -> Segmentation:
    """A segmentation of a scan on the grid `scan`, in float32 as in a header, with `reference` on `grid`."""
    mask = write_nifti(folder / "mask.nii.gz", prediction, scan)
    truth = None if reference is None else write_nifti(folder / "reference.nii.gz", reference, grid)
    geometry = Geometry(shape=SHAPE, affine=tuple(tuple(row) for row in scan.astype(np.float32).tolist()))
    case = Case(
        name="C07",
        image=Source(format="nifti", files=(mask,)),
        geometry=geometry,
        reference=truth and Source(format="nifti", files=(truth,)),
    )
    return Segmentation(case=case, mask=mask, mask_sha256="", input_sha256="", volumes_ml={1: 0.5, 2: 0.25})


def test_every_label_has_a_row_with_volumes_in_millilitres(tmp_path):
    truth = box(SHAPE, (0, 0, 0), (2, 2, 2), 1)
    rows = evaluate_case(segmentation(tmp_path, truth, truth), LABELS, EvaluationConfig()).scores
    assert [(row.label, row.name, row.status) for row in rows] == [(1, "head", "scored"), (2, "body", "both_empty")]
    assert rows[0].dice == 1.0
    assert rows[0].volume_reference_ml == rows[0].volume_prediction_ml == pytest.approx(0.016)
    assert math.isnan(rows[1].dice)
    assert rows[1].volume_prediction_ml == 0


def test_distances_use_the_spacing_of_the_scan(tmp_path):
    truth, prediction = box(SHAPE, (1, 1, 1), (2, 2, 2)), box(SHAPE, (2, 1, 1), (3, 2, 2))
    rows = evaluate_case(segmentation(tmp_path, prediction, truth), LABELS, EvaluationConfig()).scores
    assert rows[0].hd95_mm == 2.0


@pytest.mark.parametrize("spacing_mm", [1.0, 0.4])
@pytest.mark.parametrize("degrees", range(0, 90, 9))
def test_a_voxel_is_within_a_tolerance_of_a_voxel_however_the_grid_is_turned(tmp_path, degrees, spacing_mm):
    truth, prediction = box(SHAPE, (1, 1, 1), (3, 3, 2)), box(SHAPE, (2, 1, 1), (4, 3, 2))
    turned = oblique_affine((spacing_mm,) * 3, degrees)
    found = segmentation(tmp_path, prediction, truth, turned, scan=turned)
    rows = evaluate_case(found, LABELS, EvaluationConfig(nsd_tolerance_mm=spacing_mm)).scores
    assert rows[0].nsd == 1.0


def test_without_a_reference_the_volumes_are_all_there_is(tmp_path):
    rows = evaluate_case(segmentation(tmp_path, box(SHAPE, (0, 0, 0), (1, 1, 1))), LABELS, EvaluationConfig()).scores
    assert [row.status for row in rows] == ["no_reference", "no_reference"]
    assert [row.volume_prediction_ml for row in rows] == [0.5, 0.25]
    assert math.isnan(rows[0].volume_reference_ml)


def test_a_reference_on_another_grid_is_refused(tmp_path):
    truth = box(SHAPE, (0, 0, 0), (2, 2, 2))
    shifted = affine(spacing_mm=(2, 1, 1), shape=SHAPE, origin_mm=(0, 0, 0.5))
    with pytest.raises(GridMismatch, match="case 'C07'.*different grids.*0.5 mm apart.*resample the reference"):
        evaluate_case(segmentation(tmp_path, truth, truth, shifted), LABELS, EvaluationConfig())


def test_a_value_the_model_does_not_know_is_refused(tmp_path):
    truth = box(SHAPE, (0, 0, 0), (2, 2, 2), 3)
    with pytest.raises(UnknownLabel, match=r"the values \[3\]; needed: only 0 and the model's labels \[1, 2\]"):
        evaluate_case(segmentation(tmp_path, truth, truth), LABELS, EvaluationConfig())


def test_float_labels_are_labels(tmp_path):
    truth = box(SHAPE, (0, 0, 0), (2, 2, 2))
    rows = evaluate_case(segmentation(tmp_path, truth, truth.astype(np.float32)), LABELS, EvaluationConfig()).scores
    assert rows[0].dice == 1.0


def test_a_tolerance_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nsd_tolerance_mm must be above 0"):
        EvaluationConfig(nsd_tolerance_mm=0)


def test_a_label_may_have_a_tolerance_of_its_own(tmp_path):
    truth = np.maximum(box(SHAPE, (0, 0, 0), (2, 2, 2), 1), box(SHAPE, (4, 3, 2), (6, 5, 4), 2))
    config = EvaluationConfig(nsd_tolerance_mm=1.5, nsd_tolerance_mm_of={"body": 0.25})
    rows = evaluate_case(segmentation(tmp_path, truth, truth), LABELS, config).scores
    assert [row.nsd_tolerance_mm for row in rows] == [1.5, 0.25]


def test_a_tolerance_for_a_label_that_does_not_exist_is_refused():
    config = EvaluationConfig(nsd_tolerance_mm_of={"tail": 1.0})
    with pytest.raises(UnknownSetting, match=r"nsd_tolerance_mm_of: no label is called 'tail'; there are body, head"):
        config.tolerances_mm(LABELS)


def test_the_volume_error_and_the_pieces_are_in_the_row(tmp_path):
    truth = box(SHAPE, (0, 0, 0), (2, 2, 2), 1)
    prediction = np.maximum(truth, box(SHAPE, (4, 3, 2), (6, 5, 3), 1))
    row = evaluate_case(segmentation(tmp_path, prediction, truth), LABELS, EvaluationConfig()).scores[0]
    assert (row.volume_error, row.components_reference, row.components_prediction) == (0.5, 1, 2)
