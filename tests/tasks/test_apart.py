"""Whoever asks a process apart goes on, whatever becomes of that process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from tasks import apart as apart_module
from tasks.apart import Apart, DiedError, OverdueError, ask, end
from tests import poison

SECONDS = 60.0


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    """A process that two may ask at once."""
    asked = Apart(lines=2)
    yield asked
    end(asked)


def test_the_answer_comes_from_another_process_which_stays(apart):
    first, second = (ask(apart, SECONDS, poison.process_id, 0) for _ in range(2))
    assert first == second != os.getpid()


def test_what_is_raised_there_is_raised_here_and_costs_no_process(apart):
    before = ask(apart, SECONDS, poison.process_id, 0)
    with pytest.raises(ZeroDivisionError):
        ask(apart, SECONDS, poison.break_at_one, 1)
    assert ask(apart, SECONDS, poison.process_id, 0) == before


def test_a_question_that_ends_the_process_costs_itself_alone(apart):
    with pytest.raises(DiedError, match="ended with code 139"):
        ask(apart, SECONDS, poison.die_at_three, 3)
    assert ask(apart, SECONDS, poison.die_at_three, 4) == 4


def test_a_process_that_is_killed_is_told_from_one_that_ran_out_of_memory(apart, tmp_path, monkeypatch):
    counts = tmp_path / "vmstat"
    counts.write_text("pgfault 1\noom_kill 3\n")
    monkeypatch.setattr(apart_module, "OOM_KILLS", counts)
    end(apart)
    with pytest.raises(DiedError, match="was ended by SIGKILL") as killed:
        ask(apart, SECONDS, poison.be_killed, counts, "oom_kill 3\n")
    assert not killed.value.out_of_memory
    with pytest.raises(DiedError, match="was ended by SIGKILL") as killed:
        ask(apart, SECONDS, poison.be_killed, counts, "oom_kill 4\n")
    assert killed.value.out_of_memory


def test_a_question_that_hangs_is_given_up_and_its_process_is_gone(apart):
    hanging = psutil.Process(ask(apart, SECONDS, poison.process_id, 0))
    with pytest.raises(OverdueError):
        ask(apart, 0.5, poison.hang_at_two, 2)
    assert not hanging.is_running()
    assert ask(apart, SECONDS, poison.hang_at_two, 1) == 1


def test_two_are_answered_at_once_and_both_are_told_when_the_process_dies(apart):
    ends: list[object] = []

    def hang() -> None:
        try:
            ends.append(ask(apart, SECONDS, poison.hang_at_two, 2))
        except DiedError as death:
            ends.append(str(death))

    beside = threading.Thread(target=hang)
    beside.start()
    time.sleep(0.2)
    os.kill(ask(apart, SECONDS, poison.process_id, 0), signal.SIGKILL)
    beside.join(10)
    assert ends == ["was ended by SIGKILL"]


def test_the_process_ends_with_the_one_that_asks_even_in_the_middle_of_its_work():
    script = (
        "from tasks.apart import Apart, ask\nfrom tests import poison\n"
        "if __name__ == '__main__':\n    apart = Apart(lines=2)\n"
        "    print(ask(apart, 60, poison.process_id, 0), flush=True)\n"
        "    ask(apart, 60, poison.hang_at_two, 2)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as asking:
        apart = psutil.Process(int(asking.stdout.readline()))
        time.sleep(0.3)
        asking.kill()
    assert apart.wait(10) is None
