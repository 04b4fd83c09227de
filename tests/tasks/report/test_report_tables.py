import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tasks.compare.differences import CASE_COLUMNS, LABEL_COLUMNS
from tasks.report.delta import DELTA_COLUMNS
from tasks.report.groups import GROUPS_COLUMNS
from tasks.report.summary import METRICS, SCORE_STATUSES, STATISTICS, SUMMARY_COLUMNS
from tasks.report.tables import CASES_COLUMNS, METRICS_COLUMNS, write_tables
from tasks.report.trends import TRENDS_COLUMNS
from tasks.scan.records import Outcome, Problem
from tests.tasks.report.cases import LABELS, broken, score, segmented

RULES = ("gone", "carried_over", "failed_again", "failed", "new", "fixed", "worse", "unchanged", "changed")
"""What a case is since the night before, in the order in which it is asked."""
DICTIONARY = Path(__file__).parents[3] / "docs" / "metrics.md"


def lines(path):
    return path.read_bytes().decode("utf-8").split("\n")


def test_a_row_of_metrics_holds_six_digits_inf_and_nothing_where_undefined(tmp_path):
    cases = [
        segmented("A", score(1, 2 / 3), score(2, 0.0, "missed")),
        segmented("B", score(1, math.nan, "no_reference")),
    ]
    write_tables(cases, LABELS, tmp_path)
    assert lines(tmp_path / "metrics.csv")[:4] == [
        "case,label,name,status,dice,jaccard,hd95_mm,assd_mm,nsd,nsd_tolerance_mm,volume_reference_ml,volume_prediction_ml,"
        "volume_error,components_reference,components_prediction,"
        "border_voxels,boundary_entropy,dice_expected,agreement",
        "A,1,left,scored,0.666667,0.5,2,1,0.666667,1,3.5,1234.57,351.734,1,3,,,,",
        "A,2,right,missed,0,0,inf,inf,0,1,3.5,1234.57,351.734,1,3,,,,",
        "B,1,left,no_reference,,,,,,1,3.5,1234.57,351.734,1,3,,,,",
    ]


def test_a_case_without_scores_has_a_row_for_every_label(tmp_path):
    write_tables([broken("C07")], LABELS, tmp_path)
    assert lines(tmp_path / "metrics.csv")[1:] == [
        "C07,1,left,not_segmented,,,,,,,,,,,,,,,",
        "C07,2,right,not_segmented,,,,,,,,,,,,,,,",
        "",
    ]


def test_a_label_that_the_scores_forgot_is_not_forgotten_by_the_table(tmp_path):
    write_tables([segmented("A", score(2, 0.5))], LABELS, tmp_path)
    assert list(pd.read_csv(tmp_path / "metrics.csv")["status"]) == ["not_segmented", "scored"]


def test_a_row_of_cases_says_what_went_in_what_came_out_and_what_it_cost(tmp_path):
    write_tables([segmented("A", score(1, 0.5))], LABELS, tmp_path)
    row = f"A,segmented,,,,,1,,2,,,300,1x1x4,181x217x60,1=12.345;2=3.21,,{'a' * 64},{'b' * 64}"
    assert lines(tmp_path / "cases.csv")[1] == row


def test_a_refused_reference_leaves_the_mask_and_says_why(tmp_path):
    problem = Problem(stage="evaluate", status="quarantined", reason="grid_mismatch", message="found", remedy="do")
    refused = replace(segmented("A", score(1, math.nan, "reference_refused")), problem=problem)
    write_tables([refused], {1: "left"}, tmp_path)
    row = pd.read_csv(tmp_path / "cases.csv").loc[0]
    assert list(row[:6]) == ["A", "quarantined", "evaluate", "grid_mismatch", "found", "do"]
    assert row["output_sha256"] == "b" * 64
    assert pd.read_csv(tmp_path / "metrics.csv")["status"].item() == "reference_refused"


