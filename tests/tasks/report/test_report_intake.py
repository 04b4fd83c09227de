"""The table of `segment-cohort ingest`: a row for whatever was found."""

from pathlib import Path

import pandas as pd
import pytest

from tasks.ingest import Found, Intake, SetAside
from tasks.report.intake import INTAKE_COLUMNS, intake_lines, write_intake
from tasks.scan.errors import printable
from tasks.scan.records import Case, Geometry, Outcome, Problem, Source

GRID = Geometry(shape=(4, 5, 6), affine=((1, 0, 0, 0), (0, 2, 0, 0), (0, 0, 3, 0), (0, 0, 0, 1)))
REFUSED = Found(name="b", image=Source(format="dicom", files=(Path("/in/b/1.dcm"), Path("/in/b/2.dcm"))))
PROBLEM = Problem(
    stage="ingest", status="quarantined", reason="too_large", message="case 'b': too much", remedy="=less()"
)


@pytest.fixture
def intake() -> Intake:
    case = Case(
        name="a",
        image=Source(format="nifti", files=(Path("/in/a.nii"),)),
        geometry=GRID,
        warnings=("odd", "old"),
        groups={"site": "Calgary", "status": "mine"},
    )
    return Intake(
        cases=(Outcome(name="a", case=case, value=case), Outcome(name="b", problem=PROBLEM, found=REFUSED)),
        set_aside=(SetAside(path=Path("/in/x\x1b[2J\udcff.zip"), reason="an archive: unpack it"),),
    )


def test_the_table_has_a_row_for_each_case_and_each_file_set_aside(intake, tmp_path):
    write_intake(intake, tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv", keep_default_na=False, dtype=str)
    assert list(table.columns) == [*INTAKE_COLUMNS, "site"]
    good, bad, other = table.to_dict("records")
    assert (good["case"], good["status"], good["shape"], good["spacing_mm"]) == ("a", "found", "4x5x6", "1x2x3")
    assert (good["flags"], good["path"], good["site"]) == ("odd; old", "/in/a.nii", "Calgary")
    assert (bad["case"], bad["status"], bad["reason"], bad["remedy"]) == ("b", "quarantined", "too_large", "'=less()")
    assert (bad["files"], bad["path"]) == ("2", "/in/b/1.dcm")
    assert (other["case"], other["status"], other["reason"]) == ("", "set_aside", "archive")
    assert other["path"] == "/in/x\\x1b[2J\\udcff.zip"


def test_for_people_there_is_a_line_each_and_their_sums(intake):
    _, good, bad, other, sums = intake_lines(intake)
    assert good.split() == ["a", "nifti", "4x5x6", "1x2x3", "odd;", "old"]
    assert bad == "b  too_large: too much; =less()"
    assert other == "set aside: /in/x\\x1b[2J\\udcff.zip: an archive: unpack it"
    assert sums == "2 cases, 1 with a problem; 1 files set aside"


def test_what_a_terminal_cannot_show_is_escaped():
    assert printable("a\x1b[31m\udcff\nMüller 💀") == "a\\x1b[31m\\udcff\\nMüller 💀"
