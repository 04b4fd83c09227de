"""What can be segmented but should be looked at is flagged, and an ordinary scan is not."""

import numpy as np
import pytest

from tasks.ingest.quality import grid_flags, intensity_flags, intensity_percentiles, modality_flags, plausibility_flags
from tasks.scan.records import Source
from tests.phantoms import affine, box, edit_dicom, picture, write_dicom_series, write_nifti

FINGERPRINT = {
    "spacing_mm": {"min": [1, 1, 1], "median": [1, 1, 2], "max": [1, 1, 3]},
    "shape": {"min": [90, 90, 40], "median": [100, 100, 50], "max": [110, 110, 60]},
    "foreground_mean": {"min": 80.0, "median": 100.0, "max": 120.0},
}


@pytest.mark.parametrize("fingerprint", [FINGERPRINT, {}])
def test_an_ordinary_grid_has_no_flag(fingerprint):
    assert grid_flags((100, 100, 50), (1, 1, 2), fingerprint) == []


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "flag"),
    [
        ((100, 100, 9), (1, 1, 5.9), "few slices: 9 along one axis"),
        ((100, 100, 17), (1, 1, 6.01), "extreme anisotropy: voxels of 1x1x6.01 mm"),
        ((100, 100, 17), (1, 1, 6.0), None),
        ((100, 100, 40), (2.01, 1.2, 2), "spacing far from the training data: 2.01x1.2x2 mm, there 1x1x1 to 1x1x3"),
        ((250, 100, 50), (0.49, 1, 2), "spacing far from the training data: 0.49x1x2 mm, there 1x1x1 to 1x1x3"),
        ((100, 49, 50), (1, 1, 2), "truncated field of view: 100x49x100 mm, in the training data 100x100x100"),
        ((100, 50, 50), (1, 1, 2), None),
    ],
)
def test_an_odd_grid_has_the_flag_that_says_why(shape, spacing_mm, flag):
    flags = grid_flags(shape, spacing_mm, FINGERPRINT)
    assert (flag in flags) if flag else (flags == [])


def voxels_from(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 8000, dtype=np.float32).reshape(20, 20, 20)


@pytest.mark.parametrize(("low", "high", "count"), [(0, 200, 0), (0, 70, 1), (130, 900, 1), (0, 81, 0), (115, 900, 0)])
def test_intensities_that_leave_the_tissue_out_are_flagged(low, high, count):
    flags = intensity_flags(intensity_percentiles(voxels_from(low, high)), FINGERPRINT)
    assert len(flags) == count
    assert all(flag.startswith("intensity far from the training data") for flag in flags)


def test_without_a_fingerprint_intensities_are_not_judged():
    assert intensity_flags(intensity_percentiles(voxels_from(0, 1)), {}) == []


@pytest.mark.parametrize(
    ("modality", "quantitative", "flags"),
    [
        ("CT", True, []),
        ("MR", False, []),
        ("CT", False, ["wrong modality: CT, the model was trained on another one"]),
        ("MR", True, ["wrong modality: MR, the model was trained on CT"]),
        ("Canary^Jane", True, ["wrong modality: unknown, the model was trained on CT"]),
    ],
)
def test_a_modality_that_is_not_the_models_is_flagged(tmp_path, modality, quantitative, flags):
    files = write_dicom_series(tmp_path / "a", picture(box((4, 4, 4), (1, 1, 1), (3, 3, 3))), affine())
    for file in files:
        edit_dicom(file, Modality=modality)
    assert modality_flags(Source(format="dicom", files=tuple(files)), "a", quantitative=quantitative) == flags


def test_a_format_without_a_modality_is_not_judged(tmp_path):
    file = write_nifti(tmp_path / "a.nii.gz", picture(box((4, 4, 4), (1, 1, 1), (3, 3, 3))))
    assert modality_flags(Source(format="nifti", files=(file,)), "a", quantitative=True) == []


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "flag"),
    [
        ((64, 64, 64), (25, 25, 25), "implausible spacing: voxels of 25x25x25 mm; are the header's lengths in mm?"),
        ((64, 64, 64), (0.01, 1, 1), "implausible spacing: voxels of 0.01x1x1 mm; are the header's lengths in mm?"),
        (
            (512, 512, 900),
            (1, 1, 3),
            "implausible field of view: 512x512x2700 mm, voxels of 1x1x3 mm; are the header's lengths in mm?",
        ),
        ((512, 512, 400), (0.075, 0.075, 5), None),
    ],
)
def test_lengths_that_no_scanner_of_people_makes_are_flagged(shape, spacing_mm, flag):
    assert plausibility_flags(shape, spacing_mm) == ([flag] if flag else [])
