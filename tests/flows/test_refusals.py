"""A run that cannot start leaves all as it was and says why; what an earlier run left is never taken for its own."""

import fcntl
import json
import logging
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.command_line import main
from flows.night import begin, open_night
from flows.output import hold_folder
from flows.settings import Settings
from tasks.model import Model, Plan
from tasks.model.folder import save_model
from tasks.pool import PoolConfig
from tasks.report import read_run, verify_output
from tasks.report.report import FOLDERS
from tasks.scan.errors import UnwritableOutput
from tests.phantoms import box, picture, truncate, write_nifti
from unet import UNet, UNetConfig

SHAPE = (12, 10, 8)
NETWORK = UNetConfig(dimensions=3, out_channels=2, features=(2, 4), normalisation="batch", upsampling="transposed")
LABELS = box(SHAPE, (2, 2, 2), (8, 5, 6))


@pytest.fixture(autouse=True)
def _quick_flows(local_prefect):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@pytest.fixture
def home(tmp_path) -> Path:
    """A folder with a model and a cohort of two scans, one of which cannot be read, with a reference for each."""
    plan = Plan(network=NETWORK, spacing_mm=(1.5, 1.5, 1.5), patch=(8, 8, 8), batch_size=2)
    torch.manual_seed(0)
    save_model(Model(plan=plan, labels={1: "head"}, weights_sha256=""), [UNet(NETWORK).eval()], tmp_path / "model")
    write_nifti(tmp_path / "in" / "a.nii.gz", picture(LABELS))
    truncate(write_nifti(tmp_path / "in" / "bad.nii.gz", picture(LABELS)), 0.01)
    for name in ("a", "bad"):
        write_nifti(tmp_path / "references" / f"{name}.nii.gz", LABELS)
    return tmp_path


def run(home, *flags, cohort="in", output="out") -> int:
    arguments = ["run", home / cohort, "--model", home / "model", "--output", home / output, "--workers", "1", *flags]
    return main([str(argument) for argument in arguments])


def everything(folder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


REFUSED = [
    (lambda _: ("--references", "nowhere"), "UnknownSetting: references 'nowhere' are not a folder"),
    (lambda home: shutil.rmtree(home / "in") or (home / "in").mkdir() or (), "EmptyCohort: '.*in' holds no scan"),
    (lambda _: ("--dask", "tcp://127.0.0.1:9"), "ServiceUnavailable: no Dask scheduler"),
    (lambda _: ("--mirror",), "UnknownSetting: mirror"),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSED)
@pytest.mark.parametrize("before", [(), ("run.json", "segmentations/a.nii.gz", "report.html", ".lock")])
def test_a_run_that_cannot_start_touches_nothing(home, spoil, message, before, capfd, monkeypatch):
    monkeypatch.setattr("tasks.pool.CONNECT_SECONDS", 0.5)
    for name in before:
        (home / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "out" / name).write_text("of an earlier night")
    flags = spoil(home)
    found = everything(home)
    assert run(home, *flags) == 2
    if before:
        found[str(home / "out" / ".lock")] = (home / "out" / ".lock").read_bytes()
    assert everything(home) == found
    printed = capfd.readouterr()
    assert re.search(message, printed.err)
    assert "page:" not in printed.out


def test_a_refusal_inside_a_task_is_logged_without_a_traceback(home, caplog, monkeypatch):
    logger = logging.getLogger("prefect.task_runs")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    shutil.rmtree(home / "in")
    (home / "in").mkdir()
    assert run(home) == 2
    records = [record for record in caplog.records if "EmptyCohort" in record.getMessage()]
    assert any("Task run failed" in record.getMessage() for record in records)
    assert [record.exc_info for record in records if record.exc_info] == []


def file_at(name):
    return lambda out: (out / name).write_text("a file")


def folder_at(name):
    return lambda out: (out / name).mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (file_at("segmentations"), r"Not a directory \('.*out/segmentations.*'\); choose a folder that can be written"),
        (file_at("pictures"), "Not a directory"),
        (file_at(".work"), r"File exists \('.*out/.work'\)"),
        (folder_at("metrics.csv"), r"Is a directory \('.*out/metrics.csv'\)"),
        (folder_at("run.json"), "Is a directory"),
        (folder_at(".lock"), "Is a directory"),
    ],
)
def test_an_output_with_something_in_the_way_is_refused_before_the_first_case(home, spoil, message, capfd):
    (home / "out").mkdir()
    spoil(home / "out")
    found = everything(home)
    assert run(home) == 2
    assert everything(home) == found
    assert re.search(f"UnwritableOutput: output '.*out': {message}", capfd.readouterr().err)


PARTS = ["segmentations", "pictures", "dicom", ".work", ".lock", "log.jsonl", "ledger.sqlite", "ledger.sqlite-wal"]


@pytest.mark.parametrize("part", [*PARTS, "metrics.csv", "run.json"])
def test_a_link_where_a_run_would_write_is_refused_and_what_it_leads_to_is_left_alone(home, part, capfd):
    """Whoever may write to the output could have the run cut short, or empty, what is somebody else's."""
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "holiday.png").write_text("mine")
    (home / "out").mkdir()
    (home / "out" / part).symlink_to(home / "elsewhere" / ("" if part in FOLDERS else "holiday.png"))
    found = everything(home)
    assert run(home) == 2
    assert everything(home) == found
    said = capfd.readouterr().err
    assert f"is a link, which a run does not follow ('{home / 'out' / part}'); choose a folder" in said


