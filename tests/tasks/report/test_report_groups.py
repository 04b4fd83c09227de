import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.ingest import Found
from tasks.report.groups import GROUPS_COLUMNS, groups_frame, own_groups, read_groups, write_groups, write_own_groups
from tasks.report.tables import metrics_frame
from tasks.scan.errors import UnreadableTable
from tasks.scan.records import Case, Source
from tests.tasks.report.cases import GRID, LABELS, broken, score, segmented

CASES = [
    segmented("A", score(1, 0.8), score(2, 0.5)),
    segmented("B", score(1, 0.4), score(2, 0.0, "missed")),
    segmented("C", score(1, 0.6), score(2, 0.7)),
    broken("D"),
]


def groups_csv(folder, text: str):
    (folder / "groups.csv").write_text(text, encoding="utf-8")
    return folder / "groups.csv"


def test_every_group_has_a_row_per_label_and_nobody_is_left_out(tmp_path):
    groups = read_groups(groups_csv(tmp_path, "case,site,scanner\nA,north,07\nB,north,\nC,south,07\nelsewhere,x,y\n"))
    found = groups_frame(metrics_frame(CASES, LABELS), LABELS, groups)
    rows = found[found["label"] == 1].set_index(["column", "value"])
    assert list(found.columns) == list(GROUPS_COLUMNS)
    assert rows["n_cases"].to_dict() == {
        ("scanner", ""): 2, ("scanner", "07"): 2, ("site", ""): 1, ("site", "north"): 2, ("site", "south"): 1,
    }  # fmt: skip
    assert rows["dice_mean"].to_dict()["site", "north"] == pytest.approx(0.6)
    assert np.isnan(rows["dice_mean"].to_dict()["site", ""])


def test_a_missed_structure_counts_in_its_group():
    groups = pd.DataFrame({"site": ["north", "north"]}, index=["A", "B"])
    found = groups_frame(metrics_frame(CASES, LABELS), LABELS, groups).set_index(["value", "label"])
    assert found.loc[("north", 2), ["n_missed", "dice_mean"]].to_list() == [1, 0.25]


def test_the_order_of_the_cases_does_not_change_a_byte(tmp_path):
    groups = read_groups(groups_csv(tmp_path, "case,site\nC,south\nA,north\nB,north\n"))
    write_groups(CASES, LABELS, groups, tmp_path / "one.csv")
    write_groups(CASES[::-1], LABELS, groups.iloc[::-1], tmp_path / "two.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,site\nA,x\n", "has the columns name, site; needed: case, and one or more others"),
        ("case\nA\n", "has the columns case; needed: case, and one or more others"),
        ("case,site\nA,x\nA,y\n", "has the case 'A' twice"),
        ("", "No columns to parse"),
        ("case,site\nA,x\nB,y,z,z\n", "Expected 2 fields in line 3"),
    ],
)
def test_a_table_of_groups_that_is_none_is_refused(tmp_path, text, message):
    with pytest.raises(UnreadableTable, match=re.escape(message)):
        read_groups(groups_csv(tmp_path, text))


def test_a_table_of_groups_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UnreadableTable, match=r"No such file.*needed: a CSV with a column case"):
        read_groups(tmp_path / "gone.csv")


SCAN = Source(format="nifti", files=(Path("scan.nii"),))


def grouped(name, **groups):
    """A case of which a manifest says that."""
    case = Case(name=name, image=SCAN, geometry=GRID, groups=groups)
    return segmented(name, score(1, 0.5), case=case)


def test_what_a_manifest_says_of_the_cases_groups_them_and_what_tells_them_apart_does_not():
    cases = [grouped("A", site="x", subject="1"), grouped("B", site="x", subject="2"), grouped("C", site="y")]
    assert own_groups(cases).to_dict() == {"site": {"A": "x", "B": "x", "C": "y"}}


def test_of_a_column_with_more_than_fifty_values_there_is_no_summary():
    cases = [grouped(f"{subject}-{side}", subject=str(subject)) for subject in range(51) for side in "LR"]
    assert list(own_groups(cases).columns) == []
    assert list(own_groups(cases[:100]).columns) == ["subject"]


def test_a_case_that_could_not_be_read_is_in_its_group(tmp_path):
    lost = replace(broken("B"), found=Found(name="B", image=SCAN, groups={"site": "x"}))
    table = write_own_groups([grouped("A", site="x"), lost], LABELS, tmp_path)
    assert table[table["label"] == 1][["column", "value", "n_cases", "n_not_segmented"]].values.tolist() == [
        ["site", "x", 2, 1]
    ]
    assert (tmp_path / "summary_groups.csv").is_file()


def test_without_groups_the_summary_of_an_earlier_run_goes_away(tmp_path):
    (tmp_path / "summary_groups.csv").touch()
    write_own_groups([segmented("A", score(1, 0.5))], LABELS, tmp_path)
    assert not (tmp_path / "summary_groups.csv").exists()
