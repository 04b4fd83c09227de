"""Nothing that a header says of a patient leaves a night; and no name of a case, however hostile, harms anything."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
import torch
from nibabel.nifti1 import Nifti1Extension
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings
from pydicom.datadict import DicomDictionary
from pydicom.uid import BasicTextSRStorage

from flows.segment_cohort import segment_cohort
from flows.settings import Settings
from tasks.ingest import IngestConfig
from tasks.model import Model, Plan
from tasks.model.folder import save_model
from tasks.pool import PoolConfig
from tests.phantoms import affine, box, edit_dicom, picture, truncate, write_dicom_series, write_nifti
from unet import UNet, UNetConfig

CANARY, BIRTHDAY, UIDS = "CANARY7391", "19010203", "1.2.826.0.1.7391.1"
SHAPE = (12, 10, 8)
SETTINGS = Settings(pool=PoolConfig(workers=2), ingest=IngestConfig(settle_seconds=0))
TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
NEEDED = {"SpecificCharacterSet", "ImageType", "Modality", "QueryRetrieveLevel"}


@pytest.fixture(autouse=True)
def _quick_flows(local_prefect):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    network = UNetConfig(dimensions=3, out_channels=2, features=(2, 4), normalisation="batch", upsampling="transposed")
    plan = Plan(network=network, spacing_mm=(1.5, 1.5, 1.5), patch=(8, 8, 8), batch_size=2)
    torch.manual_seed(0)
    save_model(Model(plan=plan, labels={1: "head"}, weights_sha256=""), [UNet(network).eval()], folder)
    return folder


def voxels(seed: int = 0) -> np.ndarray:
    return picture(box(SHAPE, (2, 2, 2), (8, 5, 6)), seed)


def plant(file: Path, number: int) -> None:
    """Canaries in every tag of text that a slice may have, in its dates, in private tags, in its UIDs."""
    dataset = pydicom.dcmread(file)
    for tag, (kind, _, _, _, keyword) in DicomDictionary.items():
        if keyword and keyword not in NEEDED and tag >> 16 not in (0, 2, 4, 0x28, 0x7FE0):
            if kind in TEXTS:
                dataset.add_new(tag, kind, CANARY)
            elif kind in ("DA", "DT"):
                dataset.add_new(tag, kind, BIRTHDAY)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", CANARY]
    dataset.private_block(0x1001, CANARY, create=True).add_new(1, "LO", CANARY)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{UIDS}.2", f"{UIDS}.3.{file.parent.name[-1]}"
    dataset.FrameOfReferenceUID, dataset.SOPInstanceUID = f"{UIDS}.4", f"{UIDS}.5.{number}"
    dataset.save_as(file)


def write_planted_series(folder: Path) -> list[Path]:
    files = write_dicom_series(folder, voxels(), affine((1, 1, 3), "LPS", SHAPE))
    for number, file in enumerate(files):
        plant(file, number)
    return files


def called_after_the_patient(files: list[Path]) -> list[Path]:
    """The `files`, as archives name them."""
    return [file.rename(file.with_name(f"{CANARY}_{BIRTHDAY}_{UIDS}.9_{file.name}")) for file in files]


def write_planted_nifti(file: Path) -> Path:
    image = nibabel.load(write_nifti(file, voxels()))
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = CANARY.encode()
    image.header.extensions.append(Nifti1Extension("comment", CANARY.encode()))
    nibabel.save(nibabel.Nifti1Image(voxels(), image.affine, image.header), file)
    return file


@pytest.fixture(scope="module")
def planted(model, tmp_path_factory, local_prefect) -> Path:
    """The output of a night over scans full of canaries: good ones, and some for each way to be refused."""
    folder = tmp_path_factory.mktemp("planted")
    cohort = folder / "in"
    write_planted_series(cohort / "series-1")
    write_planted_series(cohort / "series-2")[3].unlink()
    truncate(write_planted_series(cohort / "series-3")[2], 0.9)
    truncate(write_planted_series(cohort / "series-4")[2], 0.3)
    for file in write_planted_series(cohort / "series-5"):
        edit_dicom(file, ImagePositionPatient=None)
    for file in write_planted_series(cohort / "series-6"):
        edit_dicom(file, PixelSpacing=None)
    for file in write_planted_series(cohort / "series-7"):
        edit_dicom(file, ImageType=["DERIVED", "LOCALIZER", CANARY])
    truncate(called_after_the_patient(write_planted_series(cohort / f"{CANARY}^JANE" / BIRTHDAY / "8"))[2], 0.9)
    for file in called_after_the_patient(write_planted_series(cohort / CANARY / "9")):
        edit_dicom(file, SOPClassUID=BasicTextSRStorage)
    called_after_the_patient(write_planted_series(cohort / f"{CANARY}^JOE" / BIRTHDAY / "0"))
    write_planted_nifti(cohort / "nifti-1.nii.gz")
    truncate(write_planted_nifti(cohort / "nifti-2.nii.gz"), 0.7)
    image = SimpleITK.GetImageFromArray(voxels())
    image.SetMetaData("PatientName", CANARY)
    SimpleITK.WriteImage(image, cohort / "other.nrrd")
    segment_cohort(cohort, model, folder / "out", SETTINGS, return_state=True)
    return folder / "out"


def tell(folder: Path, secrets: tuple[str, ...]) -> list[str]:
    """The files below `folder` that hold, or are called by, one of the `secrets`."""
    needles = [form for secret in secrets for form in (secret.encode(), secret.encode("utf-16-le"))]
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [str(file) for file in files if any(needle in str(file).encode() + content(file) for needle in needles)]


def content(file: Path) -> bytes:
    """The bytes of `file`; of the two records that name the scans' files, and say so, without what those are called."""
    if file.name != "run.json" and not file.name.startswith("headers-"):
        return file.read_bytes()
    return re.sub(rb'"/[^"]*/in/[^"]*"', b"", file.read_bytes())


