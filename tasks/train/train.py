"""Train: from a cohort with references to a model folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from prefect import get_run_logger, task

from tasks.model import Model, Plan, save_model
from tasks.pool import logged, map_cases
from tasks.preprocess import crop, pad, preprocess_case
from tasks.progress import Bar, progress_bar
from tasks.scan.errors import EmptyCohort
from tasks.scan.files import save_array
from tasks.scan.records import FORBID_UNKNOWN, Case, Outcome
from tasks.scan.resample import resample_labels
from tasks.train.dataset import Dataset
from tasks.train.fingerprint import Fingerprint, fingerprint_case, read_reference, single_components, summarise
from tasks.train.plan import PlanConfig, make_plan
from unet import Step, TrainingConfig, UNet, Volume, choose_device
from unet import train as train_network
from unet.devices import DeviceName, Precision

T = TypeVar("T")
DEFAULT_MINUTES = 10.0
LOG_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long and on what to train."""

    __pydantic_config__ = FORBID_UNKNOWN

    minutes: float | None = None
    """Time budget of the training loop."""
    epochs: int | None = None
    """Passes over the training cases, instead of a time: the only way to get the same weights twice."""
    seed: int = 0
    """Seed of weights, patches and augmentation."""
    device: DeviceName = "auto"
    """`auto` is CUDA where there is one, else the CPU."""
    precision: Precision = "auto"
    """`auto` is bfloat16 where the hardware has it, else float32."""

    def __post_init__(self) -> None:
        if self.minutes is not None and self.epochs is not None:
            raise ValueError("give minutes or epochs, not both")
        if any(length is not None and length <= 0 for length in (self.minutes, self.epochs)):
            raise ValueError("minutes and epochs must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingVolume:
    """A case on the network's grid with its reference: `.npy` files (1, X, Y, Z) float32 and (X, Y, Z) uint8."""

    image: Path
    labels: Path


@task(name="fingerprint")
def fingerprint(cases: Sequence[Outcome[Case]], dataset: Dataset, pool: str) -> list[Outcome[Fingerprint]]:
    """What every training case looks like, in parallel; image and reference are checked on the way."""
    return logged("fingerprint", map_cases(pool, "fingerprint", fingerprint_case, cases, dataset))


@task(name="plan")
def plan(
    fingerprints: Sequence[Outcome[Fingerprint]], dataset: Dataset, config: PlanConfig, device: DeviceName
) -> Plan:
    """The plan that follows from the cases that can be trained on. Raises EmptyCohort when there is none."""
    usable = _values(fingerprints)
    made = make_plan(usable, len(dataset.labels) + 1, config, choose_device(device))
    get_run_logger().info(
        "plan: spacing %s mm, patch %s, batch %d, maps %s",
        "x".join(f"{length:g}" for length in made.spacing_mm),
        "x".join(str(length) for length in made.patch),
        made.batch_size,
        "-".join(str(count) for count in made.network.features),
    )
    return made


def prepare_case(fingerprint: Fingerprint, plan: Plan, labels: Sequence[int], work: Path) -> TrainingVolume:
    """Image and reference of a case on the network's grid, written to `work`; label values become class numbers."""
    case = fingerprint.case
    prepared = preprocess_case(case, plan, work)
    reference = crop(read_reference(case, case.geometry), prepared.crop_start, prepared.crop_shape)
    classes = np.searchsorted([0, *labels], reference).astype(np.uint16)
    resampled = pad(resample_labels(classes, prepared.resampled_shape), plan.network.divisor)
    return TrainingVolume(image=prepared.voxels, labels=save_array(work / f"{case.name}.labels.npy", resampled))


@task(name="prepare")
def prepare(
    fingerprints: Sequence[Outcome[Fingerprint]], plan: Plan, dataset: Dataset, work: Path, pool: str
) -> list[Outcome[TrainingVolume]]:
    """Every training case on the network's grid, in parallel."""
    return logged("prepare", map_cases(pool, "prepare", prepare_case, fingerprints, plan, sorted(dataset.labels), work))


@task(name="train")
def train(
    volumes: Sequence[Outcome[TrainingVolume]],
    fingerprints: Sequence[Outcome[Fingerprint]],
    dataset: Dataset,
    plan: Plan,
    config: TrainConfig,
    folder: Path,
) -> Model:
    """The model in `folder`, trained on `volumes`. Raises EmptyCohort when none is left."""
    usable = [load_volume(volume) for volume in _values(volumes)]
    if not usable:
        raise EmptyCohort("no case is left to train on; the log says why for each")
    torch.manual_seed(config.seed)
    steps: list[Step] = []
    start = UNet(plan.network)
    with progress_bar("train", 1) as bar:
        network = train_network(
            start, usable, training_config(plan, config, len(usable)), choose_device(config.device), _watch(bar, steps)
        )
    model = Model(
        plan=plan,
        labels=dataset.labels,
        weights_sha256="",
        keep_largest=single_components(_values(fingerprints)),
        fingerprint=summarise(_values(fingerprints)),
        training={**asdict(config), "steps": len(steps), "seconds": steps[-1].seconds, "loss": steps[-1].loss},
    )
    return save_model(model, network, folder)


def training_config(plan: Plan, config: TrainConfig, cases: int) -> TrainingConfig:
    """The training loop's configuration; an epoch is as many steps as it takes to draw one patch per case."""
    steps = config.epochs and config.epochs * max(1, round(cases / plan.batch_size))
    return TrainingConfig(
        patch=plan.patch,
        spacing_mm=plan.spacing_mm,
        batch_size=plan.batch_size,
        seconds=None if steps else 60 * (config.minutes or DEFAULT_MINUTES),
        steps=steps,
        precision=config.precision,
        seed=config.seed,
    )


def load_volume(volume: TrainingVolume) -> Volume:
    """Image (1, X, Y, Z) and labels (X, Y, Z) of a training case, in memory."""
    return Volume(torch.from_numpy(np.load(volume.image)), torch.from_numpy(np.load(volume.labels)))


def _watch(bar: Bar, steps: list[Step]) -> Callable[[Step], None]:
    """What is done after each step: it is kept in `steps`, shown in `bar`, and logged twice a minute."""
    logger = get_run_logger()

    def on_step(step: Step) -> None:
        before = steps[-1].seconds if steps else 0.0
        steps.append(step)
        bar.show(step.share, f"loss {step.loss:.3f}")
        if step.seconds // LOG_SECONDS > before // LOG_SECONDS:
            logger.info("train step %d, %.0f %% of the budget, loss %.3f", step.number, 100 * step.share, step.loss)

    return on_step


def _values(outcomes: Sequence[Outcome[T]]) -> list[T]:
    return [outcome.value for outcome in outcomes if outcome.value is not None]
