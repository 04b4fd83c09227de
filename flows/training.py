"""The training's frame: everything is checked before the first case, and what it can go on from is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.night import check_inputs
from flows.output import check_parts, hold_folder, workspace, writing
from flows.server import state_folder
from flows.settings import TrainSettings
from tasks.infer import InferenceConfig
from tasks.infer.machine import resolve
from tasks.model import DESCRIPTION, WEIGHTS
from tasks.pool import open_pool
from tasks.report.report import FILES, FOLDERS
from tasks.scan.errors import UnknownSetting
from tasks.train.dataset import read_folds
from tasks.train.history import TABLE

CHECKPOINTS, VALIDATION = "checkpoints", "validation"


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
    """The training, when data set, device and output are fit for it; raises what `open_night` raises.

    Raises UnknownSetting when the training that is to go on has ended.
    """
    dataset, output = dataset.resolve(), output.resolve()
    check_inputs(dataset, settings.run.references, output)
    if settings.folds:
        read_folds(settings.folds)
    checkpoints = output / CHECKPOINTS
    if settings.resume and not checkpoints.is_dir() and (output / DESCRIPTION).is_file():
        raise UnknownSetting(f"resume: the training in '{output}' has ended; leave --resume out to train anew")
    check_parts(output, (DESCRIPTION, WEIGHTS, TABLE), (CHECKPOINTS, VALIDATION))
    check_parts(output / VALIDATION, FILES, FOLDERS)
    resolve(InferenceConfig(device=settings.training.device))
    with hold_folder(output), workspace(output) as work, open_pool(settings.run.pool) as pool:
        yield Training(
            dataset=dataset, output=output, work=work, checkpoints=checkpoints, pool=pool, state=state_folder()
        )


def begin_training(training: Training, *, resume: bool) -> None:
    """From here on the output is this training's: what it can go on from is as it was left, or empty."""
    with writing(training.output):
        if not resume:
            shutil.rmtree(training.checkpoints, ignore_errors=True)
            (training.output / TABLE).unlink(missing_ok=True)
        training.checkpoints.mkdir(exist_ok=True)


def put_away(training: Training) -> None:
    """Remove the checkpoints: all that they were for is done."""
    shutil.rmtree(training.checkpoints)
