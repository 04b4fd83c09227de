"""The time of a run by stage, in numbers that can be added up by eye."""

import pytest

from tasks.report.line import line_times
from tasks.scan.records import Cost, Outcome


def took(stage: str, began: float, seconds: float) -> Cost:
    return Cost(stage=stage, seconds=seconds, peak_memory_mb=1, began=began)


def test_stages_side_by_side_are_summed_by_stage_and_timed_together():
    first = (took("ingest", 100, 9), took("preprocess", 110, 2), took("infer", 112, 4), took("evaluate", 116, 1))
    second = (took("preprocess", 110, 3), took("infer", 116, 3), took("evaluate", 119, 1))
    found = line_times([Outcome(name="a", costs=first), Outcome(name="b", costs=second)], since=100, clock_moved=0)
    assert found["seconds_by_stage"] == {"preprocess": 5, "infer": 7, "evaluate": 2, "all_side_by_side": 10}
    assert found["network_busy"] == pytest.approx(0.7)


def test_what_an_earlier_run_took_does_not_count():
    assert line_times([Outcome(name="a", costs=(took("infer", 50, 4),))], since=100, clock_moved=0) == {}
    before = Outcome(name="a", costs=(took("infer", 150, 4),), unchanged=True)
    scored_again = Outcome(name="b", costs=(took("infer", 50, 4), took("evaluate", 100, 2)))
    found = line_times([before, scored_again], since=100, clock_moved=0)
    assert found == {"seconds_by_stage": {"evaluate": 2, "all_side_by_side": 2}, "network_busy": 0}


@pytest.mark.parametrize("moved", [-3600, 3600])
def test_a_clock_that_was_set_within_the_night_loses_no_case_and_invents_no_share(moved):
    costs = (took("preprocess", 5000, 2), took("infer", 5002 + moved, 4))
    assert line_times([Outcome(name="a", costs=costs)], 4999, moved) == {
        "seconds_by_stage": {"preprocess": 2, "infer": 4}
    }


def test_a_run_without_a_case_has_no_times():
    assert line_times([], since=100, clock_moved=0) == {}


def test_the_network_is_busy_once_however_many_cases_it_has_in_hand():
    outcomes = [Outcome(name=name, costs=(took("infer", at, 4),)) for name, at in (("a", 100), ("b", 102), ("c", 108))]
    found = line_times([*outcomes, Outcome(name="d", costs=(took("evaluate", 112, 4),))], since=100, clock_moved=0)
    assert found["seconds_by_stage"] == {"infer": 12, "evaluate": 4, "all_side_by_side": 16}
    assert found["network_busy"] == pytest.approx(10 / 16, abs=0.001)
