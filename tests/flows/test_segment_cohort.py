"""The night, whole: real files, a real model, a real Dask pool, a real Prefect server; good and bad cases together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from distributed import Client
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.outcomes import exit_code
from flows.output import hold_folder
from flows.segment_cohort import segment_cohort
from flows.services import prefect_environment
from flows.settings import Settings
from tasks.model import Model, Plan
from tasks.model.folder import save_model
from tasks.pool import PoolConfig
from tasks.report import verify_output
from tasks.scan.errors import EmptyCohort, ModelNotFound, UnwritableOutput
from tests.clusters import dask_cluster
from tests.phantoms import affine, box, edit_dicom, oblique_affine, picture, truncate, write_dicom_series, write_nifti
from unet import UNet, UNetConfig

SHAPE = (12, 10, 8)
NETWORK = UNetConfig(dimensions=3, out_channels=3, features=(2, 4), normalisation="batch", upsampling="transposed")
SETTINGS = Settings(pool=PoolConfig(workers=2), shard=4)


@pytest.fixture(autouse=True)
def _quick_flows(local_prefect):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An untrained model that knows two labels."""
    folder = tmp_path_factory.mktemp("model")
    plan = Plan(network=NETWORK, spacing_mm=(1.5, 1.5, 1.5), patch=(8, 8, 8), batch_size=2)
    torch.manual_seed(0)
    save_model(Model(plan=plan, labels={1: "head", 2: "body"}, weights_sha256=""), [UNet(NETWORK).eval()], folder)
    return folder


