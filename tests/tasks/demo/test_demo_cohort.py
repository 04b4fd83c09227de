import csv
import json
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from scipy.ndimage import affine_transform

from tasks.demo.cohort import PROTOCOLS, DemoCohort, make_cohort, make_cohort_of
from tasks.demo.person import Person, dice, make_person
from tasks.scan.errors import UnknownSetting, UnwritableOutput
from tests.tasks.demo.tiny_template import tiny_template

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> DemoCohort:
    """Twelve people with tiny heads."""
    folder = tmp_path_factory.mktemp("demo") / "cohort"
    make_cohort_of(tiny_template(), folder, people=12, seed=0)
    return make_cohort(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def whole_scans(cohort: DemoCohort) -> dict[str, Path]:
    """The image of each of the twelve people."""
    folder = cohort.incoming.parent
    scans = [*(folder / "training").iterdir(), *(folder / "incoming").iterdir()]
    return {scan.name.removesuffix(".nii.gz"): scan for scan in scans if len(scan.name.removesuffix(".nii.gz")) == 9}


def test_two_thirds_are_for_training_and_have_references(cohort):
    rows = list(csv.DictReader(cohort.training_manifest.read_text(encoding="utf-8").splitlines()))
    folder = cohort.training_manifest.parent
    assert [row["case"] for row in rows] == [f"person-0{number}" for number in range(1, 9)]
    assert list(rows[0].values()) == ["person-01", "training/person-01.nii.gz", "references/person-01.nii.gz"]
    assert list(rows[1].values()) == ["person-02", "training/person-02", "references/person-02.nii.gz"]
    assert all((folder / row["image"]).exists() and (folder / row["reference"]).is_file() for row in rows)


def test_the_incoming_are_the_last_third_and_two_broken_scans(cohort):
    names = sorted(path.name for path in cohort.incoming.iterdir())
    assert names == [
        "person-09.nii.gz",
        "person-10",
        "person-11.nii.gz",
        "person-12",
        "person-13-missing-slice",
        "person-14-truncated.nii.gz",
    ]


def test_every_person_has_a_reference_with_three_values(cohort):
    references = sorted(cohort.references.iterdir())
    assert [file.name for file in references] == [f"person-{number:02d}.nii.gz" for number in range(1, 13)]
    assert all(np.unique(np.asarray(nibabel.load(file).dataobj)).tolist() == [0, 1, 2] for file in references)


def test_every_reference_lies_on_the_grid_of_its_scan(cohort):
    for case, scan in whole_scans(cohort).items():
        reference = nibabel.load(cohort.references / f"{case}.nii.gz")
        if scan.is_dir():
            image = SimpleITK.ReadImage([str(file) for file in sorted(scan.iterdir())])
            assert image.GetSize() == reference.shape
            for corner in product(*((0, length - 1) for length in reference.shape)):
                expected_mm = (LPS @ reference.affine @ [*corner, 1])[:3]
                assert image.TransformIndexToPhysicalPoint(corner) == pytest.approx(expected_mm, abs=1e-3)
        else:
            image = nibabel.load(scan)
            assert image.shape == reference.shape
            assert image.affine == pytest.approx(reference.affine, abs=1e-5)


def test_grey_and_white_matter_look_different_where_the_reference_says_they_are(cohort):
    for case, scan in whole_scans(cohort).items():
        labels = np.asarray(nibabel.load(cohort.references / f"{case}.nii.gz").dataobj)
        files = [str(file) for file in sorted(scan.iterdir())] if scan.is_dir() else []
        voxels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(files)).T if files else nibabel.load(scan).get_fdata()
        air, grey, white = (np.median(voxels[labels == label]) for label in (0, 1, 2))
        assert air < 60
        assert 330 < grey < 0.8 * white


def test_training_and_incoming_hold_both_formats_thick_and_thin_slices_and_three_orientations(cohort):
    for numbers in (range(1, 9), range(9, 13)):
        images = [nibabel.load(cohort.references / f"person-{number:02d}.nii.gz") for number in numbers]
        assert {round(float(image.header.get_zooms()[2])) for image in images} >= {1, 2, 3, 4}
        assert len({nibabel.aff2axcodes(image.affine)[2] in "SI" for image in images}) == 2
        assert sum(np.count_nonzero(np.abs(image.affine[:3, :3]) > 1e-6) > 3 for image in images) >= 1


def test_each_person_has_a_floor_for_each_label(cohort):
    assert list(cohort.floor) == [f"person-{number:02d}" for number in range(1, 13)]
    assert all(list(row) == [1, 2] and 0 < min(row.values()) <= max(row.values()) < 1 for row in cohort.floor.values())


