"""A second night does what is new, and nothing else; each test changes one thing between two nights."""

import gzip
import json
import os
import shutil
import time
from dataclasses import replace
from functools import partial

import nibabel
import numpy as np
import pandas as pd
import pytest

from tasks.evaluate import EvaluationConfig
from tasks.infer import InferenceConfig
from tasks.infer.machine import resolve
from tasks.ledger import check_ledger, table
from tasks.ledger import look as look_module
from tasks.ledger.recall import look_up
from tasks.ledger.table import Entry, Seen, read_entries, read_recipes, write_night, writing_cases
from tasks.pool import PoolConfig, open_pool
from tasks.scan.errors import UnreadableLedger
from tasks.scan.records import Outcome, Source
from tests.phantoms import affine, box, picture, write_dicom_series, write_nifti
from tests.tasks.ledger.nights import Home, look, night, todo, train_nothing

SHAPE = (12, 10, 8)
LABELS = box(SHAPE, (2, 2, 2), (8, 5, 6))
NO_POOL = "tcp://127.0.0.1:9"
"""Nothing listens there: reading a file in this pool would be an error."""


@pytest.fixture(scope="module")
def pool():
    with open_pool(PoolConfig(workers=1)) as address:
        yield address


@pytest.fixture(scope="module")
def first(pool, tmp_path_factory):
    """One night over three scans, of which one is DICOM and one has a reference, and one that is not finite."""
    home = Home(folder=tmp_path_factory.mktemp("home"), pool=pool)
    train_nothing(home.path("model"))
    write_nifti(home.path("in/a.nii.gz"), picture(LABELS, 1))
    write_nifti(home.path("references/a.nii.gz"), LABELS)
    write_nifti(home.path("in/b.nii.gz"), picture(LABELS, 2))
    write_dicom_series(home.path("in/c"), picture(LABELS, 3), affine((1, 1, 2)))
    broken = picture(LABELS, 4).astype(np.float32)
    broken[3, 3, 3] = np.nan
    write_nifti(home.path("in/d.nii.gz"), broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(look_module, "RACY_SECONDS", 0)
        night(home)
    return home


@pytest.fixture
def home(first, tmp_path, monkeypatch):
    """The same after that night, where every test may change what it likes. Times of files are trusted at once."""
    monkeypatch.setattr(look_module, "RACY_SECONDS", 0)
    shutil.copytree(first.folder, tmp_path / "home", copy_function=shutil.copy2)
    return replace(first, folder=tmp_path / "home")


def bytes_of(home) -> dict[str, bytes]:
    out = home.path(home.output)
    return {name: (out / name).read_bytes() for name in ("metrics.csv", "summary.csv", "segmentations/a.nii.gz")}


def rows(home) -> dict[str, dict]:
    table = pd.read_csv(home.path("out/cases.csv"), keep_default_na=False, dtype=str)
    return {row["case"]: row for row in table.to_dict("records")}


def test_a_copy_of_everything_elsewhere_is_read_once_and_nothing_is_done(home):
    before = bytes_of(home)
    tonight, _ = night(home)
    assert todo(tonight) == {}
    assert bytes_of(home) == before
    tonight, _ = night(home, pool=NO_POOL)
    assert todo(tonight) == {}


def test_an_unchanged_case_has_the_rows_it_had_and_says_that_it_is_unchanged(home):
    night(home)
    second = home.path("out/cases.csv").read_bytes()
    _, outcomes = night(home)
    assert {name: row["status"] for name, row in rows(home).items()} == {
        "a": "unchanged", "b": "unchanged", "c": "unchanged", "d": "quarantined",
    }  # fmt: skip
    assert rows(home)["d"]["reason"] == "non_finite_voxels"
    assert home.path("out/cases.csv").read_bytes() == second
    assert all(outcome.unchanged for outcome in outcomes.values())


def test_a_new_case_costs_one_case(home):
    write_nifti(home.path("in/e.nii.gz"), picture(LABELS, 5))
    tonight, _ = night(home)
    assert tonight.why == {"e": "new"}
    assert todo(tonight) == {"e": "segment"}


def test_a_touched_file_does_nothing(home):
    night(home)
    os.utime(home.path("in/a.nii.gz"))
    os.utime(home.path("references/a.nii.gz"))
    os.utime(home.path("out/segmentations/a.nii.gz"))
    assert todo(look(home)[0]) == {}


def test_a_file_of_equal_voxels_packed_otherwise_does_nothing_but_its_new_checksum_is_told(home):
    file = home.path("in/a.nii.gz")
    before = rows(home)["a"]["input_sha256"]
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), compresslevel=1))
    tonight, _ = night(home)
    assert todo(tonight) == {}
    assert rows(home)["a"]["input_sha256"] not in {before, ""}
    assert todo(night(home, pool=NO_POOL)[0]) == {}


