"""The training: from a cohort with references to a model, and how well it does on the cases it never saw."""

from pathlib import Path

from prefect import State, flow

from flows.night import open_night, open_training, provenance
from flows.outcomes import refuses_by_name, verdict
from flows.segment_cohort import segment
from flows.settings import TrainSettings
from tasks.ingest import ingest
from tasks.report import report
from tasks.train import describe_dataset, fingerprint, hold_out, plan, prepare, refused, train


@flow(name="train-unet")
@refuses_by_name
def train_unet(dataset: Path, output: Path, settings: TrainSettings = TrainSettings()) -> State[None]:  # noqa: B008
    """Train a model on `dataset` and write it to `output`; segment and score the held-out fold, if there is one."""
    described = describe_dataset(dataset)
    with open_training(dataset, output, settings) as training:
        run = settings.run
        intake = ingest(training.dataset, run.references, training.output, run.ingest, training.pool, training.state)
        cases, held_out = hold_out(intake.cases, settings.folds, settings.fold)
        fingerprints = fingerprint(cases, described, training.pool)
        made = plan(fingerprints, described, settings.plan, settings.training.device)
        volumes = prepare(fingerprints, made, described, training.work, training.pool)
        train(volumes, fingerprints, described, made, settings.training, training.output)
    with open_night(dataset, output, output / "validation", settings.run) as night:
        outcomes = [*refused(volumes), *segment(held_out, night)]
        return verdict(report(outcomes, intake.set_aside, night.model.labels, provenance(night), night.output))
