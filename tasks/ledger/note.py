"""What became of a case goes into the ledger as soon as its outputs have their names: a kill costs what is in hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.belt import Line, arriving, breaking
from tasks.ledger.again import hash_or_nothing
from tasks.ledger.keys import STAGES, chain
from tasks.ledger.look import BYTES, stamp_files
from tasks.ledger.recall import Ledger
from tasks.ledger.table import Entry, Result, Seen, writing_cases
from tasks.pool import MANY, map_cases
from tasks.progress import Bar
from tasks.scan.records import Outcome, Scores, Source

PASSING = frozenset({"not_enough_memory"})
"""Reasons that are of the moment, not of the scan: what was free when its turn came."""
_one_at_a_time = threading.Lock()


@task(name="record", cache_policy=NO_CACHE)
def record(cases: Line[Scores], ledger: Ledger | None, pool: str, bar: Bar) -> list[Outcome[Scores]]:
    """What `note` returns, beside the stages that the cases come from; `bar` is told of each case."""
    with breaking(cases):
        return note(cases, ledger, pool, bar)


def note(cases: Line[Scores], ledger: Ledger | None, pool: str, bar: Bar | None = None) -> list[Outcome[Scores]]:
    """`cases`, each written into the `ledger`, if there is one, when it arrives. Raises UnwritableOutput.

    A case that the program failed on (`failed`) is written without a key for that stage, so that the next night tries
    it again; so is one whose files changed since they were looked at.
    """
    noted: list[Outcome[Scores]] = []
    unread: list[Outcome[Scores]] = []
    with ExitStack() as opened:
        for outcome in arriving(cases):
            if ledger is not None:
                if not noted:  # not before: a shard that has no case yet must not keep the one before it waiting
                    write = opened.enter_context(_alone(ledger))
                if outcome.value is None and outcome.case:
                    unread.append(outcome)
                else:
                    write(outcome.name, partial(_entry, outcome, "", ledger))
            noted.append(outcome)
            if bar:
                bar.advance()
        for outcome, checksum in zip(unread, _checksums(unread, pool), strict=True):
            write(outcome.name, partial(_entry, outcome, checksum, cast(Ledger, ledger)))
    return noted


@contextmanager
def _alone(ledger: Ledger) -> Iterator[Callable[[str, Callable[[Seen], Entry]], None]]:
    """What `writing_cases` gives, when no other shard has it: one begins while the one before it has cases in hand."""
    recipes = {recipe.sha256: recipe.ingredients for recipe in ledger.recipes.values()}
    with _one_at_a_time, writing_cases(ledger.path, recipes) as write:
        yield write


def _checksums(unread: Sequence[Outcome[Scores]], pool: str) -> list[str]:
    """The checksums of the files of cases that have no result, taken in the pool: reading them may hang again."""
    files: list[Outcome[Any]] = [Outcome(name=one.name, value=one.case.image.files) for one in unread if one.case]
    hashed: list[Outcome[str]] = map_cases(pool, "compare", hash_or_nothing, files, together=MANY)
    return [one.value or "" for one in hashed]


def _entry(outcome: Outcome[Scores], checksum: str, ledger: Ledger, seen: Seen) -> Entry:
    """`checksum` is that of the files of a case that has no result."""
    segmentation = outcome.value.segmentation if outcome.value else None
    content = segmentation.content_sha256 if segmentation else f"{BYTES}{checksum}"
    done = _stages_done(outcome, seen)
    keys = chain(content, ledger.recipes, seen.reference_sha256)
    return Entry(
        name=outcome.name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        seen=seen,
        mask=None,
        input_sha256=segmentation.input_sha256 if segmentation else checksum,
        content=content,
        keys={stage: keys[stage] for stage in done},
        recipes={stage: ledger.recipes[stage].sha256 for stage in done},
        result=_result(outcome),
    )


def _stages_done(outcome: Outcome[Scores], seen: Seen) -> tuple[str, ...]:
    """The stages of which the outcome is the result, and will be next night if nothing changes."""
    problem = outcome.problem
    if problem is None:
        return STAGES
    stage = STAGES[-1] if problem.stage == "export" else problem.stage
    if stage not in STAGES:
        return ()
    place = STAGES.index(stage)
    if problem.status == "failed" or problem.reason in PASSING:
        return STAGES[:place] if outcome.value else ()
    if outcome.value is None and (
        outcome.case is None or seen.input is None or stamp_files(outcome.case.image.files) != seen.input
    ):
        return ()  # the bytes that were refused may not be those whose checksum is known, or are not there any more
    return STAGES[: place + 1]


def _result(outcome: Outcome[Scores]) -> Result:
    """What is kept of `outcome`: everything but which files the scan and the reference were."""
    scores = outcome.value
    flags: tuple[str, ...] = ()
    if scores and outcome.case:
        case = scores.segmentation.case
        flags = case.warnings[len(outcome.case.warnings) :]
        image = Source(format=case.image.channels[0].format, files=(Path(case.name),))  # a path may name the patient
        kept = replace(case, image=image, reference=None, groups={})
        scores = replace(scores, segmentation=replace(scores.segmentation, case=kept))
    return Result(scores=scores, problem=outcome.problem, costs=outcome.costs, flags=flags)