def test_a_voxel_that_changed_behind_size_and_time_is_seen(home):
    night(home)
    file = home.path("in/c/001.dcm")
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert look(home)[0].why == {"c": "the scan changed"}


@pytest.mark.parametrize("change", [{"srow_x": (1, 0, 0, 5)}, {"sform_code": 2}, {"xyzt_units": 2}])
def test_a_change_of_the_grid_alone_is_a_change(home, change):
    file = home.path("in/b.nii.gz")
    image = nibabel.load(file)
    for name, value in change.items():
        image.header[name] = value
    nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header).to_filename(file)
    assert look(home)[0].why == {"b": "the scan changed"}


def test_free_text_in_a_header_is_no_change(home):
    file = home.path("in/b.nii.gz")
    image = nibabel.load(file)
    image.header["descrip"] = b"exported again"
    nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header).to_filename(file)
    assert todo(look(home)[0]) == {}


def test_another_tolerance_scores_again_and_segments_nothing(home):
    masks = {path: path.stat().st_ino for path in home.path("out/segmentations").iterdir()}
    other = replace(home, evaluation=EvaluationConfig(nsd_tolerance_mm=2.0))
    ledger = home.path("out/ledger.sqlite")
    before = {cost.stage: cost.began for cost in read_entries(ledger, ["a"])["a"].result.costs}
    tonight, _ = night(other)
    assert todo(tonight) == {"a": "score", "b": "score", "c": "score"}
    assert set(tonight.why.values()) == {"evaluate: evaluation.nsd_tolerance_mm"}
    after = {cost.stage: cost.began for cost in read_entries(ledger, ["a"])["a"].result.costs}
    assert after.pop("evaluate") > before.pop("evaluate")
    assert after == before  # when the other stages had it is still told
    assert {path: path.stat().st_ino for path in home.path("out/segmentations").iterdir()} == masks
    assert set(pd.read_csv(home.path("out/metrics.csv"))["nsd_tolerance_mm"].dropna()) == {2.0}
    assert todo(look(other)[0]) == {}


def test_other_weights_segment_everything(home):
    train_nothing(home.path("model"), seed=1)
    tonight, _ = night(home)
    assert todo(tonight) == {"a": "segment", "b": "segment", "c": "segment"}
    assert tonight.why["a"] == "infer: model.weights_sha256"


@pytest.mark.parametrize("part", ["slice_order", "keep_largest"])
def test_another_postprocessing_segments_everything(home, part):
    description = home.path("model") / "model.json"
    model = json.loads(description.read_text())
    description.write_text(json.dumps({**model, part: {**model[part], "labels": [1]}}))
    tonight, _ = look(home)
    assert tonight.why == dict.fromkeys("abc", f"postprocess: model.{part}.labels")


def test_mirroring_segments_everything(home):
    tonight, _ = look(replace(home, inference=InferenceConfig(device="cpu", mirror=True)))
    assert tonight.why == dict.fromkeys("abc", "infer: inference.mirror")


def test_another_limit_of_memory_may_choose_other_tiles_and_segments_everything(home):
    tonight, _ = look(replace(home, inference=InferenceConfig(device="cpu", memory_gb=7.0)))
    assert tonight.why == dict.fromkeys("abc", "infer: inference.memory_gb")


