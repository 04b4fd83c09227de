"""The night's frame: everything is checked before the first case, and put away after the last."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from flows.server import state_folder
from flows.settings import Settings, TrainSettings
from tasks.infer import InferenceConfig, Weights
from tasks.model import DESCRIPTION, Model, load_networks, read_model
from tasks.pool import open_pool
from tasks.scan.errors import EmptyCohort, UnknownSetting, UnwritableOutput
from tasks.train.history import TABLE

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What the stages of one run share: the model, where to write, and who computes."""

    cohort: Path
    model: Model
    weights: Weights
    output: Path
    work: Path
    masks: Path
    pool: str
    settings: Settings
    state: Path
    """Folder of what is remembered from run to run, beside Prefect's history."""
    started: datetime


@contextmanager
def open_night(cohort: Path, model: Path, output: Path, settings: Settings) -> Iterator[Night]:
    """The night, when cohort, model, device and output are fit for it; nothing is touched before all are checked.

    Raises EmptyCohort, ModelNotFound, CheckpointMismatch, UnknownSetting, UnwritableOutput or ServiceUnavailable.
    """
    cohort, model, output = cohort.resolve(), model.resolve(), output.resolve()
    check_cohort(cohort)
    description = read_model(model)
    load_networks(description, model)
    settings.inference.resolved()
    settings.evaluation.tolerances_mm(description.labels)
    if settings.inference.mirror and not description.plan.augment.mirror_axes:
        raise UnknownSetting(
            f"mirror: the model in '{model}' was trained without mirroring, and would do worse with it; leave --mirror "
            "out, or train with plan.augment.mirror_axes"
        )
    with hold_folder(output), workspace(output) as work, open_pool(settings.pool) as pool:
        masks = output / "segmentations"
        masks.mkdir(exist_ok=True)
        yield Night(
            cohort=cohort,
            model=description,
            weights=Weights(folder=model),
            output=output,
            work=work,
            masks=masks,
            pool=pool,
            settings=settings,
            state=state_folder(),
            started=datetime.now(UTC),
        )


def seen_by(night: Night, member: int) -> Night:
    """`night`, with that one network of the model alone: the one that never saw the cases it is to be scored on."""
    return replace(night, weights=replace(night.weights, member=member))


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What the stages of one training share: the data, where to write, and who computes."""

    dataset: Path
    output: Path
    work: Path
    checkpoints: Path
    pool: str
    state: Path


@contextmanager
def open_training(dataset: Path, output: Path, settings: TrainSettings) -> Iterator[Training]:
    """The training, when data set, device and output are fit for it; raises what `open_night` raises."""
    dataset, output = dataset.resolve(), output.resolve()
    check_cohort(dataset)
    InferenceConfig(device=settings.training.device).resolved()
    with hold_folder(output), workspace(output) as work, open_pool(settings.run.pool) as pool:
        checkpoints = open_checkpoints(output, resume=settings.resume)
        yield Training(
            dataset=dataset, output=output, work=work, checkpoints=checkpoints, pool=pool, state=state_folder()
        )


def open_checkpoints(output: Path, *, resume: bool) -> Path:
    """The folder of what a training can go on from: as it was left, or empty.

    Raises UnknownSetting when the training that is to go on has ended.
    """
    checkpoints = output / "checkpoints"
    if resume and not checkpoints.is_dir() and (output / DESCRIPTION).is_file():
        raise UnknownSetting(f"resume: the training in '{output}' has ended; leave --resume out to train anew")
    if not resume:
        shutil.rmtree(checkpoints, ignore_errors=True)
        (output / TABLE).unlink(missing_ok=True)
    checkpoints.mkdir(exist_ok=True)
    return checkpoints


def put_away(training: Training) -> None:
    """Remove the checkpoints: all that they were for is done."""
    shutil.rmtree(training.checkpoints)


def check_cohort(cohort: Path) -> None:
    """Raises EmptyCohort when `cohort` is neither a folder nor a manifest."""
    if not cohort.is_dir() and not (cohort.is_file() and cohort.suffix == ".csv"):
        raise EmptyCohort(f"'{cohort}' is neither a folder of scans nor a CSV manifest; is the share mounted?")


@contextmanager
def hold_folder(output: Path) -> Iterator[None]:
    """`output` exists and is this run's alone, until the block ends or the process dies. Raises UnwritableOutput."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / ".lock").open("a+")
    except OSError as error:
        raise UnwritableOutput(f"output '{output}': {error.strerror}; choose a folder that can be written") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise UnwritableOutput(
                f"output '{output}' is in use by process {lock.read().strip()}; wait for it, or choose another folder"
            ) from error
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def workspace(output: Path) -> Iterator[Path]:
    """An empty folder for what stages pass to each other; removed at the end, or by the next run after a kill."""
    work = output / ".work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def shards(cases: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`cases`, `size` at a time, in their order."""
    for first in range(0, len(cases), size):
        yield cases[first : first + size]


def provenance(night: Night) -> dict[str, object]:
    """What `run.json` and the page say of the run itself, before anything is known of its cases."""
    device, precision = night.settings.inference.resolved()
    return {
        "started": night.started.isoformat(timespec="seconds"),
        "cohort": str(night.cohort),
        "model": str(night.weights.folder),
        "model_sha256": night.model.weights_sha256,
        "device": str(device),
        "precision": str(precision).removeprefix("torch."),
        "settings": TypeAdapter(Settings).dump_python(night.settings, mode="json"),
    }
