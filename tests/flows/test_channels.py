"""Scans of two channels, from a data set in nnU-Net's layout to masks: a real training, a real night."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.segment_cohort import segment_cohort
from flows.settings import Settings
from flows.train_unet import train_unet
from tasks.model.folder import read_model
from tasks.pool import PoolConfig
from tests.phantoms import box, picture, write_nifti

SHAPE = (12, 10, 8)
LABELS = box(SHAPE, (2, 2, 2), (8, 8, 6))
NOTHING = np.zeros(SHAPE, np.uint8)


@pytest.fixture(autouse=True)
def _quick_flows(local_prefect):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def write_case(folder: Path, name: str, seed: int) -> None:
    """Noise as the first channel; only the second shows what is to be found."""
    write_nifti(folder / f"{name}_0000.nii.gz", picture(NOTHING, seed))
    write_nifti(folder / f"{name}_0001.nii.gz", picture(LABELS, seed + 100))


def night(home: Path, run: Settings) -> pd.DataFrame:
    segment_cohort(home / "night", home / "model", home / "out", run, return_state=True)
    return pd.read_csv(home / "out" / "cases.csv", keep_default_na=False).set_index("case")


def test_a_network_of_two_channels_finds_what_only_the_second_shows(tmp_path):
    description = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "cube": 1}}
    for folder in (tmp_path / "data", tmp_path / "night"):
        folder.mkdir()
        (folder / "dataset.json").write_text(json.dumps({**description, "file_ending": ".nii.gz"}))
    for number in range(4):
        write_case(tmp_path / "data" / "imagesTr", f"p{number}", number)
        write_nifti(tmp_path / "data" / "labelsTr" / f"p{number}.nii.gz", LABELS)
    settings = {"training": {"epochs": 40}, "plan": {"maps": 4, "batch_size": 2}, "run": {"pool": {"workers": 1}}}
    train_unet(tmp_path / "data", tmp_path / "model", settings, return_state=True)
    model = read_model(tmp_path / "model")
    assert (model.plan.network.in_channels, model.plan.windows) == (2, (None, None))
    assert len(model.fingerprint["further_foreground_means"]) == 1

    write_case(tmp_path / "night" / "imagesTs", "tonight", 50)
    write_nifti(tmp_path / "night" / "imagesTs" / "half_0000.nii.gz", picture(LABELS))
    write_nifti(tmp_path / "references" / "tonight.nii.gz", LABELS)
    run = Settings(references=tmp_path / "references", pool=PoolConfig(workers=1))
    cases = night(tmp_path, run)
    assert cases["reason"].to_dict() == {"half": "channel_mismatch", "tonight": ""}
    assert pd.read_csv(tmp_path / "out" / "metrics.csv").set_index("case").loc["tonight", "dice"] > 0.8

    moved = box(SHAPE, (3, 2, 2), (9, 8, 6))
    write_nifti(tmp_path / "night" / "imagesTs" / "tonight_0001.nii.gz", picture(moved, 150))
    again = night(tmp_path, run).loc["tonight"]
    assert again["status"] == "segmented"
    assert again["output_sha256"] != cases.loc["tonight", "output_sha256"]
    assert night(tmp_path, run).loc["tonight", "status"] == "unchanged"
