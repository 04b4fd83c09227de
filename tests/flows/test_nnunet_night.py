"""A night with a model of nnU-Net: masks through the whole line, and a second night that has nothing to do."""

import json

import pandas as pd
import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.segment_cohort import segment_cohort
from flows.settings import Settings
from tasks.infer import InferenceConfig
from tasks.pool import PoolConfig
from tests.nnunet import checkpoint, save, weights, write_nnunet
from tests.phantoms import affine, box, picture, write_nifti

SHAPE = (10, 14, 9)


@pytest.fixture(autouse=True)
def _quick_flows(local_prefect):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def test_a_folder_of_nnunet_segments_a_cohort_and_the_next_night_knows_it_by_its_checkpoints(tmp_path):
    for name, axes in (("a", "LPS"), ("b", "PIR")):
        voxels = picture(box(SHAPE, (2, 2, 2), (8, 8, 6)))
        write_nifti(tmp_path / "in" / f"{name}.nii.gz", voxels, affine((1.0, 1.4, 4.0), axes, SHAPE))
    model = write_nnunet(tmp_path / "model")
    settings = Settings(pool=PoolConfig(workers=1), inference=InferenceConfig(device="cpu", mirror=True))

    def night() -> dict[str, str]:
        segment_cohort(tmp_path / "in", model, tmp_path / "out", settings, return_state=True)
        return pd.read_csv(tmp_path / "out" / "cases.csv").set_index("case")["status"].to_dict()

    assert night() == {"a": "segmented", "b": "segmented"}
    first = json.loads((tmp_path / "out" / "run.json").read_text())["model_sha256"]
    assert night() == {"a": "unchanged", "b": "unchanged"}
    save(model, 0, checkpoint(weights(seed=5), "3d_fullres"))
    assert night() == {"a": "segmented", "b": "segmented"}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["model_sha256"] != first
