"""The training: from a cohort with references to a model, and how well it does on the cases it never saw."""

from pathlib import Path

from prefect import State, flow

from flows.alarm import tell_end
from flows.night import begin, open_night, provenance, seen_by
from flows.outcomes import refuses_by_name, verdict
from flows.segment_cohort import segment
from flows.settings import TrainSettings
from flows.training import VALIDATION, begin_training, open_training, put_away
from tasks.ingest.ingest import ingest
from tasks.report.report import report
from tasks.train.dataset import describe_dataset, involved, refused, select, split_cases
from tasks.train.fingerprint import fingerprint
from tasks.train.prepare import prepare
from tasks.train.train import join, plan, train


@flow(name="train-unet", on_failure=[tell_end], on_crashed=[tell_end])
@refuses_by_name
def train_unet(dataset: Path, output: Path, settings: TrainSettings = TrainSettings()) -> State[None]:  # noqa: B008
    """Train a model on `dataset` and write it to `output`; segment and score the cases that were held out, if any."""
    described = describe_dataset(dataset)
    with open_training(dataset, output, settings) as training:
        run = settings.run
        intake = ingest(training.dataset, run.references, training.output, run.ingest, training.pool, training.state)
        splits = split_cases(intake.cases, settings.folds, settings.fold)
        fingerprints = fingerprint(involved(intake.cases, splits), described, training.pool)
        begin_training(training, resume=settings.resume)
        made = plan(fingerprints, splits, described, settings.plan, settings.training.device, training.checkpoints)
        volumes = prepare(fingerprints, made, described, training.work, training.pool)
        members = [train(volumes, one, described, made, settings.training, training.output) for one in splits]
        join(members, fingerprints, described, made, settings.training, training.output)
    with open_night(dataset, output, output / VALIDATION, settings.run, remember=False) as night:
        begin(night)
        outcomes = refused(volumes, splits)
        for member, split in enumerate(splits):
            outcomes += segment(select(intake.cases, split.held_out), seen_by(night, member))
        written = report(outcomes, intake.set_aside, night.model.labels, provenance(night), night.output, night.pool)
        put_away(training)
        return verdict(written)
