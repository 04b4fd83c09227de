"""The command as a user types it: what it prints, and its exit codes."""

import re
import subprocess
import sys
import time

import pandas as pd
import pytest
from prefect.settings import PREFECT_HOME, temporary_settings

from flows.command_line import main, parser
from tasks.report.tables import write_tables
from tests.enhanced import write_segmentation
from tests.phantoms import affine, box, picture, truncate, write_dicom_series, write_nifti
from tests.tasks.report.cases import score, segmented

SHAPE = (8, 9, 10)
GRID = affine((1, 1, 2), shape=SHAPE)
COMMANDS = ("demo", "ingest", "train", "run", "evaluate", "compare", "explain", "verify", "up", "down")


def code_of(*argv: object) -> int:
    return main([str(argument) for argument in argv])


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory):
    with temporary_settings({PREFECT_HOME: tmp_path_factory.mktemp("home")}):
        yield


@pytest.fixture
def cohort(tmp_path):
    """A scan that can be read, one that cannot, and a file that is none."""
    labels = box(SHAPE, (1, 1, 1), (5, 6, 7))
    write_nifti(tmp_path / "in" / "good.nii.gz", picture(labels), GRID)
    truncate(write_nifti(tmp_path / "in" / "bad.nii", picture(labels), GRID), 0.01)
    (tmp_path / "in" / "notes.txt").write_text("x")
    return tmp_path / "in"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"segment-cohort {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run", "what an earlier run left in it is kept where nothing changed"),
        ("run", "exit codes: 0 every case segmented or unchanged; 1 some case quarantined, failed or carried over"),
        ("train", "exit codes: 0 the model is written, and no case needs attention; 1 some case could not be learnt"),
    ],
)
def test_a_command_says_what_its_end_and_its_output_mean(command, said, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert said in " ".join(capsys.readouterr().out.split())


def test_help_is_quick_because_it_loads_no_stage():
    start = time.monotonic()
    command = [sys.executable, "-X", "importtime", "-m", "flows.command_line", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "prefect", "distributed", "pandas", "nibabel"}
    assert "COMMAND" in done.stdout
    assert time.monotonic() - start < 30


def test_a_command_that_does_not_exist_ends_with_two(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["segment"])
    assert ended.value.code == 2
    assert "invalid choice: 'segment'" in capsys.readouterr().err


def test_ingest_has_a_line_for_every_case_and_every_file_set_aside(cohort, capsys):
    assert code_of("ingest", cohort, "--workers", 1) == 1
    printed = capsys.readouterr().out
    assert "good  nifti           8x9x10              1x1x2\n" in printed
    assert "bad   unreadable_image: " in printed
    assert "set aside: " in printed
    assert "2 cases, 1 with a problem" in printed


def test_ingest_writes_its_table(cohort, tmp_path):
    assert code_of("ingest", cohort, "--workers", 1, "--output", tmp_path / "table.csv") == 1
    table = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    assert table["status"].tolist() == ["quarantined", "found", "set_aside"]


def test_a_table_that_cannot_be_written_is_named(cohort, tmp_path, capsys):
    assert code_of("ingest", cohort, "--workers", 1, "--output", tmp_path / "gone" / "table.csv") == 2
    assert "UnwritableOutput" in capsys.readouterr().err


def test_a_file_name_that_is_not_utf8_is_printed(tmp_path):
    write_nifti(tmp_path / "good.nii.gz", picture(box(SHAPE, (1, 1, 1), (5, 6, 7))), GRID)
    (tmp_path / "strange\udcff.txt").write_text("x")
    command = [sys.executable, "-m", "flows.command_line", "ingest", str(tmp_path), "--workers", "1"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert "strange\\udcff.txt: no format of a scan" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ingest", "gone"), "EmptyCohort: 'gone' is neither a folder of scans nor a CSV manifest"),
        (("ingest", ".", "--workers", "-1"), "UnknownSetting: pool.*workers must be 0"),
        (("ingest", ".", "--dask", "garbage"), "UnknownSetting: pool.*'garbage' is no address like"),
        (("train", ".", "--fold", "1"), "fold needs folds"),
        (("train", ".", "--folds", "f.csv", "--fold", "1", "--all"), "exclude each other"),
        (("train", ".", "--minutes", "0"), "must be above 0"),
        (("train", ".", "--minutes", "nan"), "must be above 0"),
        (("run", ".", "--model", "m", "--output", "o", "--settings", "gone.toml"), "settings 'gone.toml'"),
        (("train", ".", "--spacing", "0", "1", "1"), "plan: .*spacing_mm, patch, batch_size and maps must be above 0"),
        (("verify", "gone"), "UnreadableRun: 'gone' holds no finished run"),
        (("explain", "gone", "C07"), "UnreadableRun"),
        (("compare", "gone", "gone"), "UnreadableTable: .*gone'.*needed: the metrics.csv of a run"),
        (
            ("compare", "gone", "gone", "--gate", "-1"),
            "UnknownSetting: --gate -1.0: needed: a loss of Dice from 0 to 1",
        ),
    ],
)
def test_what_cannot_start_ends_with_two_and_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert code_of(*arguments) == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed)
    assert printed.count("\n") == 1


