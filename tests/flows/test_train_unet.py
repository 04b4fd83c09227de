"""A training, whole: real files, a real Dask pool, a real Prefect server; held-out folds, ensembles, kills."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.night import open_night
from flows.outcomes import exit_code
from flows.services import prefect_environment
from flows.settings import Settings
from flows.train_unet import train_unet
from tasks.infer import InferenceConfig
from tasks.infer.machine import make_ready
from tasks.model.folder import read_model
from tasks.pool import PoolConfig
from tasks.scan.errors import CheckpointMismatch, EmptyCohort, MissingLabel, TrainingDiverged, UnknownSetting
from tests.phantoms import affine, box, picture, write_nifti

SHAPE = (12, 10, 8)
SETTINGS = {
    "training": {"epochs": 200},
    "plan": {"maps": 4, "batch_size": 2},
    "run": {"pool": {"workers": 1}},
}
SETTINGS_FILE = """
[training]
checkpoint_seconds = 0.5
[plan]
maps = 4
batch_size = 2
[run.pool]
workers = 1
"""


@pytest.fixture(autouse=True)
def _quick_flows(local_prefect):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def labels() -> np.ndarray:
    return box(SHAPE, (2, 2, 2), (8, 5, 6), 1) + box(SHAPE, (2, 5, 2), (8, 8, 6), 2)


@pytest.fixture
def dataset(tmp_path):
    """Five cases of two labels; the reference of the first holds a third. Fold 1 is the last case."""
    rows = ["case,image,reference"]
    for number in range(5):
        write_nifti(tmp_path / f"i{number}.nii.gz", picture(labels(), seed=number))
        write_nifti(tmp_path / f"l{number}.nii.gz", labels() if number else labels() * 3)
        rows.append(f"p{number},i{number}.nii.gz,l{number}.nii.gz")
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    (tmp_path / "labels.json").write_text('{"1": "head", "2": "body"}')
    folds = [f"p{number},s{number},{number // 4}" for number in range(5)]
    (tmp_path / "folds.csv").write_text("\n".join(["case,subject,fold", *folds]))
    return tmp_path


def trained(dataset, **changes):
    settings = {**SETTINGS, "folds": str(dataset / "folds.csv"), **changes}
    return train_unet(dataset / "cohort.csv", dataset / "model", settings, return_state=True)


def table(dataset, name):
    return pd.read_csv(dataset / "model" / name, keep_default_na=False)


def test_training_gives_a_model_and_scores_the_fold_it_never_saw(dataset):
    state = trained(dataset, fold=1)
    assert state.message == "1 of 2 cases need attention (1 segmented, 1 quarantined): p0"
    cases = table(dataset, "validation/cases.csv")
    assert dict(zip(cases["case"], cases["reason"], strict=True)) == {"p0": "unknown_label", "p4": ""}
    metrics = table(dataset, "validation/metrics.csv").set_index("case")
    assert metrics.loc["p4", "dice"].astype(float).min() > 0.8
    curve = table(dataset, "training.csv")
    assert list(curve.columns) == ["fold", "step", "seconds", "learning_rate", "loss", "dice_head", "dice_body"]
    assert float(curve["dice_head"].iloc[-1]) > 0.8
    assert float(curve["loss"].iloc[-1]) < 0.5 * float(curve["loss"].iloc[0])
    model = read_model(dataset / "model")
    assert model.keep_largest.evidence["cases"] == 1
    assert model.slice_order.evidence["references"] == 3
    assert model.slice_order.evidence["cases"] == 1
    assert not (dataset / "model" / "checkpoints").exists()
    assert {"training.png", "samples.png"} <= {path.name for path in (dataset / "model").iterdir()}


def test_a_data_set_with_quirks_is_learnt(tmp_path):
    """Thick slices, float labels, intensities beyond float16 in one of three families, a label in one case only."""
    thick = affine((0.4, 0.4, 6.5), "LAS", (20, 20, 6))
    labels = box((20, 20, 6), (4, 4, 1), (14, 10, 5), 1) + box((20, 20, 6), (4, 10, 1), (14, 16, 5), 2)
    rare = labels + box((20, 20, 6), (15, 4, 1), (19, 16, 5), 3)
    rows = ["case,image,reference"]
    for number, scale in enumerate((1, 40, 14_000, 1, 40, 14_000)):
        reference = rare if number == 2 else labels
        scan = scale * picture(reference, seed=number).astype(np.float32)
        write_nifti(tmp_path / f"i{number}.nii.gz", scan, thick)
        write_nifti(tmp_path / f"l{number}.nii.gz", reference.astype((np.uint8, np.float32)[number % 2]), thick)
        rows.append(f"p{number},i{number}.nii.gz,l{number}.nii.gz")
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    (tmp_path / "labels.json").write_text('{"1": "head", "2": "body", "3": "rare"}')
    (tmp_path / "folds.csv").write_text("case,fold\n" + "\n".join(f"p{n},{int(n > 3)}" for n in range(6)))
    state = trained(tmp_path, fold=1)
    assert state.message == "2 of 2 cases segmented"
    summary = table(tmp_path, "validation/summary.csv").set_index("name")
    assert summary.loc[["head", "body"], "dice_mean"].astype(float).min() > 0.9
    assert summary.loc["rare", ["n_cases", "n_both_empty"]].tolist() == [2, 2]
    plan = read_model(tmp_path / "model").plan
    assert plan.spacing_mm == pytest.approx((0.4, 0.4, 6.5))
    assert {kernel[2] for kernel in plan.network.kernels} == {1}


def test_every_fold_in_turn_gives_an_ensemble_and_each_case_the_score_of_the_member_that_never_saw_it(dataset):
    state = trained(dataset, training={"epochs": 100})
    assert state.message == "1 of 5 cases need attention (4 segmented, 1 quarantined): p0"
    model = read_model(dataset / "model")
    assert [member["fold"] for member in model.training["members"]] == [0, 1]
    assert model.keep_largest.evidence["cases"] == 4
    assert model.slice_order.evidence["cases"] == 4
    with open_night(dataset, dataset / "model", dataset / "night", Settings(pool=PoolConfig(workers=1))) as night:
        assert len(make_ready(night.weights, model, night.opened.machine)) == 2
    assert set(table(dataset, "training.csv")["fold"]) == {0, 1}


def test_the_same_seed_gives_the_same_model(dataset):
    checksums = set()
    for _ in range(2):
        trained(dataset, fold=1, training={"epochs": 3})
        checksums.add(read_model(dataset / "model").weights_sha256)
    assert len(checksums) == 1


def start(dataset, *flags) -> subprocess.Popen:
    """`segment-cohort train` on fold 1, in a process of its own."""
    (dataset / "settings.toml").write_text(SETTINGS_FILE)
    names = ["--folds", dataset / "folds.csv", "--fold", "1", "--settings", dataset / "settings.toml", *flags]
    command = [sys.executable, "-m", "flows.command_line", "train", dataset / "cohort.csv", *names]
    with (dataset / "log.txt").open("w") as log:
        return subprocess.Popen(
            [*map(str, command), "--output", str(dataset / "model")], env=prefect_environment(), stdout=log, stderr=log
        )


def test_a_training_that_was_killed_goes_on_to_the_model_of_an_undisturbed_one(dataset):
    undisturbed = start(dataset, "--epochs", "200")
    assert undisturbed.wait(timeout=200) == 1, (dataset / "log.txt").read_text()
    expected = read_model(dataset / "model").weights_sha256
    killed = start(dataset, "--epochs", "200")
    deadline = time.monotonic() + 120
    while not list((dataset / "model" / "checkpoints").glob("fold-1.*.safetensors")):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(timeout=30)
    resumed = start(dataset, "--epochs", "200", "--resume")
    assert resumed.wait(timeout=200) == 1, (dataset / "log.txt").read_text()
    assert read_model(dataset / "model").weights_sha256 == expected


def test_a_checkpoint_of_other_data_is_refused(dataset):
    trained(dataset, fold=1, training={"epochs": 1})
    (dataset / "model" / "checkpoints").mkdir()
    (dataset / "model" / "checkpoints" / "fold-1.0123456789abcdef.safetensors").touch()
    with pytest.raises(CheckpointMismatch, match="is of other scans, or of another split, plan, seed or precision"):
        exit_code(trained(dataset, fold=1, training={"epochs": 1}, resume=True))


def test_a_plan_of_another_version_is_refused(dataset):
    (dataset / "model" / "checkpoints").mkdir(parents=True)
    (dataset / "model" / "checkpoints" / "plan.json").write_text('{"spacing": 3}')
    with pytest.raises(CheckpointMismatch, match="plan.json' is not a plan of this version; go on with the one that"):
        exit_code(trained(dataset, fold=1, training={"epochs": 1}, resume=True))


def test_a_training_that_has_ended_is_not_resumed(dataset):
    trained(dataset, fold=1, training={"epochs": 1})
    with pytest.raises(UnknownSetting, match="has ended; leave --resume out to train anew"):
        exit_code(trained(dataset, fold=1, resume=True))


def test_a_training_that_cannot_start_touches_nothing(dataset):
    (dataset / "model" / "checkpoints").mkdir(parents=True)
    for name in ("training.csv", "checkpoints/fold-1.0123456789abcdef.safetensors"):
        (dataset / "model" / name).write_text("of an earlier training")
    found = sorted((dataset / "model").rglob("*"))
    with pytest.raises(EmptyCohort, match="fold 7 holds out 0 of 5 cases"):
        exit_code(trained(dataset, fold=7))
    with pytest.raises(UnknownSetting, match="folds '.*gone.csv'"):
        exit_code(trained(dataset, folds=str(dataset / "gone.csv")))
    assert sorted((dataset / "model").rglob("*")) == found


def test_a_label_that_no_training_case_has_ends_the_training_by_name(dataset):
    (dataset / "labels.json").write_text('{"1": "head", "2": "body", "3": "tail", "6": "tip"}')
    (dataset / "folds.csv").write_text("case,subject,fold\np0,a,1\np1,b,0\n")
    with pytest.raises(MissingLabel, match="no reference in the training cases of fold 0 holds label 1 'head'"):
        exit_code(trained(dataset, fold=0))


def test_a_loss_that_is_no_number_ends_the_training_by_name(dataset, monkeypatch):
    monkeypatch.setattr("unet.training.GRADIENT_NORM", float("nan"))
    with pytest.raises(TrainingDiverged, match=r"not a number any more.*train with --precision float32"):
        exit_code(trained(dataset, fold=1))


def test_a_model_that_never_saw_a_mirror_is_not_mirrored(dataset):
    trained(dataset, fold=1, training={"epochs": 1})
    mirrored = Settings(inference=InferenceConfig(mirror=True))
    with (
        pytest.raises(UnknownSetting, match="was trained without mirroring"),
        open_night(dataset, dataset / "model", dataset / "out", mirrored),
    ):
        pass


def test_axes_mirrored_in_training_are_mirrored_when_asked(dataset):
    plan = {**SETTINGS["plan"], "augment": {"mirror_axes": [0]}}
    trained(dataset, fold=1, training={"epochs": 1}, plan=plan)
    assert json.loads((dataset / "model" / "model.json").read_text())["plan"]["augment"]["mirror_axes"] == [0]
    mirrored = Settings(inference=InferenceConfig(mirror=True), pool=PoolConfig(workers=1))
    with open_night(dataset, dataset / "model", dataset / "out", mirrored) as night:
        assert night.settings.inference.mirror
