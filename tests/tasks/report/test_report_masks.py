"""Which masks stay in the output folder."""

from tasks.report.report import retire_old_masks
from tests.tasks.report.cases import segmented


def test_what_was_put_aside_goes_when_its_case_has_a_mask_again_and_stays_while_it_has_none(tmp_path):
    masks = tmp_path / "segmentations"
    masks.mkdir()
    for name in ("a.nii.gz", "a.nii.gz.old", "b.nii.gz.old", "c.nii.gz"):
        (masks / name).touch()
    retire_old_masks([segmented("a", mask=masks / "a.nii.gz")], masks)
    assert sorted(path.name for path in masks.iterdir()) == ["a.nii.gz", "b.nii.gz.old", "c.nii.gz.old"]