def test_a_setting_that_does_not_exist_is_named(tmp_path, capsys):
    (tmp_path / "s.toml").write_text("[inference]\ncolour = 'red'\n")
    assert code_of("run", tmp_path, "--model", "m", "--output", "o", "--settings", tmp_path / "s.toml") == 2
    assert "inference.colour: Unexpected keyword argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"pool = 3", "pool: Input should be a dictionary"),
        (b"shard = '\xff'", "s.toml': .*; it must be TOML in UTF-8"),
        (b"shard = ", "s.toml': .*; it must be TOML in UTF-8"),
    ],
)
def test_settings_that_cannot_be_understood_are_refused_by_name(content, message, tmp_path, capsys):
    (tmp_path / "s.toml").write_bytes(content)
    arguments = ("run", tmp_path, "--model", "m", "--output", "o", "--settings", tmp_path / "s.toml")
    assert code_of(*arguments, "--workers", "2") == 2
    assert re.search(message, capsys.readouterr().err)


def test_flags_win_over_the_settings_file(tmp_path):
    from_file = parser().parse_args(["run", "c", "--model", "m", "--output", "o", "--workers", "3"])
    assert from_file.workers == 3
    assert from_file.device is None


def test_evaluate_compares_what_both_folders_hold(tmp_path, capsys):
    one, other = box(SHAPE, (1, 1, 1), (3, 3, 3)), box(SHAPE, (1, 1, 1), (3, 3, 5))
    for name, prediction, reference in (("a", one, one), ("b", one, other), ("c", one, None), ("d", None, one)):
        for folder, mask in (("p", prediction), ("r", reference)):
            if mask is not None:
                write_nifti(tmp_path / folder / f"{name}.nii.gz", mask, GRID)
    write_nifti(tmp_path / "p" / "e.nii.gz", one, GRID)
    write_nifti(tmp_path / "r" / "e.nii.gz", one, affine((1, 1, 3), shape=SHAPE))
    table = tmp_path / "metrics.csv"
    assert code_of("evaluate", tmp_path / "p", tmp_path / "r", "--output", table, "--workers", 1) == 1
    metrics = pd.read_csv(table).set_index("case")
    assert metrics["status"].to_dict() == {
        "a": "scored", "b": "scored", "c": "no_reference", "d": "not_segmented", "e": "reference_refused",
    }  # fmt: skip
    assert metrics["dice"].to_dict()["a"] == 1
    assert metrics["dice"].to_dict()["b"] == pytest.approx(2 / 3, rel=1e-4)
    printed = capsys.readouterr().out
    assert "3 of 5 cases compared" in printed
    assert "d: case 'd': a reference alone" in printed