def test_the_floor_is_the_dice_of_the_undeformed_template(tmp_path):
    template, case = tiny_template(), PROTOCOLS[0]
    person = Person(
        case="one", image=tmp_path / "one.nii.gz", reference=tmp_path / "label.nii.gz", protocol=case, seed=(0, 1)
    )
    floor = make_person(template, person)
    reference = nibabel.load(tmp_path / "label.nii.gz")
    to_template = np.linalg.inv(template.affine) @ reference.affine
    grey = affine_transform((template.grey > 127).astype(np.uint8), to_template, output_shape=reference.shape, order=0)
    assert floor[1] == pytest.approx(dice(np.asarray(reference.dataobj) == 1, grey == 1), abs=0.02)


def test_the_series_misses_its_middle_slice_and_no_other(cohort):
    datasets = [pydicom.dcmread(file) for file in sorted((cohort.incoming / "person-13-missing-slice").iterdir())]
    steps = np.diff([dataset.InstanceNumber for dataset in datasets])
    assert sorted(steps.tolist())[-2:] == [1, 2]
    assert steps[len(steps) // 2] == 2


def test_the_truncated_file_cannot_be_unpacked(cohort):
    with pytest.raises(EOFError):
        nibabel.load(cohort.incoming / "person-14-truncated.nii.gz").get_fdata()


def test_every_header_names_the_canary(cohort):
    for scan in whole_scans(cohort).values():
        if scan.is_dir():
            assert {str(pydicom.dcmread(file).PatientName) for file in scan.iterdir()} == {"Canary^Neverprint"}
        else:
            assert nibabel.load(scan).header["descrip"].item() == b"Canary^Neverprint"


def test_the_labels_have_names(cohort):
    assert json.loads(cohort.labels.read_text(encoding="utf-8")) == {"1": "grey matter", "2": "white matter"}


def test_one_seed_gives_the_same_bytes_and_another_seed_other_scans(tmp_path):
    for name, seed in (("one", 5), ("same", 5), ("other", 6)):
        make_cohort_of(tiny_template(), tmp_path / name, people=3, seed=seed)
    one, same, other = (files_of(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    assert all(one[name] != other[name] for name in one if name.endswith((".nii.gz", ".dcm")) and name in other)


def test_two_people_scanned_with_one_protocol_are_two_people(tmp_path):
    make_cohort_of(tiny_template(), tmp_path / "cohort", people=len(PROTOCOLS) + 1, seed=0)
    first, last = (tmp_path / "cohort" / "references" / f"person-{number}.nii.gz" for number in ("01", "13"))
    assert nibabel.load(first).shape == nibabel.load(last).shape
    assert first.read_bytes() != last.read_bytes()


def test_a_cohort_that_is_there_is_returned_untouched(cohort):
    before = {file: file.stat().st_mtime_ns for file in cohort.incoming.parent.rglob("*")}
    assert make_cohort(cohort.incoming.parent) == cohort
    assert {file: file.stat().st_mtime_ns for file in cohort.incoming.parent.rglob("*")} == before


@pytest.mark.parametrize("wanted", [{"seed": 1}, {"people": 6}])
def test_a_cohort_of_another_kind_is_not_overwritten(cohort, wanted):
    with pytest.raises(UnwritableOutput, match="remove it, or name another folder"):
        make_cohort(cohort.incoming.parent, **wanted)


def test_a_folder_with_other_files_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UnwritableOutput, match="remove it, or name another folder"):
        make_cohort(tmp_path)
    assert files_of(tmp_path) == {"thesis.txt": b"mine"}


def test_a_file_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UnwritableOutput, match="remove it, or name another folder"):
        make_cohort(tmp_path / "thesis.txt")
    assert files_of(tmp_path) == {"thesis.txt": b"mine"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "cohort").mkdir()
    make_cohort_of(tiny_template(), tmp_path / "cohort", people=3, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_what_a_killed_run_left_is_removed(tmp_path):
    left = tmp_path / ".cohort.part" / "incoming" / "person-99.nii.gz"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    make_cohort_of(tiny_template(), tmp_path / "cohort", people=3, seed=0)
    assert not left.parent.parent.exists()
    assert "incoming/person-99.nii.gz" not in files_of(tmp_path / "cohort")


def test_a_run_that_stops_half_way_leaves_no_cohort(tmp_path):
    def stop(done: int, _all: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_cohort_of(tiny_template(), tmp_path / "cohort", people=3, seed=0, progress=stop)
    assert not (tmp_path / "cohort").exists()


def test_progress_counts_the_broken_scans_too(tmp_path):
    calls = []

    def note(done: int, whole: int) -> None:
        calls.append((done, whole))

    make_cohort_of(tiny_template(), tmp_path / "cohort", people=3, seed=0, progress=note)
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_two_people_are_too_few(tmp_path):
    with pytest.raises(UnknownSetting, match="3 or more"):
        make_cohort(tmp_path / "cohort", people=2)


def test_dice_of_masks_that_share_one_of_three_voxels():
    assert dice(np.array([True, True, False]), np.array([True, False, False])) == pytest.approx(2 / 3)


def test_dice_of_two_empty_masks_is_not_a_number():
    assert np.isnan(dice(np.zeros(3, bool), np.zeros(3, bool)))
