"""What is begun before a deadline, and what is carried over. Cases are called by the seconds that they take."""

import logging
import os
import time
from datetime import datetime

import pytest
from prefect.logging import disable_run_logger

from flows import deadline
from flows.deadline import carried_over, choose, in_time, seconds_until
from flows.settings import Settings, load_settings
from tasks.report.tables import case_status
from tasks.scan.errors import UnknownSetting
from tasks.scan.records import Case, Geometry, Outcome, Source
from tests.phantoms import affine

GRID = Geometry(shape=(2, 2, 2), affine=tuple(tuple(row) for row in affine().tolist()))


def case(name):
    value = Case(name=str(name), image=Source(format="nifti", files=("scan.nii",)), geometry=GRID)
    return Outcome(name=str(name), case=value, value=value)


def chosen(seconds, left, size=50, *, known=True):
    cases = [case(number) for number in seconds]
    picked = choose(cases, size, {one.name: float(one.name) for one in cases} if known else {}, left)
    return [int(one.name) for one in picked]


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        ("2026-03-02T01:00:00", 5 * 3600),
        ("2026-03-02T05:59:59", 1),
        ("2026-03-02T06:00:00", 24 * 3600),
        ("2026-03-02T23:30:00", 6.5 * 3600),
    ],
)
def test_six_o_clock_is_the_next_one(now, seconds):
    assert seconds_until("06:00", datetime.fromisoformat(now)) == seconds


@pytest.mark.parametrize(
    ("evening", "seconds"), [("2026-03-28T23:30:00", 5.5 * 3600), ("2026-10-24T23:30:00", 7.5 * 3600)]
)
def test_a_clock_that_is_changed_in_the_night_is_counted(evening, seconds, monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        assert seconds_until("06:00", datetime.fromisoformat(evening)) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


def test_how_long_it_takes_is_said_before_the_first_shard_where_that_is_known(monkeypatch, caplog):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    logger = logging.getLogger("night")
    monkeypatch.setattr(deadline, "get_run_logger", lambda: logger)
    with caplog.at_level(logging.INFO):
        next(in_time([case("a"), case("b")], 50, {"a": 600.0, "b": 600.0}, None))
    assert "2 cases to go: about 10 minutes, until " in caplog.text


def test_without_a_deadline_a_shard_is_the_first_cases_in_their_order():
    assert chosen([9, 7, 5, 3], left=float("inf"), size=3) == [9, 7, 5]


def test_only_what_ends_in_time_all_together_is_begun():
    assert chosen([9, 7, 5, 3], left=13) == [9, 3]


def test_a_case_that_alone_takes_too_long_lets_shorter_ones_pass():
    assert chosen([90, 7, 5], left=13) == [7, 5]


def test_a_case_that_takes_exactly_what_is_left_is_begun():
    assert chosen([9], left=9) == [9]


def test_nothing_is_begun_when_nothing_fits():
    assert chosen([9, 7], left=6) == []


def test_a_shard_is_no_larger_than_asked():
    assert chosen([3, 2, 1], left=100, size=2) == [3, 2]


def test_of_cases_of_unknown_length_a_few_are_tried_while_there_is_time():
    assert chosen(range(10), left=1, known=False) == [0, 1, 2, 3]
    assert chosen(range(10), left=0, known=False) == []


def test_the_pace_of_the_night_is_learnt_as_it_goes():
    """Cases of a hundred processor seconds pass in no time: what is expected to take an hour fits into a minute."""
    cases = [case(name) for name in "abcdefgh"]
    expected = dict.fromkeys("abcdefgh", 100.0)
    with disable_run_logger():
        shards = list(in_time(cases, 4, expected, time.monotonic() + 250))
    assert ["".join(one.name for one in shard) for shard in shards] == ["ab", "cdef", "gh"]


def test_what_was_not_begun_is_told_and_not_lost():
    cases = [case("a"), case("b")]
    with disable_run_logger():
        begun = next(in_time(cases, 4, {"a": 5.0, "b": 500.0}, time.monotonic() + 60))
    assert [one.name for one in begun] == ["a"]
    (outcome,) = (carried_over(case, "06:00") for case in cases)
    assert case_status(outcome) == "carried_over"
    assert outcome.problem.message == "case 'b': not begun, because it would not have been done by 06:00"


@pytest.mark.parametrize("clock", ["6:00", "24:00", "06:60", "soon", ""])
def test_what_is_no_time_of_day_is_refused_by_name(clock):
    with pytest.raises(UnknownSetting, match="until is a time like 06:00"):
        load_settings(Settings, None, {"until": clock})
