"""A file that hangs, or ends the process that reads its header, costs that once, whatever is asked about it later."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tasks.ingest import desk as desk_module
from tasks.ingest.desk import Desk, Question, ask
from tasks.ingest.memory import Memory
from tests import poison
from tests.poison import numbers


def question(stage, function):
    return Question(
        stage=stage, function=function, files=lambda number: [Path(f"{number}.dcm")], answer=TypeAdapter(int)
    )


@pytest.mark.parametrize(
    ("function", "bad", "reason"), [(poison.hang_at_two, 2, "case_timed_out"), (poison.die_at_three, 3, "worker_died")]
)
def test_a_file_that_cost_a_process_is_not_asked_again(pool, monkeypatch, function, bad, reason):
    monkeypatch.setattr(desk_module, "HEADER_SECONDS", 3.0)
    desk = Desk(pool=pool, memory=Memory())
    first = ask(question("headers", function), numbers(5), desk)
    again = ask(question("names", poison.double), numbers(5), desk)
    assert [one.value for one in first] == [number if number != bad else None for number in range(5)]
    assert [one.value for one in again] == [2 * number if number != bad else None for number in range(5)]
    assert (again[bad].problem.stage, again[bad].problem.reason) == ("names", reason)