def test_the_canaries_are_in_the_scans(planted):
    slices = [file.read_bytes() for file in (planted.parent / "in" / "series-1").iterdir()]
    assert all(content.count(CANARY.encode()) > 500 for content in slices)
    assert all(BIRTHDAY.encode() in content and UIDS.encode() in content for content in slices)


def test_the_night_had_good_and_bad_cases(planted):
    status = pd.read_csv(planted / "cases.csv").set_index("case")["status"].value_counts().to_dict()
    assert status == {"segmented": 4, "quarantined": 7}


def test_no_canary_is_in_the_output(planted):
    assert len(list(planted.rglob("*.*"))) > 10
    assert tell(planted, (CANARY, BIRTHDAY, UIDS)) == []


def test_no_canary_is_in_the_prefect_database_in_logs_or_in_the_memory(planted):
    home = get_current_settings().home
    assert tell(home, ("series-2",))  # the case is spoken of there; so a canary would be found
    assert list((home / "segment-cohort").glob("headers-*.json"))
    assert tell(home, (CANARY, BIRTHDAY, UIDS)) == []


HOSTILE = ["../../x", "=cmd()", "<script>alert(1)</script>", "a" * 10_000, "CON", "x\ty", "-rf", "💀", ".", "$(id)"]


@pytest.fixture(scope="module")
def hostile(model, tmp_path_factory, local_prefect) -> Path:
    """The output of a night over cases with hostile names, in the column `case` and in that of a group."""
    folder = tmp_path_factory.mktemp("hostile")
    for number in range(len(HOSTILE)):
        write_nifti(folder / "in" / f"{number}.nii.gz", voxels(number))
    rows = [{"case": name, "image": f"{number}.nii.gz", "site": name} for number, name in enumerate(HOSTILE)]
    pd.DataFrame(rows).to_csv(folder / "in" / "cohort.csv", index=False)
    segment_cohort(folder / "in" / "cohort.csv", model, folder / "a" / "b" / "out", SETTINGS, return_state=True)
    return folder / "a" / "b" / "out"


def test_hostile_names_are_segmented_under_safe_ones(hostile):
    cases = pd.read_csv(hostile / "cases.csv", keep_default_na=False)
    assert list(cases["status"].unique()) == ["segmented"]
    assert len(cases) == cases["case"].nunique() == len(HOSTILE)
    assert cases["case"].str.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}").all()
    masks = {file.name.removesuffix(".nii.gz") for file in (hostile / "segmentations").iterdir()}
    assert masks == set(cases["case"])


def test_hostile_names_write_nothing_outside_the_output(hostile):
    outside = [file for file in hostile.parents[2].rglob("*") if file.is_file() and hostile not in file.parents]
    assert sorted({file.relative_to(hostile.parents[2]).parts[0] for file in outside}) == ["in"]


def test_hostile_names_run_nothing_in_a_browser_or_a_spreadsheet(hostile):
    assert "<script>alert" not in (hostile / "report.html").read_text()
    cells = pd.read_csv(hostile / "cases.csv", keep_default_na=False, dtype=str).to_numpy().ravel()
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == []
