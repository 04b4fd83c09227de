import math

import numpy as np
import pytest

from tasks.report.summary import describe, mean_interval, quantile, summary_frame
from tasks.report.tables import metrics_frame
from tests.tasks.report.cases import LABELS, broken, score, segmented


def test_four_values_are_described_by_the_numbers_one_gets_on_paper():
    found = describe(np.array([0.2, 0.4, 0.6, 0.8]))
    assert found["n_valid"] == 4
    assert found["mean"] == pytest.approx(0.5)
    assert found["sd"] == pytest.approx(math.sqrt(0.2 / 3))
    assert [found["q25"], found["median"], found["q75"]] == pytest.approx([0.35, 0.5, 0.65])


def test_one_infinite_distance_makes_the_mean_infinite_and_leaves_the_median():
    found = describe(np.array([1.0, 2.0, math.inf]))
    assert (found["mean"], found["median"]) == (math.inf, 2.0)
    assert found["q75"] == math.inf
    assert math.isnan(found["sd"])


def test_nothing_is_described_by_nothing():
    found = describe(np.array([]))
    assert found.pop("n_valid") == 0
    assert all(math.isnan(value) for value in found.values())


def test_a_single_value_has_a_mean_but_neither_spread_nor_interval():
    found = describe(np.array([0.9]))
    assert (found["mean"], found["median"]) == (0.9, 0.9)
    assert math.isnan(found["sd"])
    assert math.isnan(found["ci95_low"])


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide_on_each_side():
    values = np.arange(100) / 100  # mean 0.495, sd 0.29, so 0.029 per standard error
    assert mean_interval(values) == pytest.approx((0.438, 0.552), abs=0.004)


def test_the_interval_is_the_same_every_time():
    values = np.sqrt(np.arange(50))
    assert mean_interval(values) == mean_interval(values)


def test_the_quantile_between_two_infinite_values_is_infinite():
    assert quantile(np.array([1.0, math.inf, math.inf]), 0.75) == math.inf


def test_an_undefined_dice_is_not_counted_and_a_missed_structure_counts_as_zero():
    cases = [
        segmented("A", score(1, 0.8), score(2, math.nan, "both_empty")),
        segmented("B", score(1, 0.0, "missed"), score(2, 0.5)),
    ]
    left, right = summary_frame(metrics_frame(cases, LABELS), LABELS).to_dict("records")
    assert (left["dice_n_valid"], left["dice_mean"], left["hd95_mm_mean"]) == (2, 0.4, math.inf)
    assert (right["dice_n_valid"], right["dice_mean"], right["hd95_mm_mean"]) == (1, 0.5, 2.0)


@pytest.mark.parametrize(
    "status", ["scored", "both_empty", "false_positive", "missed", "no_reference", "reference_refused"]
)
def test_each_status_has_its_own_count(status):
    cases = [segmented("A", score(1, 0.8, status)), broken("B")]
    row = summary_frame(metrics_frame(cases, {1: "left"}), {1: "left"}).to_dict("records")[0]
    counts = {name: count for name, count in row.items() if name.startswith("n_") and count}
    assert counts == {"n_cases": 2, f"n_{status}": 1, "n_not_segmented": 1}


def test_an_infinite_value_is_infinite_in_every_resample_that_drew_it():
    low, high = mean_interval(np.array([1.0, 2.0, 3.0, math.inf]))  # a third of the resamples do not draw it
    assert high == math.inf
    assert 1.0 <= low <= 2.0