def test_a_link_in_the_place_of_a_mask_or_of_what_is_not_whole_yet_is_replaced_not_followed(home):
    mine = home / "mine"
    mine.write_text("mine")
    masks = home / "out" / "segmentations"
    masks.mkdir(parents=True)
    for link in (
        masks / "a.nii.gz",
        masks / f".a.nii.gz.{os.getpid()}.part",
        home / "out" / f".run.json.{os.getpid()}.part",
    ):
        link.symlink_to(mine)
    assert run(home) == 1
    assert mine.read_text() == "mine"
    assert not (masks / "a.nii.gz").is_symlink()
    assert verify_output(home / "out") == []


@pytest.mark.parametrize("record", ["run.json", "run.previous.json"])
def test_an_output_of_a_newer_version_is_refused_and_left_as_it_is(home, record, capfd):
    (home / "out").mkdir()
    (home / "out" / record).write_text('{"format": 99, "versions": {"segment-cohort": "9.0"}}')
    found = everything(home)
    assert run(home) == 2
    assert everything(home) == found
    assert "UnreadableRun: " in (said := capfd.readouterr().err)
    assert "written by a newer version of this program (9.0, format 99, this one reads up to 1)" in said


@pytest.mark.parametrize(
    ("flags", "cohort", "message"),
    [
        ((), "out", "is where the cohort would be read from; choose another folder"),
        ((), "out/segmentations", "is where the cohort would be read from"),
        (("--references", "out/segmentations"), "in", "is where the references would be read from"),
    ],
)
def test_a_run_does_not_read_what_it_writes(home, flags, cohort, message, capfd, monkeypatch):
    monkeypatch.chdir(home)
    write_nifti(home / "out" / "segmentations" / "a.nii.gz", picture(LABELS))
    assert run(home, *flags, cohort=cohort) == 2
    assert re.search(f"UnwritableOutput: .*{message}", capfd.readouterr().err)


def test_a_lock_that_was_taken_away_between_opening_and_locking_is_made_anew(tmp_path, monkeypatch):
    (tmp_path / ".lock").touch()
    flock = fcntl.flock

    def take_away_and_lock(*arguments):
        monkeypatch.setattr(fcntl, "flock", flock)
        (tmp_path / ".lock").unlink()
        flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", take_away_and_lock)
    with hold_folder(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
        with pytest.raises(UnwritableOutput, match=f"in use by process {os.getpid()}"), hold_folder(tmp_path):
            pass


def test_while_a_run_works_there_is_no_record_of_an_earlier_one(home):
    (home / "out").mkdir()
    (home / "out" / "run.json").write_text("of an earlier night")
    settings = Settings(pool=PoolConfig(workers=1))
    with open_night(home / "in", home / "model", home / "out", settings) as night:
        assert (home / "out" / "run.json").exists()
        begin(night)
        assert not (home / "out" / "run.json").exists()
    assert (home / "out" / "run.previous.json").read_text() == "of an earlier night"


def test_a_mask_of_a_case_that_left_the_cohort_is_put_aside_and_a_foreign_one_is_named(home):
    write_nifti(home / "out" / "segmentations" / "gone.nii.gz", LABELS)
    (home / "out" / "segmentations" / ".gone.nii.gz.1.part").write_text("half of a mask")
    assert run(home) == 1
    masks = home / "out" / "segmentations"
    assert {path.name for path in masks.iterdir()} == {"a.nii.gz", "gone.nii.gz.old"}
    assert verify_output(home / "out") == []
    write_nifti(masks / "late.nii.gz", LABELS)
    assert verify_output(home / "out") == ["segmentations/late.nii.gz: not of this run"]


def test_a_case_refused_at_ingest_is_explained_with_its_files(home, capsys):
    (home / "in" / "strange\udcff.txt").write_text("not a scan")
    assert run(home, "--references", home / "references") == 1
    printed = capsys.readouterr().out
    assert f"table:  {home / 'out' / 'metrics.csv'}" in printed
    record = read_run(home / "out").cases["bad"]
    assert record.input == (str(home / "in" / "bad.nii.gz"),)
    assert record.reference == (str(home / "references" / "bad.nii.gz"),)
    assert "strange\udcff.txt" in json.loads((home / "out" / "run.json").read_text())["set_aside"][0]["path"]
    for name in ("a", "bad"):
        assert main(["explain", str(home / "out"), name]) == 0
        printed = capsys.readouterr().out
        assert re.search(f"input +{home}/in/{name}.nii.gz\nreference +{home}/references/{name}.nii.gz", printed)


def test_a_run_that_crashes_shows_no_report_of_an_earlier_one(home, capsys):
    assert run(home) == 1
    assert "page:" in capsys.readouterr().out
    (home / "out" / f".report.html.{os.getpid()}.part").mkdir()  # where the page would be written before it is whole
    assert run(home) == 1
    assert "page:" not in capsys.readouterr().out