def test_evaluate_summarises_by_group(tmp_path, capsys):
    one, other = box(SHAPE, (1, 1, 1), (3, 3, 3)), box(SHAPE, (1, 1, 1), (3, 3, 5))
    for name, prediction in (("a", one), ("b", other)):
        write_nifti(tmp_path / "p" / f"{name}.nii.gz", prediction, GRID)
        write_nifti(tmp_path / "r" / f"{name}.nii.gz", one, GRID)
    (tmp_path / "groups.csv").write_text("case,site\na,north\nb,south\n")
    folders = (tmp_path / "p", tmp_path / "r", "--output", tmp_path / "metrics.csv", "--workers", 1)
    assert code_of("evaluate", *folders, "--groups", tmp_path / "groups.csv") == 0
    found = pd.read_csv(tmp_path / "summary_groups.csv").set_index("value")["dice_mean"].to_dict()
    assert found == {"north": 1.0, "south": pytest.approx(2 / 3, rel=1e-4)}
    assert code_of("evaluate", *folders, "--groups", tmp_path / "gone.csv") == 2
    assert "UnreadableTable" in capsys.readouterr().err


def test_evaluate_takes_the_tolerance_of_a_label_from_the_settings(tmp_path, capsys):
    for folder in ("p", "r"):
        write_nifti(tmp_path / folder / "a.nii.gz", box(SHAPE, (1, 1, 1), (3, 3, 3)), GRID)
    (tmp_path / "s.toml").write_text("[evaluation.nsd_tolerance_mm_of]\n1 = 0.25\n")
    folders = (tmp_path / "p", tmp_path / "r", "--output", tmp_path / "metrics.csv", "--workers", 1)
    assert code_of("evaluate", *folders, "--settings", tmp_path / "s.toml") == 0
    assert pd.read_csv(tmp_path / "metrics.csv")["nsd_tolerance_mm"].item() == 0.25
    (tmp_path / "s.toml").write_text("[evaluation.nsd_tolerance_mm_of]\n2 = 0.25\n")
    assert code_of("evaluate", *folders, "--settings", tmp_path / "s.toml") == 2
    assert "no label is called '2'; there are 1" in capsys.readouterr().err


def test_compare_closes_the_gate_when_the_cohort_got_worse(tmp_path, capsys):
    scores = {"first": {"a": 0.9, "b": 0.8}, "second": {"a": 0.9, "b": 0.7}}
    for run, dices in scores.items():
        write_tables([segmented(name, score(1, dice)) for name, dice in dices.items()], {1: "left"}, tmp_path / run)
    first, second, output = tmp_path / "first", tmp_path / "second", tmp_path / "out"
    assert code_of("compare", first, second, "--output", output) == 0
    assert "left: Dice -0.0500" in capsys.readouterr().out
    assert code_of("compare", first, second, "--output", output, "--gate", 0.04) == 1
    assert "gate: left (1) lost 0.0500 Dice in the mean, 0.04 is allowed" in capsys.readouterr().out
    assert code_of("compare", first, second, "--output", output, "--gate", 0.05) == 0
    assert code_of("compare", second, first, "--output", output, "--gate", 0) == 0
    assert {path.name for path in output.iterdir()} == {"comparison.csv", "comparison_cases.csv", "comparison.html"}


def test_evaluate_compares_label_maps_with_dicom_segmentations(tmp_path, capsys):
    one = box(SHAPE, (1, 1, 1), (3, 3, 3))
    series = write_dicom_series(tmp_path / "series", picture(one), GRID)
    write_nifti(tmp_path / "p" / "a.nii.gz", one, GRID)
    (tmp_path / "r").mkdir()
    for name in ("a", "b"):
        write_segmentation(tmp_path / "r" / f"{name}.dcm", series, {1: one})
    assert code_of("evaluate", tmp_path / "p", tmp_path / "r", "--output", tmp_path / "m.csv", "--workers", 1) == 1
    metrics = pd.read_csv(tmp_path / "m.csv").set_index("case")
    assert metrics["status"].to_dict() == {"a": "scored", "b": "not_segmented"}
    assert metrics["dice"].to_dict()["a"] == 1
    assert "b: case 'b': a reference alone" in capsys.readouterr().out