def test_a_thousand_unchanged_cases_are_known_by_their_stamps_and_nothing_is_submitted(home):
    ledger = look(home)[1]
    known, case = read_entries(ledger.path, ["b"])["b"], look(home)[0].settled[1].value.segmentation.case
    cases, seen = [], {}
    scores = known.result.scores
    for number in range(1000):
        name = f"b{number}"
        scan = home.path("in") / f"{name}.nii.gz"
        mask = ledger.masks / scan.name
        shutil.copyfile(home.path("in/b.nii.gz"), scan)
        shutil.copyfile(home.path("out/segmentations/b.nii.gz"), mask)
        cases.append(replace(case, name=name, image=Source(format="nifti", files=(scan,))))
        seen[name] = Seen(input=look_module.stamp_files([scan]))
    write_night(ledger.path, seen, {}, [])
    with writing_cases(ledger.path, read_recipes(ledger.path)) as write:
        for name in seen:
            mask = ledger.masks / f"{name}.nii.gz"
            own = replace(scores, segmentation=replace(scores.segmentation, mask=mask))
            result = replace(known.result, scores=own)
            stamp = look_module.stamp_files([mask])
            write(name, partial(as_noted, replace(known, name=name, result=result, mask=stamp)))
    outcomes = [Outcome(name=one.name, case=one, value=one) for one in cases]
    tonight = look_up(outcomes, ledger, NO_POOL)
    assert (len(tonight.settled), todo(tonight)) == (1000, {})
    assert all(outcome.unchanged for outcome in tonight.settled)


def as_noted(entry: Entry, seen: Seen) -> Entry:
    return replace(entry, seen=seen)


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_was_set_between_two_nights_makes_nothing_new(home, days, monkeypatch):
    """Set back, files seem to be of the future: they are read again. Set on, nothing is read."""
    night(home)
    there = time.time_ns() + days * 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: there)
    tonight, _ = look(home, pool=home.pool if days < 0 else NO_POOL)
    assert todo(tonight) == {}


def test_auto_and_the_device_that_it_means_are_one_setting(home):
    machine = resolve(home.inference)
    named = InferenceConfig(device="cpu", precision=machine.precision, backend=machine.backend)
    assert todo(look(replace(home, inference=named))[0]) == {}


def test_a_mask_that_was_deleted_is_made_again(home):
    before = bytes_of(home)
    home.path("out/segmentations/a.nii.gz").unlink()
    tonight, _ = night(home)
    assert tonight.why == {"a": "its mask is not there as it was written"}
    assert bytes_of(home) == before


