"""Where questions about headers are answered: from memory where a file is as it was, else in the pool's processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tasks.attempt import failed
from tasks.ingest.memory import Memory, Stamp, key_of, stamp
from tasks.pool import MANY, map_cases
from tasks.scan.records import Case, Cost, Outcome, Problem

HEADER_SECONDS = 120.0
"""How long the headers of a chunk of files, and then each alone, may take."""
ENDS = {"case_timed_out", "worker_died"}
"""Reasons of which the next question about the same file would only cost as much again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The pool, what is known from before, and the stamps of all files, from before they were read."""

    pool: str
    memory: Memory
    stamps: dict[Path, Stamp | None] = field(default_factory=dict)
    lost: dict[Path, Problem] = field(default_factory=dict)
    """Files that ended the process that read them, or never let it go: they are not asked again, and this is why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a case or file: `function(value, *arguments)`, which reads `files(value)` only."""

    stage: str
    function: Callable[..., Any]
    files: Callable[[Any], Sequence[Path]]
    answer: TypeAdapter[Any]
    lasting: Callable[[Any], bool] = lambda _: True
    """Whether an answer may be remembered: not one that could change while the file does not."""


def ask(question: Question, items: Sequence[Outcome[Any]], desk: Desk, *arguments: Any) -> list[Outcome[Any]]:
    """The outcome of `question` for each of `items`, in their order. What had no answer is asked anew each time."""
    keys = [_key(question, item, desk, arguments) for item in items]
    answers = [_recall(question, item, key, desk) for item, key in zip(items, keys, strict=True)]
    for index, item in enumerate(items):
        if problem := _lost(question, item, desk):
            answers[index] = failed(item, replace(problem, stage=question.stage))
    new = [index for index, answer in enumerate(answers) if answer is None]
    asked = [items[index] for index in new]
    for index, outcome in zip(
        new,
        map_cases(
            desk.pool, question.stage, question.function, asked, *arguments, seconds=HEADER_SECONDS, together=MANY
        ),
        strict=True,
    ):
        answers[index] = outcome
        if outcome.problem and outcome.problem.reason in ENDS:
            desk.lost.update((file, outcome.problem) for file in question.files(items[index].value))
        _remember(question, outcome.value, keys[index], desk)
    return [answer for answer in answers if answer is not None]


def _lost(question: Question, item: Outcome[Any], desk: Desk) -> Problem | None:
    """Why one of the files that `question` reads of `item` is not to be read again, if it is not."""
    return next((desk.lost[file] for file in question.files(item.value) if file in desk.lost), None)


def _key(question: Question, item: Outcome[Any], desk: Desk, arguments: tuple[Any, ...]) -> str | None:
    files = question.files(item.value)
    desk.stamps.update((file, stamp(file)) for file in files if file not in desk.stamps)
    return key_of(f"{question.stage}|{item.value!r}|{arguments!r}", files, desk.stamps)


def _recall(question: Question, item: Outcome[Any], key: str | None, desk: Desk) -> Outcome[Any] | None:
    entry = None if key is None else desk.memory.used.get(key, desk.memory.known.get(key))
    if key is None or entry is None:
        return None
    try:
        value = question.answer.validate_python(entry)
    except ValidationError:
        return None
    desk.memory.used[key] = entry
    cost = Cost(stage=question.stage, seconds=0.0, peak_memory_mb=0.0)
    return replace(item, value=value, case=value if isinstance(value, Case) else item.case, costs=(*item.costs, cost))


def _remember(question: Question, value: Any, key: str | None, desk: Desk) -> None:
    if key is None or value is None or not question.lasting(value):
        return
    try:
        desk.memory.used[key] = question.answer.dump_python(value, mode="json")
    except ValueError:  # a file name that is not UTF-8 has no place in JSON; its header is read each time
        return
