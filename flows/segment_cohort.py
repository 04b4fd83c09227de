"""The night: every scan of a cohort, from its file to its row in the table."""

from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.futures import PrefectFuture

from flows.alarm import tell_end
from flows.as_is import as_is
from flows.deadline import batches, carried_over
from flows.night import Night, begin, open_night, provenance, shards
from flows.outcomes import refuses_by_name, verdict
from flows.settings import Settings
from tasks.belt import Belt, Line, belts, finished, in_order
from tasks.infer.infer import infer
from tasks.ingest.ingest import ingest
from tasks.ledger.note import record
from tasks.ledger.recall import recall
from tasks.progress import Bar, progress_bar
from tasks.report.report import report
from tasks.scan.records import Case, Outcome, Scores, Segmentation
from tasks.shelf import Shelf
from tasks.stages import evaluate, export, postprocess, preprocess

Lines = deque[tuple[Sequence[Outcome[Case]], list[PrefectFuture[Any]]]]
"""Shards at work, the first begun first, each with its stages."""


@flow(name="segment-cohort", on_failure=[tell_end], on_crashed=[tell_end])
@refuses_by_name
def segment_cohort(cohort: Path, model: Path, output: Path, settings: Settings = Settings()) -> State[None]:  # noqa: B008
    """Segment every scan in `cohort` with `model`, and say in `output` what became of each."""
    with open_night(cohort, model, output, settings) as night:
        intake = ingest(night.cohort, settings.references, night.output, settings.ingest, night.pool, night.state)
        tonight, set_aside = recall(as_is(intake.cases), night.ledger, night.pool), intake.set_aside
        del intake  # a case has one record in memory, the last: the night may be long
        begin(night)
        outcomes = [*tonight.settled, *score_again(tonight.segmented, night), *segment(tonight.due, night)]
        told = provenance(night)
        return verdict(report(as_is(outcomes), set_aside, night.model.labels, told, night.output, night.pool))


def segment(cases: list[Outcome[Case]], night: Night) -> list[Outcome[Scores]]:
    """What became of each of `cases`: a shard at a time, its stages side by side, while there is time.

    They leave the list when they are begun. A shard begins when the first stage is through with the one before, so that
    the network never waits. Before a deadline it begins when the one before is done: only then is it known how long a
    case takes.
    """
    shelf: Shelf[Outcome[Scores]] = Shelf()
    lines: Lines = deque()
    with belts(1) as (whole,), ExitStack() as of_shards, progress_bar("cases", len(cases)) as bar:
        for shard in shards(cases, night):
            line = set_off(shard, night, of_shards.enter_context(belts(5, after=whole)), bar)
            lines.append((shard, line))
            finished(line[:1] if night.deadline is None else line)
            shelf.put(through(lines, but=1))
        shelf.put(through(lines, but=0))
    return [*shelf.take(), *(carried_over(case, night.settings.until) for case in cases)]


def through(lines: Lines, but: int) -> list[Outcome[Scores]]:
    """What became of the cases of all but the last `lines`, whose futures, with all that they hold, are let go."""
    outcomes: list[Outcome[Scores]] = []
    while len(lines) > but:
        shard, line = lines.popleft()
        outcomes += in_order(finished(line), shard)
    return outcomes


def set_off(
    shard: Sequence[Outcome[Case]], night: Night, between: Sequence[Belt[Any]], bar: Bar
) -> list[PrefectFuture[Any]]:
    """The stages of `shard`, at work; `bar` is told of each case that is through."""
    prepared, predicted, segmented, scored, exported = between
    model, settings = night.model, night.settings
    return [
        preprocess.submit(as_is(shard), model, night.work, night.pool, prepared),
        infer.submit(prepared, night.opened, night.weights, settings.inference, night.work, predicted),
        postprocess.submit(predicted, model, night.masks, night.pool, segmented),
        *score(segmented, night, (scored, exported), bar),
    ]


def score(
    cases: Line[Segmentation], night: Night, between: tuple[Belt[Scores], Belt[Scores]], bar: Bar
) -> list[PrefectFuture[Any]]:
    """The stages after the mask, at work."""
    (scored, exported), labels, settings = between, night.model.labels, night.settings
    return [
        evaluate.submit(as_is(cases), labels, settings.evaluation, night.pool, scored),
        export.submit(scored, labels, settings.export, night.output, night.pool, exported),
        record.submit(exported, night.ledger, night.pool, bar),
    ]


def score_again(cases: Sequence[Outcome[Segmentation]], night: Night) -> list[Outcome[Scores]]:
    """What became of each of `cases`, whose masks are those of an earlier night."""
    outcomes: list[Outcome[Scores]] = []
    with progress_bar("score again", len(cases)) as bar:
        for shard in batches(cases, night.settings.shard):
            with belts(2) as (scored, exported):
                outcomes += in_order(finished(score(shard, night, (scored, exported), bar)), shard)
    return outcomes