def test_a_mask_that_was_altered_without_its_size_or_time_is_made_again(home):
    before = bytes_of(home)
    night(home)
    mask = home.path("out/segmentations/a.nii.gz")
    status = mask.stat()
    mask.write_bytes(b"\0" * status.st_size)
    os.utime(mask, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert todo(night(home)[0]) == {"a": "segment"}
    assert bytes_of(home) == before


def test_another_reference_scores_its_case_again(home):
    write_nifti(home.path("references/a.nii.gz"), box(SHAPE, (2, 2, 2), (8, 5, 7)))
    tonight, _ = night(home)
    assert tonight.why == {"a": "the reference changed"}
    assert todo(tonight) == {"a": "score"}
    assert todo(look(home)[0]) == {}


def test_a_reference_that_came_or_went_scores_its_case_again(home):
    home.path("references/a.nii.gz").unlink()
    write_nifti(home.path("references/b.nii.gz"), LABELS)
    _, outcomes = night(home)
    assert {name: outcomes[name].value.scores[0].status for name in "ab"} == {"a": "no_reference", "b": "missed"}


def test_what_was_quarantined_is_tried_again_when_its_file_changes(home):
    write_nifti(home.path("in/d.nii.gz"), picture(LABELS, 4))
    tonight, outcomes = night(home)
    assert tonight.why == {"d": "the scan changed"}
    assert outcomes["d"].problem is None
    assert todo(look(home)[0]) == {}


def test_what_was_quarantined_is_tried_again_on_demand(home):
    tonight, outcomes = night(replace(home, retry=True))
    assert tonight.why == {"d": "it is to be tried again"}
    assert outcomes["d"].problem.reason == "non_finite_voxels"


def test_a_reference_that_is_refused_leaves_its_mask_and_is_not_read_again(home):
    write_nifti(home.path("references/b.nii.gz"), LABELS[:, :, :7])
    _, outcomes = night(home)
    assert (outcomes["b"].problem.reason, outcomes["b"].value.scores[0].status) == (
        "grid_mismatch",
        "reference_refused",
    )
    tonight, outcomes = night(home)
    assert todo(tonight) == {}
    assert outcomes["b"].problem.reason == "grid_mismatch"


def test_what_the_program_failed_on_is_tried_again(home):
    home.path("out/segmentations/e.nii.gz").mkdir()
    write_nifti(home.path("in/e.nii.gz"), picture(LABELS, 5))
    _, outcomes = night(home)
    assert (outcomes["e"].problem.status, outcomes["e"].problem.reason) == ("failed", "IsADirectoryError")
    assert look(home)[0].why == {"e": "postprocess did not end well"}


def test_scans_and_output_that_were_moved_are_known(home):
    night(home)
    home.path("in/b.nii.gz").rename(home.path("in/spare"))
    home.path("in/spare").rename(home.path("in/b.nii.gz"))
    home.path("out").rename(home.path("elsewhere"))
    moved = replace(home, output="elsewhere")
    tonight, outcomes = night(moved)
    assert todo(tonight) == {}
    assert outcomes["b"].value.segmentation.mask == home.path("elsewhere/segmentations/b.nii.gz")


def test_a_file_changed_within_the_last_two_seconds_is_not_known_by_its_times(home, monkeypatch):
    night(home)
    monkeypatch.setattr(look_module, "RACY_SECONDS", 1000)
    assert look_module.stamp_files([home.path("in/a.nii.gz")]) is None
    assert todo(look(home)[0]) == {}


def test_a_damaged_ledger_is_refused_by_name(home):
    file = home.path("out/ledger.sqlite")
    content = file.read_bytes()
    file.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    with pytest.raises(UnreadableLedger, match="is damaged"):
        look(home)


def test_an_empty_file_is_a_ledger_that_a_kill_did_not_let_begin(home):
    file = home.path("out/ledger.sqlite")
    file.write_bytes(b"")
    check_ledger(file)
    assert set(look(home)[0].why.values()) == {"new"}


def test_longest_come_first_by_what_they_took_or_by_what_others_of_their_size_did(home):
    write_nifti(home.path("in/large.nii.gz"), picture(np.tile(LABELS, (4, 1, 1)), 6))
    write_nifti(home.path("in/small.nii.gz"), picture(LABELS[:4, :4, :4], 7))
    write_nifti(home.path("in/middle.nii.gz"), picture(np.tile(LABELS, (2, 1, 1)), 8))
    tonight, ledger = look(home)
    assert [case.name for case in tonight.due] == ["large", "middle", "small"]
    seconds = table.read_expected(ledger.path)
    assert seconds["large"] == pytest.approx(2 * seconds["middle"])


def test_what_a_night_did_not_come_to_is_first_in_the_next(home):
    write_nifti(home.path("in/small.nii.gz"), picture(LABELS[:4, :4, :4], 7))
    look(home)
    write_nifti(home.path("in/large.nii.gz"), picture(np.tile(LABELS, (4, 1, 1)), 6))
    assert [case.name for case in night(home)[0].due] == ["small", "large"]
    assert table.read_waiting(home.path("out/ledger.sqlite")) == set()


def test_without_history_no_time_is_claimed(home):
    home.path("out/ledger.sqlite").unlink()
    tonight, ledger = look(home)
    assert len(tonight.due) == 4
    assert table.read_expected(ledger.path) == {}
