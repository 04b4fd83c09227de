"""Two small runs whose differences can be counted on paper."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from tasks.compare import Comparison, compare_runs, losses
from tasks.compare.differences import CASE_COLUMNS, HIGHER_IS_BETTER, LABEL_COLUMNS, holm, wilcoxon_p
from tasks.report.tables import write_tables
from tasks.scan.errors import UnreadableTable
from tests.tasks.report.cases import LABELS, broken, score, segmented


def compare(folder, first, second, labels=LABELS) -> Comparison:
    for name, cases in (("first", first), ("second", second)):
        write_tables(cases, labels, folder / name)
    return compare_runs(folder / "first", folder / "second")


def run(**dices: float) -> list:
    """A run with one label; `missed` is Dice 0, NaN a structure that is rightly absent."""
    return [
        segmented(name, score(1, dice, "both_empty" if math.isnan(dice) else "scored")) for name, dice in dices.items()
    ]


def dice_row(found: Comparison) -> pd.Series:
    return found.labels[found.labels["metric"] == "dice"].iloc[0]


def test_every_case_is_better_worse_same_new_or_gone(tmp_path):
    found = compare(tmp_path, run(a=0.5, b=0.5, c=0.5, d=0.5), run(a=0.6, b=0.3, c=0.5, e=0.9), {1: "left"})
    assert found.cases.set_index("case")["change"].to_dict() == {
        "a": "better", "b": "worse", "c": "same", "d": "gone", "e": "new",
    }  # fmt: skip
    row = dice_row(found)
    assert [row[f"n_{change}"] for change in ("pairs", "better", "worse", "same", "new", "gone")] == [3, 1, 1, 1, 1, 1]
    assert (row["first_mean"], row["second_mean"]) == pytest.approx((0.5, 1.4 / 3))
    assert (row["difference_mean"], row["difference_median"]) == pytest.approx((-0.1 / 3, 0.0))


def test_the_columns_are_those_of_the_data_dictionary(tmp_path):
    found = compare(tmp_path, run(a=0.5), run(a=0.5), {1: "left"})
    assert (list(found.labels), list(found.cases)) == (list(LABEL_COLUMNS), list(CASE_COLUMNS))
    assert list(found.labels["metric"]) == list(HIGHER_IS_BETTER)


def test_a_shorter_distance_is_better(tmp_path):
    near, far = segmented("a", score(1, 0.5)), segmented("a", score(1, 0.0, "missed"))
    found = compare(tmp_path, [far], [near], {1: "left"}).labels.set_index("metric")
    assert found.loc["hd95_mm", ["n_better", "n_worse", "difference_mean"]].to_list() == [1, 0, -math.inf]
    assert np.isnan(found.loc["hd95_mm", "difference_ci95_low"])


def test_two_missed_structures_are_the_same(tmp_path):
    missed = [segmented("a", score(1, 0.0, "missed"))]
    assert set(compare(tmp_path, missed, missed, {1: "left"}).labels["n_same"]) == {1}


def test_a_false_alarm_where_there_was_none_is_worse(tmp_path):
    alarm = [segmented("a", score(1, 0.0, "false_positive"))]
    found = compare(tmp_path, run(a=math.nan), alarm, {1: "left"})
    assert found.cases[["change", "difference"]].to_numpy().tolist() == [["worse", -1.0]]
    assert losses(found) == {"left (1)": 1.0}


def test_a_structure_rightly_absent_in_both_runs_is_not_compared(tmp_path):
    assert compare(tmp_path, run(a=math.nan), run(a=math.nan), {1: "left"}).cases.empty


def test_a_case_that_is_no_longer_segmented_is_gone_and_counts_as_zero_at_the_gate(tmp_path):
    found = compare(tmp_path, run(a=0.8, b=0.6), [*run(a=0.8), broken("b")], {1: "left"})
    assert dice_row(found)["difference_mean"] == 0
    assert found.cases.set_index("case")["change"]["b"] == "gone"
    assert losses(found) == {"left (1)": 0.3}


def test_a_new_case_does_not_open_the_gate(tmp_path):
    assert losses(compare(tmp_path, run(a=0.8), run(a=0.7, b=1.0), {1: "left"})) == {"left (1)": pytest.approx(0.1)}


def test_a_gate_before_which_nothing_was_scored_is_refused(tmp_path):
    with pytest.raises(UnreadableTable, match="the first run has no Dice at all"):
        losses(compare(tmp_path, [broken("a")], run(a=0.5), {1: "left"}))


def test_the_interval_and_the_test_are_of_the_pairs(tmp_path):
    gains = {f"c{i:02d}": 0.01 * (i + 1) for i in range(20)}
    found = compare(tmp_path, run(**dict.fromkeys(gains, 0.5)), run(**{n: 0.5 + g for n, g in gains.items()}), {1: "l"})
    row = dice_row(found)
    assert row["p_wilcoxon"] == pytest.approx(2 / 2**20)  # all 20 signs alike: exact, two-sided
    assert row["difference_mean"] == pytest.approx(0.105)
    interval = (row["difference_ci95_low"], row["difference_ci95_high"])
    assert interval == pytest.approx((0.079, 0.131), abs=0.003)  # 1.96 standard errors of 0.0592 / √20 on each side


def test_labels_are_corrected_together_and_metrics_apart(tmp_path):
    first = [segmented(f"c{i}", score(1, 0.5), score(2, 0.5)) for i in range(6)]
    second = [segmented(f"c{i}", score(1, 0.6 + i / 100), score(2, 0.5)) for i in range(6)]
    found = compare(tmp_path, first, second).labels.set_index(["metric", "label"])
    assert found.loc[("dice", 1), ["p_wilcoxon", "p_holm"]].to_list() == [1 / 32, 1 / 16]
    assert found.loc[("hd95_mm", 1), "p_holm"] == 1


def test_holm_multiplies_by_what_is_left_and_never_falls():
    corrected = holm(np.array([0.04, math.nan, 0.01, 0.5, 0.039]))
    assert corrected == pytest.approx([0.117, math.nan, 0.04, 0.5, 0.117], nan_ok=True)


def test_an_infinite_difference_has_the_highest_rank():
    with_infinity = wilcoxon_p(np.array([1.0, -2.0, 3.0, math.inf, 5.0]))
    assert with_infinity == wilcoxon(np.array([1.0, -2.0, 3.0, 6.0, 5.0])).pvalue


def test_nothing_that_differs_has_p_one_and_nothing_at_all_has_none():
    assert wilcoxon_p(np.zeros(4)) == 1.0
    assert math.isnan(wilcoxon_p(np.empty(0)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,label\na,1\n", "lacks the columns name, status, dice"),
        ("", "No columns to parse"),
        (f"case,label,name,status,{','.join(HIGHER_IS_BETTER)}\n" + "a,1,l,scored,1,1,1,0,0\n" * 2, "case 'a' twice"),
    ],
)
def test_a_table_that_is_none_of_ours_is_refused(tmp_path, text, message):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(UnreadableTable, match=message):
        compare_runs(tmp_path, tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UnreadableTable, match="needed: the metrics.csv of a run, or its folder"):
        compare_runs(tmp_path, tmp_path)
