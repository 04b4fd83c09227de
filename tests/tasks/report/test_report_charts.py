import numpy as np
import pandas as pd
import pytest

from tasks.report.charts import bland_altman, dice_strips, round_ticks, volume_strips

LEFT = {1: "left"}


def frame(*rows):
    """Metrics of label 1: name, status, Dice, volume found, volume of the reference."""
    columns = ["case", "status", "dice", "volume_prediction_ml", "volume_reference_ml"]
    return pd.DataFrame(rows, columns=columns).assign(label=1)


def test_a_strip_has_a_point_for_every_case_with_a_dice_and_says_how_many_have_none():
    rows = frame(("A", "scored", 0.85, 1, 1), ("B", "missed", 0.0, 0, 1), ("C", "no_reference", np.nan, 1, np.nan))
    (strip,) = dice_strips(rows, LEFT)
    assert [(point.case, point.x, point.lost) for point in strip.points] == [("A", 85.0, False), ("B", 0.0, True)]
    assert (strip.note, strip.points[1].text, strip.box) == ("2 of 3 cases", "missed", None)


def test_the_box_goes_from_quartile_to_quartile():
    rows = frame(*((str(dice), "scored", dice, 1, 1) for dice in (0.0, 0.2, 0.4, 0.6, 0.8)))
    assert dice_strips(rows, LEFT)[0].box == pytest.approx((20, 40, 60))


def test_without_a_reference_the_strips_are_of_volumes():
    rows = frame(("A", "no_reference", np.nan, 1.0, np.nan), ("B", "no_reference", np.nan, 3.0, np.nan))
    assert dice_strips(rows, LEFT) == []
    assert [point.x for point in volume_strips(rows, LEFT)[0].points] == [0.0, 100.0]


def test_bland_altman_shows_the_difference_over_the_mean_with_its_limits():
    found = (1.0, 2.0, 3.0, 4.0)
    rows = frame(*((f"C{ml}", "scored", 0.9, ml, ml - shift) for ml, shift in zip(found, (1, -1, 1, -1), strict=True)))
    (plane,) = bland_altman(rows, LEFT)  # differences 1, -1, 1, -1: mean 0, sd 1.1547
    assert plane.note == "mean +0 mL, 95 % limits −2.26 to +2.26"
    assert [tick.text for tick in plane.up] == ["-4", "-2", "0", "2", "4"]
    assert [round(point.y, 3) for point in plane.points] == [37.5, 62.5, 37.5, 62.5]
    assert [(line.text, round(line.at, 1)) for line in plane.lines] == [
        ("mean", 50.0),
        ("upper limit", 21.7),
        ("lower limit", 78.3),
    ]


def test_a_missed_structure_is_in_bland_altman_and_an_absent_one_is_not():
    rows = frame(("A", "missed", 0.0, 0.0, 2.0), ("B", "both_empty", np.nan, 0.0, 0.0))
    (plane,) = bland_altman(rows, LEFT)
    assert [(point.case, point.lost) for point in plane.points] == [("A", True)]
    assert bland_altman(rows.tail(1), LEFT) == []


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 0.0, [0.0, 0.25]),
        (5.0, 5.0, [4.0, 6.0]),
        (-0.3, 0.2, [-0.4, -0.2, 0.0, 0.2]),
        (1234.0, 5678.0, [0.0, 2000.0, 4000.0, 6000.0]),
    ],
)
def test_ticks_are_round_and_hold_all_values(low, high, ticks):
    assert round_ticks(low, high) == ticks
