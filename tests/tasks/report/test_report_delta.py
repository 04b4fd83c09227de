"""One case for each way to differ from the night before."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from tasks.report.delta import previous_name, put_aside, say_delta, write_delta
from tasks.report.page import Beside, write_page
from tasks.report.tables import write_tables
from tasks.scan.records import Problem
from tests.tasks.report.cases import LABELS, broken, score, segmented


def case(name, left=0.9, right=0.8, mask="b", scan="a"):
    """A case with these Dice of the two labels; `mask` and `scan` stand for the bytes of these files."""
    one = segmented(name, score(1, left), score(2, right))
    found = replace(one.value.segmentation, mask_sha256=mask * 64, input_sha256=scan * 64)
    return replace(one, value=replace(one.value, segmentation=found))


def waiting(name):
    problem = Problem(stage="preprocess", status="carried_over", reason="deadline", message="late", remedy="wait")
    return replace(broken(name), problem=problem)


def night(output, *cases, day=1, whole=True, worse_dice=0.01):
    """The tables of a run over `cases`; its record too, unless it was killed."""
    put_aside(output)
    write_tables(cases, LABELS, output)
    delta = write_delta(output, worse_dice)
    if whole:
        (output / "run.json").write_text(f'{{"finished": "2026-11-{day:02d}T02:00:00+00:00"}}')
    return delta


def changes(delta):
    return dict(zip(delta.table["case"], delta.table["change"], strict=True))


@pytest.mark.parametrize(
    ("before", "tonight", "change"),
    [
        (case("A"), case("A"), "unchanged"),
        (case("A"), replace(case("A"), unchanged=True), "unchanged"),
        (case("A"), case("A", mask="c"), "changed"),
        (case("A"), case("A", scan="c"), "changed"),  # the answer to another scan, though it is the same
        (case("A"), replace(case("A", scan="c"), unchanged=True), "unchanged"),  # the same scan in other bytes
        (case("A"), case("A", left=0.95), "changed"),
        (case("A"), case("A", left=0.895), "changed"),  # it fell by less than 0.01
        (case("A"), case("A", left=0.88), "worse"),
        (case("A"), case("A", left=0.99, right=0.7), "worse"),  # one label gained, the other lost
        (case("A"), broken("A"), "failed"),
        (broken("A"), broken("A"), "failed_again"),
        (broken("A"), case("A"), "fixed"),
        (waiting("A"), broken("A"), "failed"),
        (waiting("A"), case("A"), "fixed"),
        (case("A"), waiting("A"), "carried_over"),
        (case("B"), broken("A"), "failed"),
        (case("B"), case("A"), "new"),
    ],
)
def test_every_way_to_differ_has_its_name(tmp_path, before, tonight, change):
    night(tmp_path, before)
    assert changes(night(tmp_path, tonight))["A"] == change


def test_how_far_a_dice_may_fall_is_a_setting(tmp_path):
    night(tmp_path, case("A"), case("B"))
    found = night(tmp_path, case("A", left=0.88), case("B", left=0.85), worse_dice=0.04)
    assert changes(found) == {"A": "changed", "B": "worse"}


def test_a_case_that_left_the_cohort_is_gone(tmp_path):
    night(tmp_path, case("A"), case("B"))
    assert changes(night(tmp_path, case("A"))) == {"A": "unchanged", "B": "gone"}


def test_a_structure_found_where_both_lacked_it_is_worse(tmp_path):
    empty, alarm = score(1, float("nan"), "both_empty"), score(1, 0.0, "false_positive")
    night(tmp_path, segmented("A", empty, score(2, 0.8)))
    row = night(tmp_path, segmented("A", alarm, score(2, 0.8))).table.iloc[0]
    assert (row["change"], row["label"], row["dice_before"], row["dice"]) == ("worse", "1", 1.0, 0.0)


def test_the_table_names_the_label_that_lost_most_and_what_failed_comes_first(tmp_path):
    night(tmp_path, case("A"), case("B"), case("C"), day=1)
    night(tmp_path, case("A"), case("B", left=0.5, right=0.7), broken("C"), case("D"), day=2)
    assert (tmp_path / "delta.csv").read_text().splitlines() == [
        "case,change,status_before,status,reason,label,name,dice_before,dice,difference,volume_before_ml,volume_ml",
        "C,failed,segmented,quarantined,missing_slice,,,,,,,",
        "B,worse,segmented,segmented,,1,left,0.9,0.5,-0.4,1234.57,1234.57",
        "D,new,,segmented,,,,,,,,",
        "A,unchanged,segmented,segmented,,1,left,0.9,0.9,0,1234.57,1234.57",
    ]


def test_a_line_counts_and_names_what_failed_or_is_worse(tmp_path):
    first = night(tmp_path, case("A"), case("B"), *(case(f"C{number}") for number in range(4)), day=1)
    assert say_delta(first, names=True) == (
        "the first night: 0 failed, 0 worse, 0 fixed, 6 new, 0 changed, 0 unchanged"
    )
    second = night(tmp_path, case("A"), case("B", left=0.5), *(broken(f"C{number}") for number in range(4)), day=2)
    assert say_delta(second, names=True) == (
        "since 2026-11-01T02:00:00+00:00: 4 failed (C0: missing_slice, C1: missing_slice, C2: missing_slice, 1 more), "
        "1 worse (B: left 0.900 → 0.500), 0 fixed, 0 new, 0 changed, 1 unchanged"
    )
    assert "C0" not in say_delta(second, names=False)


def test_a_run_that_was_killed_while_it_wrote_costs_no_comparison(tmp_path):
    night(tmp_path, case("A"), day=1)
    night(tmp_path, case("A", left=0.5), day=2, whole=False)
    delta = night(tmp_path, case("A", left=0.5), day=3)
    assert (changes(delta), delta.since) == ({"A": "worse"}, "2026-11-01T02:00:00+00:00")


@pytest.mark.parametrize("damaged", [b"", b"a,b\n1,2\n", b"\xff\xfe", b"case\nA\nA\n"])
def test_tables_of_the_night_before_that_cannot_be_read_are_none(tmp_path, damaged):
    night(tmp_path, case("A"))
    for name in ("cases.csv", "metrics.csv", "run.json"):
        (tmp_path / name).write_bytes(damaged)
    assert changes(night(tmp_path, case("B")))["B"] == "new"


def test_what_is_put_aside_are_the_record_and_the_tables_and_they_are_the_former_bytes(tmp_path):
    night(tmp_path, case("A"))
    before = {name: (tmp_path / name).read_bytes() for name in ("run.json", "cases.csv", "metrics.csv")}
    put_aside(tmp_path)
    assert {name: (tmp_path / previous_name(name)).read_bytes() for name in before} == before
    assert not (tmp_path / "run.json").exists()


def test_a_table_of_many_cases_has_a_row_for_each(tmp_path):
    cases = [case(f"C{number:03d}") for number in range(200)]
    night(tmp_path, *cases)
    night(tmp_path, *cases)
    assert pd.read_csv(tmp_path / "delta.csv")["change"].value_counts().to_dict() == {"unchanged": 200}


def test_the_page_says_what_changed_and_leads_to_it(tmp_path):
    night(tmp_path, case("A"), case("B"), case("G"))
    tonight = [case("A"), case("B", left=0.5)]
    delta = night(tmp_path, *tonight, day=2)
    write_page(tonight, LABELS, {}, tmp_path, Beside(delta=delta))
    page = (tmp_path / "report.html").read_text()
    section = page[page.index('id="delta"') : page.index('id="run"')]
    assert '<a href="#c1">B</a></th><td class="text"><span class="badge worse">worse</span>' in section
    assert "<td>0.900</td><td>0.500</td>" in section
    assert "<th>G</th>" in section  # it is gone: there is nothing to lead to
    assert ">A<" not in section  # unchanged


def test_a_column_that_the_version_before_did_not_write_changes_no_case(tmp_path):
    night(tmp_path, case("A"), case("B"))
    for name in ("metrics.csv", "cases.csv"):
        table = pd.read_csv(tmp_path / name, dtype=str, keep_default_na=False)
        table.drop(columns=["volume_error", "flags"], errors="ignore").to_csv(tmp_path / name, index=False)
    assert changes(night(tmp_path, case("A"), case("B", left=0.95), day=2)) == {"A": "unchanged", "B": "changed"}


@pytest.mark.parametrize("finished", ["\x1b[31mred", "yesterday", 3, None, ["x"]])
def test_a_record_that_says_no_time_is_not_repeated(tmp_path, finished):
    night(tmp_path, case("A"))
    (tmp_path / "run.json").write_text(json.dumps({"finished": finished}))
    assert night(tmp_path, case("A")).since == ""
