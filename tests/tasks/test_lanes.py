"""Small cases pass side by side, a large one alone, and nothing goes on when the run has ended."""

import threading
import time

import pytest

from tasks.belt import Belt, LineStoppedError
from tasks.lanes import side_by_side
from tasks.scan.records import Outcome


def cases(*names: str) -> list[Outcome[str]]:
    return [Outcome(name=name, value=name) for name in names]


def names(outcomes) -> list[str]:
    return sorted(outcome.name for outcome in outcomes)


def never(case) -> bool:
    return False


def test_two_small_cases_are_in_hand_at_once():
    both = threading.Barrier(2, timeout=10)

    def work(case):
        both.wait()  # BrokenBarrierError, if one were alone
        return case

    assert names(side_by_side(work, cases("a", "b", "c", "d"), 2, never)) == ["a", "b", "c", "d"]


def test_a_large_case_has_no_other_beside_it():
    in_hand: list[str] = []
    beside: list[int] = []

    def work(case):
        in_hand.append(case.name)
        time.sleep(0.02)
        if case.name == "large":
            beside.append(len(in_hand))
        in_hand.remove(case.name)
        return case

    done = side_by_side(work, cases("a", "large", "b", "c", "large", "d"), 3, lambda case: case.name == "large")
    assert names(done) == ["a", "b", "c", "d", "large", "large"]
    assert beside == [1, 1]


def test_with_one_lane_cases_keep_their_order():
    assert [case.name for case in side_by_side(lambda case: case, cases("c", "a", "b"), 1, never)] == ["c", "a", "b"]


def test_a_line_that_is_stopped_ends_the_lanes():
    belt: Belt[str] = Belt()
    belt.queue.put(Outcome(name="a", value="a"))
    before = threading.active_count()
    done = side_by_side(lambda case: case, belt, 2, never)
    assert next(done).name == "a"
    belt.stop.event.set()
    with pytest.raises(LineStoppedError):
        next(done)
    assert threading.active_count() == before


def test_whoever_takes_no_more_ends_the_lanes():
    before = threading.active_count()
    done = side_by_side(lambda case: case, cases("a", "b", "c", "d", "e", "f", "g"), 2, never)
    next(done)
    done.close()
    assert threading.active_count() == before


def test_what_a_lane_raises_is_raised_and_no_case_is_lost_in_silence():
    def work(case):
        raise ZeroDivisionError(case.name)

    with pytest.raises(ZeroDivisionError):
        list(side_by_side(work, cases("a", "b", "c"), 2, never))