def test_a_case_that_nobody_accounted_for_is_our_failure(tmp_path):
    write_tables([Outcome(name="lost")], LABELS, tmp_path)
    row = pd.read_csv(tmp_path / "cases.csv").loc[0]
    assert (row["case"], row["status"], row["reason"]) == ("lost", "failed", "unaccounted")


def test_the_order_in_which_cases_finished_does_not_change_a_byte(tmp_path):
    cases = [segmented("B", score(2, 0.4), score(1, 0.5)), broken("A"), segmented("C", score(1, 0.7), score(2, 0.9))]
    write_tables(cases, LABELS, tmp_path / "one")
    write_tables(cases[::-1], LABELS, tmp_path / "two")
    for name in ("metrics.csv", "summary.csv", "cases.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert list(pd.read_csv(tmp_path / "one" / "metrics.csv")["case"]) == ["A", "A", "B", "B", "C", "C"]


def test_metrics_open_in_pandas_as_numbers_and_without_an_index_column(tmp_path):
    write_tables([segmented("A", score(1, 0.5)), broken("B")], {1: "left"}, tmp_path)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table.columns[0] == "case"
    assert [table[column].dtype.kind for column in ("label", "dice", "hd95_mm")] == ["i", "f", "f"]
    assert table["dice"].sum() == 0.5


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd()", "'=cmd()"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=cmd()", "'=cmd()"),
        ("＝cmd()", "'＝cmd()"),
        ("two\nlines", "two lines"),
        ("a=b", "a=b"),
    ],
)
def test_a_text_that_a_spreadsheet_would_run_is_disarmed(tmp_path, text, cell):
    write_tables([broken("A", message=text)], LABELS, tmp_path)
    assert pd.read_csv(tmp_path / "cases.csv")["message"].item() == cell


def test_a_file_name_that_is_not_utf_8_does_not_cost_the_tables(tmp_path):
    write_tables([broken("A", message="cannot read 'scan\udcff.nii'")], LABELS, tmp_path)
    assert pd.read_csv(tmp_path / "cases.csv")["message"].item() == r"cannot read 'scan\udcff.nii'"


def test_no_case_at_all_makes_tables_with_headers(tmp_path):
    write_tables([], LABELS, tmp_path)
    assert [len(lines(tmp_path / name)) for name in ("metrics.csv", "summary.csv", "cases.csv")] == [2, 4, 2]


def test_nothing_temporary_stays_behind(tmp_path):
    write_tables([broken("A")], LABELS, tmp_path)
    names = {path.name for path in tmp_path.iterdir()} - {"metrics.parquet"}
    assert names == {"cases.csv", "metrics.csv", "summary.csv"}


def documented(heading):
    section = DICTIONARY.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("metrics.csv", METRICS_COLUMNS),
        ("cases.csv", CASES_COLUMNS),
        ("trends.csv", TRENDS_COLUMNS),
        ("delta.csv", DELTA_COLUMNS),
        ("Changes since the night before", RULES),
    ],
)
def test_the_data_dictionary_lists_the_columns_in_their_order(heading, columns):
    assert documented(heading) == list(columns)


@pytest.mark.parametrize(
    ("heading", "columns"), [("comparison.csv", LABEL_COLUMNS), ("comparison_cases.csv", CASE_COLUMNS)]
)
def test_the_data_dictionary_lists_the_columns_of_a_comparison(heading, columns):
    assert documented(heading) == list(columns)


def test_the_data_dictionary_lists_the_columns_of_the_groups():
    assert [*documented("summary_groups.csv"), *SUMMARY_COLUMNS] == list(GROUPS_COLUMNS)


def test_the_data_dictionary_lists_the_columns_of_the_summary():
    counts, statistics = documented("summary.csv"), documented("Statistics of a metric")
    assert statistics == [f"METRIC_{statistic}" for statistic in STATISTICS]
    columns = [name.replace("METRIC", metric) for metric in METRICS for name in statistics]
    assert [*counts, *columns] == list(SUMMARY_COLUMNS)


def test_the_data_dictionary_lists_every_status():
    assert documented("Status of a case and label") == list(SCORE_STATUSES)
