"""A night over what scanners write: enhanced objects, a tilted series, segmentations as references."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.segment_cohort import segment_cohort
from flows.settings import Settings
from tasks.export import ExportConfig
from tasks.ingest import IngestConfig
from tasks.model import Model, Plan
from tasks.model.folder import save_model
from tasks.pool import PoolConfig
from tasks.report import verify_output
from tests.enhanced import write_enhanced, write_segmentation
from tests.phantoms import affine, box, picture, write_dicom_series
from unet import UNet, UNetConfig

SHAPE = (12, 10, 8)
LABELS = box(SHAPE, (2, 2, 2), (8, 5, 6))
GRID = affine((1, 1, 2), "LPS", SHAPE)
NETWORK = UNetConfig(dimensions=3, out_channels=2, features=(2, 4), normalisation="batch", upsampling="transposed")


@pytest.fixture(scope="module")
def night(tmp_path_factory, local_prefect) -> Path:
    """The output of one night, with the tilt sheared out."""
    folder = tmp_path_factory.mktemp("dicom")
    incoming, references = folder / "incoming", folder / "references"
    references.mkdir()
    kinds = [{"EffectiveEchoTime": 4.9}, {"EffectiveEchoTime": 7.4}]
    (incoming / "echoes").mkdir(parents=True)
    write_enhanced(incoming / "echoes" / "a.dcm", [picture(LABELS), picture(LABELS, seed=1)], GRID, kinds)
    tilted = GRID.copy()
    tilted[:3, 2] += 0.5 * tilted[:3, 1]
    write_dicom_series(incoming / "tilted", picture(LABELS), tilted, "tilted")
    own = write_dicom_series(incoming / "own", picture(LABELS), GRID, "own")
    write_segmentation(references / "of-own.dcm", own, {1: LABELS})
    write_dicom_series(incoming / "foreign", picture(LABELS), GRID, "foreign")
    write_segmentation(references / "foreign.dcm", own, {1: LABELS})
    plan = Plan(network=NETWORK, spacing_mm=(1.5, 1.5, 1.5), patch=(8, 8, 8), batch_size=2)
    torch.manual_seed(0)
    (folder / "model").mkdir()
    network = UNet(NETWORK).eval()
    with torch.no_grad():
        list(network.parameters())[-1][1] += 9  # an untrained network that finds its label everywhere
    save_model(Model(plan=plan, labels={1: "liver"}, weights_sha256=""), [network], folder / "model")
    run(folder)
    return folder / "out"


def run(folder: Path) -> None:
    settings = Settings(
        references=folder / "references",
        ingest=IngestConfig(tilt="shear"),
        export=ExportConfig(dicom_seg=True),
        pool=PoolConfig(workers=2),
    )
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        segment_cohort(folder / "incoming", folder / "model", folder / "out", settings, return_state=True)


def rows(night: Path) -> pd.DataFrame:
    return pd.read_csv(night / "cases.csv", keep_default_na=False).set_index("case")


def test_each_echo_of_an_object_has_its_row_and_its_mask(night: Path):
    cases = rows(night)
    echoes = [name for name in cases.index if name.startswith("echoes-")]
    assert cases.loc[echoes, "status"].tolist() == ["segmented", "segmented"]
    assert cases.loc[echoes, "shape"].tolist() == ["12x10x8", "12x10x8"]
    assert all((night / "segmentations" / f"{name}.nii.gz").exists() for name in echoes)


def test_the_mask_of_a_tilted_series_lies_on_the_upright_grid_and_its_row_says_so(night: Path):
    row = rows(night).loc["tilted"]
    assert row["status"] == "segmented"
    said = "gantry tilt of 14.0° sheared out: the mask lies on the upright grid, not on the scan's slices"
    assert said in row["flags"]
    assert row["shape"] == "12x14x8"
    mask = nibabel.load(night / "segmentations" / "tilted.nii.gz")
    assert mask.shape == (12, 14, 8)
    np.testing.assert_allclose(nibabel.affines.voxel_sizes(mask.affine), (1, 1, 2), atol=1e-5)


def test_a_segmentation_of_the_scans_series_is_its_reference(night: Path):
    scores = pd.read_csv(night / "metrics.csv").set_index("case")
    assert scores.loc["own", "volume_reference_ml"] == pytest.approx(LABELS.sum() * 2 / 1000)
    assert rows(night).loc["own", "status"] == "segmented"


def test_a_segmentation_of_another_series_under_the_scans_name_is_refused_and_the_mask_stays(night: Path):
    row = rows(night).loc["foreign"]
    assert (row["status"], row["stage"], row["reason"]) == ("quarantined", "evaluate", "foreign_reference")
    assert (night / "segmentations" / "foreign.nii.gz").exists()


def test_the_archive_gets_a_segmentation_of_every_series_that_was_not_sheared(night: Path):
    masks = {file.name.removesuffix(".nii.gz"): nibabel.load(file) for file in (night / "segmentations").iterdir()}
    found = {name for name, mask in masks.items() if np.asarray(mask.dataobj).any()}
    assert "foreign" in found  # its reference was refused, its mask was not
    assert {file.stem for file in (night / "dicom").iterdir()} == found - {"tilted"}
    assert verify_output(night) == []


def test_an_exported_segmentation_that_is_gone_is_made_again_and_nothing_is_segmented_again(night: Path):
    file, mask = night / "dicom" / "own.dcm", night / "segmentations" / "own.nii.gz"
    uid, written = pydicom.dcmread(file).SOPInstanceUID, mask.stat().st_mtime_ns
    file.unlink()
    run(night.parent)
    assert pydicom.dcmread(file).SOPInstanceUID == uid
    assert mask.stat().st_mtime_ns == written
    assert rows(night).loc["tilted", "status"] == "unchanged"
    assert verify_output(night) == []
