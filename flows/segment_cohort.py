"""The night: every scan of a cohort, from its file to its row in the table."""

from collections.abc import Sequence
from pathlib import Path

from prefect import State, flow

from flows.alarm import tell_end
from flows.deadline import batches, with_carried_over
from flows.night import Night, begin, open_night, provenance, shards
from flows.outcomes import refuses_by_name, verdict
from flows.settings import Settings
from tasks.belt import Line, belts, finished, in_order
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.infer import infer
from tasks.ingest import ingest
from tasks.ledger import note, recall
from tasks.postprocess import postprocess
from tasks.preprocess import preprocess
from tasks.report import report
from tasks.scan.records import Case, Outcome, Scores, Segmentation


@flow(name="segment-cohort", on_failure=[tell_end], on_crashed=[tell_end])
@refuses_by_name
def segment_cohort(cohort: Path, model: Path, output: Path, settings: Settings = Settings()) -> State[None]:  # noqa: B008
    """Segment every scan in `cohort` with `model`, and say in `output` what became of each."""
    with open_night(cohort, model, output, settings) as night:
        intake = ingest(night.cohort, settings.references, night.output, settings.ingest, night.pool, night.state)
        tonight = recall(intake.cases, night.ledger, night.pool)
        begin(night)
        outcomes = [*tonight.settled, *score_again(tonight.segmented, night), *segment(tonight.due, night)]
        return verdict(
            report(outcomes, intake.set_aside, night.model.labels, provenance(night), night.output, night.pool)
        )


def segment(cases: Sequence[Outcome[Case]], night: Night) -> list[Outcome[Scores]]:
    """What became of each of `cases`: a shard at a time, its stages side by side, while there is time."""
    outcomes: list[Outcome[Scores]] = []
    for shard in shards(cases, night):
        with belts(3) as (prepared, predicted, segmented):
            model, settings = night.model, night.settings
            line = [
                preprocess.submit(shard, model, night.work, night.pool, prepared),
                infer.submit(prepared, model, night.weights, settings.inference, night.work, predicted),
                postprocess.submit(predicted, model, night.masks, night.pool, segmented),
            ]
            outcomes += in_order(score(segmented, night), shard)
            finished(line)
    return with_carried_over(cases, outcomes, night.settings.until)


def score_again(cases: Sequence[Outcome[Segmentation]], night: Night) -> list[Outcome[Scores]]:
    """What became of each of `cases`, whose masks are those of an earlier night."""
    shards_of_them = batches(cases, night.settings.shard)
    return [outcome for shard in shards_of_them for outcome in in_order(score(shard, night), shard)]


def score(cases: Line[Segmentation], night: Night) -> list[Outcome[Scores]]:
    """What became of each of `cases`, scored, exported as asked for, and at once known to the ledger."""
    with belts(2) as (scored, exported):
        model, settings = night.model, night.settings
        line = [
            evaluate.submit(cases, model.labels, settings.evaluation, night.pool, scored),
            export.submit(scored, model.labels, settings.export, night.output, night.pool, exported),
        ]
        outcomes = note(exported, night.ledger, night.pool)
        finished(line)
        return outcomes