def labels(shape=SHAPE) -> np.ndarray:
    return box(shape, (2, 2, 2), (8, 5, 6), 1) + box(shape, (2, 5, 2), (8, 8, 6), 2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Three good scans and five bad ones, with references where they matter."""
    folder = tmp_path_factory.mktemp("cohort")
    incoming, references = folder / "incoming", folder / "references"
    write_nifti(incoming / "good-1.nii.gz", picture(labels()), affine((1, 1, 2), "LPS", SHAPE))
    write_nifti(references / "good-1.nii.gz", labels(), affine((1, 1, 2), "LPS", SHAPE))
    write_nifti(incoming / "good-2.nii.gz", picture(labels()), oblique_affine((1, 2, 1)))
    write_dicom_series(incoming / "good-3", picture(labels()), oblique_affine((1, 1, 3)))
    truncate(write_nifti(incoming / "bad-truncated.nii.gz", picture(labels())), 0.5)
    voxels = picture(labels()).astype(np.float32)
    voxels[3, 3, 3] = np.nan
    write_nifti(incoming / "bad-nan.nii.gz", voxels)
    write_dicom_series(incoming / "bad-gap", picture(labels()), affine((1, 1, 3)), series="gap")[4].unlink()
    for file in write_dicom_series(incoming / "bad-place", picture(labels()), affine((1, 1, 3)), series="place"):
        edit_dicom(file, ImagePositionPatient=None)
    write_nifti(incoming / "bad-reference.nii.gz", picture(labels()), affine((1, 1, 1)))
    write_nifti(references / "bad-reference.nii.gz", labels((12, 10, 7)), affine((1, 1, 1)))
    (incoming / "notes.txt").write_text("not a scan")
    return folder


def night(cohort, model, output, settings=SETTINGS):
    return segment_cohort(cohort, model, output, settings, return_state=True)


@pytest.fixture(scope="module")
def whole(cohort, model, tmp_path_factory, local_prefect):
    """State and output of one night over the whole cohort."""
    output = tmp_path_factory.mktemp("night") / "out"
    settings = Settings(pool=PoolConfig(workers=2), shard=3, references=cohort / "references")
    return night(cohort / "incoming", model, output, settings), output


def rows(output) -> dict[str, dict]:
    table = pd.read_csv(output / "cases.csv", keep_default_na=False)
    return {row["case"]: row for row in table.to_dict("records")}


def test_every_scan_found_has_one_row_and_its_reason(whole):
    _, output = whole
    assert {name: (row["status"], row["reason"]) for name, row in rows(output).items()} == {
        "bad-gap": ("quarantined", "missing_slice"),
        "bad-nan": ("quarantined", "non_finite_voxels"),
        "bad-place": ("quarantined", "unusable_geometry"),
        "bad-reference": ("quarantined", "grid_mismatch"),
        "bad-truncated": ("quarantined", "unreadable_image"),
        "good-1": ("segmented", ""),
        "good-2": ("segmented", ""),
        "good-3": ("segmented", ""),
    }


def test_every_bad_case_says_what_to_do(whole):
    _, output = whole
    assert all(row["remedy"] and row["message"] and row["stage"] for row in rows(output).values() if row["reason"])


def test_the_state_and_the_exit_code_say_it(whole):
    state, _ = whole
    assert state.is_failed()
    assert state.message == (
        "5 of 8 cases need attention (3 segmented, 5 quarantined): "
        "bad-gap, bad-nan, bad-place, bad-reference, bad-truncated"
    )
    assert exit_code(state) == 1


def test_every_file_of_the_interface_is_written_and_nothing_else(whole):
    _, output = whole
    files = {path.name for path in output.iterdir()}
    assert files == {
        "segmentations", "metrics.csv", "summary.csv", "cases.csv", "trends.csv", "report.html", "pictures", "run.json",
            ".lock", "ledger.sqlite", "delta.csv", "log.jsonl",
    }  # fmt: skip
    assert {path.name for path in (output / "segmentations").iterdir()} == {
        "good-1.nii.gz", "good-2.nii.gz", "good-3.nii.gz", "bad-reference.nii.gz",
    }  # fmt: skip


def test_masks_lie_on_the_grid_of_their_scan(whole, cohort):
    _, output = whole
    for name in ("good-1", "good-2"):
        mask = nibabel.load(output / "segmentations" / f"{name}.nii.gz")
        scan = nibabel.load(cohort / "incoming" / f"{name}.nii.gz")
        assert mask.shape == scan.shape
        assert np.array_equal(mask.affine, scan.affine)
        for field in ("qform_code", "sform_code", "pixdim", "quatern_b", "qoffset_x", "srow_x"):
            assert np.array_equal(mask.header[field], scan.header[field])
    series = nibabel.load(output / "segmentations" / "good-3.nii.gz")
    assert series.shape == SHAPE
    assert np.allclose(series.affine, oblique_affine((1, 1, 3)), atol=1e-4)


def test_metrics_have_a_row_for_every_case_and_label(whole):
    _, output = whole
    metrics = pd.read_csv(output / "metrics.csv")
    assert len(metrics) == 8 * 2
    status = dict(zip(metrics["case"], metrics["status"], strict=True))
    assert status["good-2"] == "no_reference"
    assert status["bad-reference"] == "reference_refused"
    assert status["bad-gap"] == "not_segmented"
    assert set(metrics[metrics["case"] == "good-1"]["status"]) <= {"scored", "missed"}


def test_the_record_of_the_run_verifies_and_notices_a_change(whole):
    _, output = whole
    assert verify_output(output) == []
    record = json.loads((output / "run.json").read_text())
    assert record["versions"]["torch"].startswith("2.13.0")
    assert record["set_aside"][0]["path"].endswith("notes.txt")
    page = output / "report.html"
    content = page.read_text()
    page.write_text(content + " ")
    assert verify_output(output) == ["report.html: changed since it was written"]
    page.write_text(content)


def test_the_page_of_the_run_in_prefect_has_the_summary_and_the_way_to_the_report(whole):
    state, output = whole
    with get_client(sync_client=True) as client:
        run = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
        found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=run))
    artifacts = {artifact.key: artifact for artifact in found}
    assert artifacts["summary"].description == (
        "8 cases: 5 quarantined, 3 segmented; "
        "the first night: 5 failed, 0 worse, 0 fixed, 3 new, 0 changed, 0 unchanged"
    )
    assert [row["name"] for row in json.loads(artifacts["summary"].data)] == ["head", "body"]
    assert (output / "report.html").as_uri() in artifacts["report"].data


def test_the_same_scans_give_the_same_bytes_whatever_the_shards(whole, cohort, model, tmp_path):
    _, first = whole
    settings = Settings(pool=PoolConfig(workers=1), shard=50, references=cohort / "references")
    night(cohort / "incoming", model, tmp_path, settings)
    for name in ("metrics.csv", "summary.csv", "segmentations/good-1.nii.gz", "segmentations/good-3.nii.gz"):
        assert (first / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_cluster_of_processes_with_folders_of_their_own_gives_the_same_bytes(whole, cohort, model, tmp_path):
    _, first = whole
    with dask_cluster(tmp_path / "cluster") as address:
        settings = Settings(pool=PoolConfig(address=address), references=cohort / "references")
        night(cohort / "incoming", model, tmp_path / "out", settings)
        with Client(address) as client:
            executed = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert len(executed) == 2
    assert min(executed.values()) > 0
    for name in ("metrics.csv", "summary.csv", *(f"segmentations/good-{number}.nii.gz" for number in (1, 2, 3))):
        assert (first / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_night_without_trouble_is_completed(model, tmp_path):
    write_nifti(tmp_path / "in" / "a.nii.gz", picture(labels()))
    state = night(tmp_path / "in", model, tmp_path / "out")
    assert state.is_completed()
    assert state.message == "1 of 1 cases segmented"
    assert exit_code(state) == 0


def test_output_inside_the_cohort_is_not_segmented_again(model, tmp_path):
    write_nifti(tmp_path / "a.nii.gz", picture(labels()))
    night(tmp_path, model, tmp_path / "out")
    assert night(tmp_path, model, tmp_path / "out").message.startswith("1 of 1 cases segmented")


def test_a_mask_of_an_earlier_night_is_put_aside_when_its_scan_has_become_unreadable(model, tmp_path):
    scan = write_nifti(tmp_path / "in" / "a.nii.gz", picture(labels()))
    write_nifti(tmp_path / "in" / "b.nii.gz", picture(labels()))
    night(tmp_path / "in", model, tmp_path / "out")
    truncate(scan, 0.5)
    night(tmp_path / "in", model, tmp_path / "out")
    masks = {path.name for path in (tmp_path / "out" / "segmentations").iterdir()}
    assert masks == {"a.nii.gz.old", "b.nii.gz"}


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda cohort, model: (cohort / "gone", model), EmptyCohort),
        (lambda _, model: (model, model), EmptyCohort),
        (lambda cohort, _: (cohort, cohort), ModelNotFound),
    ],
)
def test_a_run_that_cannot_start_ends_by_name(cohort, model, tmp_path, spoil, error):
    state = night(*spoil(cohort / "incoming", model), tmp_path / "out")
    assert state.is_failed()
    with pytest.raises(error):
        exit_code(state)
    assert not (tmp_path / "out" / "run.json").exists()


def test_an_output_that_cannot_be_written_ends_by_name(cohort, model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableOutput, match="choose a folder that can be written"):
        exit_code(night(cohort / "incoming", model, tmp_path / "file"))


RUN_UNTIL_KILLED = """
import sys
from pathlib import Path
from flows.segment_cohort import segment_cohort
from flows.settings import Settings
if __name__ == "__main__":
    segment_cohort(*map(Path, sys.argv[1:]), Settings(), return_state=True)
"""


def test_a_run_killed_in_the_middle_leaves_nothing_half_written_and_the_next_finishes_it_byte_for_byte(model, tmp_path):
    """More scans than travel together, and the kill when some are through to the ledger."""
    for number in range(24):
        write_nifti(tmp_path / "in" / f"s{number}.nii.gz", picture(labels(), seed=number))
    arguments = [str(tmp_path / "in"), str(model), str(tmp_path / "out")]
    script = tmp_path / "run.py"
    script.write_text(RUN_UNTIL_KILLED)
    process = subprocess.Popen([sys.executable, str(script), *arguments], env=prefect_environment())
    masks, log, deadline = tmp_path / "out" / "segmentations", tmp_path / "out" / "log.jsonl", time.monotonic() + 90
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("evaluate: case '") >= 3):
        time.sleep(0.02)
    pool = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, orphans = psutil.wait_procs(pool, timeout=30)
    assert pool
    assert orphans == []
    whole_masks = [nibabel.load(path).get_fdata().shape for path in masks.glob("s*.nii.gz")]
    assert whole_masks
    assert set(whole_masks) == {SHAPE}
    assert not (tmp_path / "out" / "run.json").exists()
    state = night(tmp_path / "in", model, tmp_path / "out")
    found = re.fullmatch("24 of 24 cases segmented, (\\d+) of them unchanged since an earlier night", state.message)
    assert found
    assert 0 < int(found[1]) < 24
    assert not list((tmp_path / "out").rglob("*.part"))
    night(tmp_path / "in", model, tmp_path / "undisturbed")
    for name in ("metrics.csv", "summary.csv", *(f"segmentations/s{number}.nii.gz" for number in range(24))):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


def test_two_runs_on_one_output_are_refused(model, tmp_path):
    write_nifti(tmp_path / "in" / "a.nii.gz", picture(labels()))
    with hold_folder(tmp_path / "out"), pytest.raises(UnwritableOutput, match=f"in use by process {os.getpid()}"):
        exit_code(night(tmp_path / "in", model, tmp_path / "out"))
