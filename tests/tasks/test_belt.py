"""Stages side by side: in order, bounded, and never left waiting."""

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks import belt as belt_module
from tasks import pool as pool_module
from tasks.belt import Belt, LineStoppedError, arriving, belts, breaking, finished, hand_on, in_order, weight
from tasks.pool import map_cases, stream_cases
from tasks.scan.records import Outcome, Prediction
from tests import poison
from tests.poison import numbers
from tests.prepared import prepared_from


@dataclass(frozen=True)
class Work:
    """What a stage hands on with a work file."""

    work_file: Path


def test_what_is_put_on_a_belt_arrives_in_order():
    belt: Belt[int] = Belt()
    list(hand_on(numbers(3), belt))
    assert [outcome.value for outcome in arriving(belt)] == [0, 1, 2]
    assert list(arriving(belt)) == []


def test_a_full_belt_stops_the_stage_before_it():
    belt: Belt[int] = Belt()
    sent: list[Outcome[int]] = []
    thread = threading.Thread(target=lambda: sent.extend(hand_on(numbers(20), belt)), daemon=True)
    thread.start()
    time.sleep(0.3)
    assert belt.queue.qsize() == belt_module.LONGEST
    assert len(list(arriving(belt))) == 20
    thread.join()


@pytest.mark.parametrize(("size", "held"), [(1, 16), (260, 6), (900, 2), (5000, 1)])
def test_a_belt_is_the_sooner_full_the_larger_the_work_files_on_it(tmp_path, monkeypatch, size, held):
    """Room for 2,000 bytes is room for 16 cases: one of 260 bytes takes that of 3, and the belt is full at 18."""
    monkeypatch.setattr(belt_module, "LARGEST_BYTES", 2000)
    belt: Belt[Work] = Belt()
    (tmp_path / "work.npy").write_bytes(bytes(size))
    cases = [Outcome(name=f"n{number}", value=Work(tmp_path / "work.npy")) for number in range(20)]
    thread = threading.Thread(target=lambda: list(hand_on(cases, belt)), daemon=True)
    thread.start()
    time.sleep(0.3)
    assert len(belt.queue.queue) == held
    assert list(arriving(belt)) == cases
    thread.join()


def test_what_lies_on_disk_between_two_stages_weighs_what_its_file_does(tmp_path):
    """A file that is gone is for the stage that reads it to name."""
    file = tmp_path / "voxels.npy"
    file.touch()
    os.truncate(file, int(belt_module.LARGEST_BYTES))
    input_ = prepared_from(file, "n", (8, 8, 8))
    answer = Prediction(prepared=input_, logits=file, device="cpu")
    assert [weight(Outcome(name="n", value=value)) for value in (input_, answer, input_.case)] == [16, 16, 1]
    file.unlink()
    assert weight(Outcome(name="n", value=answer)) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_stage_that_breaks_stops_those_before_and_after_it_and_the_run_is_told_why(error):
    """The first stage has more than the belt holds: it would wait for ever for one that takes no more."""

    def broken(line):
        yield next(arriving(line))
        raise error

    def work(outcomes, belt):
        with suppress(LineStoppedError, ZeroDivisionError, SystemExit):
            list(hand_on(outcomes, belt))

    def line():
        with belts(1) as (first,), belts(1, after=first) as (second,):
            stages.append(threading.Thread(target=work, args=(numbers(20), first)))
            stages.append(threading.Thread(target=work, args=(broken(first), second)))
            for stage in stages:
                stage.start()
            list(arriving(second))

    stages: list[threading.Thread] = []
    with pytest.raises(error):
        line()
    for stage in stages:
        stage.join(timeout=5)
    assert [stage.is_alive() for stage in stages] == [False, False]


def test_a_stage_that_waits_is_told_when_the_run_ends():
    waiting = []

    def work():
        with pytest.raises(LineStoppedError):
            list(arriving(waiting[0]))

    def interrupted():
        with belts(2) as (first, _):
            waiting.append(first)
            thread.start()
            raise KeyboardInterrupt

    thread = threading.Thread(target=work)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_stages_that_do_not_end_are_waited_for_once_however_many_belts_the_line_has(monkeypatch):
    monkeypatch.setattr(belt_module, "END_SECONDS", 2.0)

    def interrupted():
        with belts(1) as (whole,), belts(1, after=whole), belts(1, after=whole) as (last,), breaking(last):
            last.stop.at_work.append(None)  # of another stage, which goes on
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert 2.0 <= time.monotonic() - start < 3.9


def test_outcomes_go_back_to_the_order_of_their_cases():
    cases = numbers(4)
    assert in_order(cases[::-1], cases) == cases


def test_three_stages_of_one_pool_pass_all_cases_on_and_one_that_kills_its_process_costs_itself(pool):
    """More cases than belts and processes hold: a stage that waited for another with its processes would never end."""
    first: Belt[int] = Belt()
    second: Belt[int] = Belt()
    results: list[Outcome[int]] = []

    def after(stage, function, line):
        return (outcome for _, outcome in stream_cases(pool, stage, function, line))

    stages = [
        threading.Thread(target=lambda: list(hand_on(after("one", poison.double, numbers(60)), first))),
        threading.Thread(target=lambda: list(hand_on(after("two", poison.die_at_six, first), second))),
        threading.Thread(target=lambda: results.extend(after("three", poison.double, second))),
    ]
    for stage in stages:
        stage.start()
    for stage in stages:
        stage.join(timeout=120)
    assert [stage.is_alive() for stage in stages] == [False, False, False]
    expected = [None if number == 3 else 4 * number for number in range(60)]
    assert [outcome.value for outcome in in_order(results, numbers(60))] == expected
    assert in_order(results, numbers(60))[3].problem.reason == "worker_died"


def test_the_first_stage_that_broke_is_what_is_raised():
    class Ended:
        def __init__(self, outcomes):
            self.outcomes = outcomes

        def result(self):
            if self.outcomes is None:
                raise ZeroDivisionError
            return self.outcomes

    assert finished([Ended([]), Ended(numbers(1))]) == numbers(1)
    with pytest.raises(ZeroDivisionError):
        finished([Ended(None), Ended(numbers(1))])


def test_a_process_of_the_pool_has_one_thread_for_its_numbers_and_no_plugins(pool):
    (found,) = map_cases(pool, "environment", poison.environment, numbers(1))
    assert found.value == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PREFECT_PLUGINS_ENABLED": "false"}


@pytest.mark.parametrize("busy", [True, False])
def test_a_stage_at_work_hears_of_a_case_that_arrives_and_of_a_process_that_another_stage_gives_back(
    pool, monkeypatch, busy
):
    """Both of the pool's processes have something to do, or one: the short case need not wait for the long one."""
    monkeypatch.setattr(pool_module, "CHECK_SECONDS", 60.0)
    done: list[float] = []

    def one_after_the_other(*seconds: float):
        for number in seconds:
            yield Outcome(name=f"{number} s", value=number)
            time.sleep(0.5)

    def work(line: Belt[float], seen: list[float]):
        seen.extend(outcome.value for _, outcome in stream_cases(pool, "doze", poison.doze, line))

    with belts(2) as (own, other):
        threads = [
            threading.Thread(target=work, args=(own, done), daemon=True),
            threading.Thread(target=work, args=(other, []), daemon=True),
            threading.Thread(target=lambda: list(hand_on(one_after_the_other(6.0, 0.1), own)), daemon=True),
            threading.Thread(target=lambda: list(hand_on(one_after_the_other(*[1.5] * busy), other)), daemon=True),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert done == [0.1, 6.0]
