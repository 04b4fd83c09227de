"""Train: one network for each split of the cases, and the model they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import TypeAdapter, ValidationError

from tasks.model import Model, Plan, SliceOrder
from tasks.model.folder import save_model
from tasks.progress import progress_bar
from tasks.scan.errors import CheckpointMismatch, EmptyCohort, MissingLabel, TrainingDiverged
from tasks.scan.files import write_whole
from tasks.scan.records import Outcome
from tasks.slice_order import common_order
from tasks.train.config import PlanConfig, TrainConfig
from tasks.train.dataset import Dataset, Split, select
from tasks.train.fingerprint import Fingerprint, summarise
from tasks.train.history import Progress, draw_curves, draw_samples, watch
from tasks.train.plan import make_plan
from tasks.train.prepare import TrainingVolume, load_volume
from tasks.train.validate import (
    Evidence,
    decide_largest,
    decide_order,
    dice_by_class,
    numbered,
    reference_classes,
    segment_volume,
    weigh,
)
from unet import (
    SamplingConfig,
    TrainingConfig,
    UNet,
    Volume,
    choose_device,
    choose_precision,
    load_weights,
    save_weights,
)
from unet import train as train_network
from unet.checkpoint import load_tensors
from unet.config import DeviceName

DEFAULT_MINUTES = 10.0
WATCHED = 8
"""Held-out cases that the curve is drawn from, while training."""

_PLAN = TypeAdapter(Plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One trained network: its weights on disk, how its training ended, and what its held-out cases say."""

    fold: int | None
    weights: Path
    sha256: str
    steps: int
    seconds: float
    order: SliceOrder
    """That the references it learnt from keep, if any."""
    evidence: tuple[Evidence, ...]


@task(name="plan", cache_policy=NO_CACHE)
def plan(
    fingerprints: Sequence[Outcome[Fingerprint]],
    splits: Sequence[Split],
    dataset: Dataset,
    config: PlanConfig,
    device: DeviceName,
    checkpoints: Path,
) -> Plan:
    """The plan that follows from the cases that are learnt from, or the one that `checkpoints` holds.

    Raises EmptyCohort when no case is left, MissingLabel when a label is in none of those of a split, and
    CheckpointMismatch when the plan was written by another version.
    """
    for split in splits:
        _require_labels(select(fingerprints, split.training), split, dataset)
    stored = checkpoints / "plan.json"
    if stored.is_file():
        return _read_plan(stored)
    learnt_from = {name for split in splits for name in split.training}
    usable = [one.value for one in select(fingerprints, tuple(learnt_from)) if one.value]
    made = make_plan(usable, len(dataset.labels) + 1, config, choose_device(device))
    get_run_logger().info(
        "plan: spacing %s mm, patch %s, batch %d, maps %s",
        "x".join(f"{length:g}" for length in made.spacing_mm),
        "x".join(str(length) for length in made.patch),
        made.batch_size,
        "-".join(str(count) for count in made.network.features),
    )
    write_whole(stored, _PLAN.dump_json(made))
    return made


def _read_plan(stored: Path) -> Plan:
    """The plan with which the training began that goes on. Raises CheckpointMismatch."""
    try:
        return _PLAN.validate_json(stored.read_bytes())
    except ValidationError as error:
        raise CheckpointMismatch(
            f"'{stored}' is not a plan of this version; go on with the one that began the training, or leave "
            "--resume out to train anew"
        ) from error


@task(name="train", cache_policy=NO_CACHE)
def train(
    volumes: Sequence[Outcome[TrainingVolume]],
    split: Split,
    dataset: Dataset,
    plan: Plan,
    config: TrainConfig,
    output: Path,
) -> Member:
    """The network of `split`, trained on from its checkpoint under `output` if there is one, and weighed.

    Raises CheckpointMismatch when the checkpoint is of other data or another plan, and TrainingDiverged.
    """
    learnt = [one.value for one in select(volumes, split.training) if one.value]
    unseen = [one.value for one in select(volumes, split.held_out) if one.value]
    usable = [load_volume(volume) for volume in learnt]
    checkpoint = own_checkpoint(output / "checkpoints", split, plan, config, learnt)
    settings = training_config(plan, config, len(usable), checkpoint)
    draw_samples(usable, settings.sampling, output)
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    torch.manual_seed(config.seed)
    start = UNet(plan.network).to(device)

    def validate(network: UNet) -> dict[str, float]:
        return mean_dice(network, unseen[:: max(1, len(unseen) // WATCHED)][:WATCHED], dataset, plan, precision)

    with progress_bar("train" if split.fold is None else f"train {split.fold}", 1) as bar:
        on_step = watch(bar, output, split.fold, list(dataset.labels.values()), validate)
        network = _fit(start, usable, settings, on_step)
    draw_curves(output)
    weights = checkpoint.with_suffix(".weights")
    order = common_order([volume.orderings for volume in learnt], tuple(dataset.labels))
    by_number = numbered(order, dataset.labels)
    _, progress = load_tensors(checkpoint)
    return Member(
        fold=split.fold,
        weights=weights,
        sha256=save_weights([network], weights),
        steps=int(progress["steps"]),
        seconds=float(progress["seconds"]),
        order=order,
        evidence=tuple(weigh(network, volume, plan, precision, by_number) for volume in unseen),
    )


@task(name="join", cache_policy=NO_CACHE)
def join(
    members: Sequence[Member],
    fingerprints: Sequence[Outcome[Fingerprint]],
    dataset: Dataset,
    plan: Plan,
    config: TrainConfig,
    folder: Path,
) -> Model:
    """The model in `folder`: one network, or an ensemble, with the postprocessing that the held-out cases chose."""
    networks = [load_weights(plan.network, one.weights, one.sha256)[0] for one in members]
    ends = [{"fold": one.fold, "steps": one.steps, "seconds": one.seconds} for one in members]
    evidence = [one for member in members for one in member.evidence]
    order = decide_order(evidence, dataset.labels, [one.order for one in members])
    model = Model(
        plan=plan,
        labels=dataset.labels,
        weights_sha256="",
        slice_order=order,
        keep_largest=decide_largest(evidence, dataset.labels, ordered=bool(order.labels)),
        fingerprint=summarise([one.value for one in fingerprints if one.value]),
        training={**asdict(config), "members": ends},
    )
    return save_model(model, networks, folder)


def _fit(network: UNet, volumes: Sequence[Volume], config: TrainingConfig, on_step: Progress) -> UNet:
    """The trained network. Raises CheckpointMismatch or TrainingDiverged."""
    try:
        return train_network(network, volumes, config, on_step)
    except FloatingPointError as error:
        raise TrainingDiverged(
            f"{error}; train with --precision float32, or look for scans with extreme intensities: training.csv shows "
            "when it happened, samples.png what the network was fed"
        ) from error
    except ValueError as error:
        raise CheckpointMismatch(f"{error}; leave --resume out to train anew") from error


def training_config(plan: Plan, config: TrainConfig, cases: int, checkpoint: Path | None = None) -> TrainingConfig:
    """The training loop's configuration; an epoch is as many steps as it takes to draw one patch per case."""
    steps = config.epochs and config.epochs * max(1, round(cases / plan.batch_size))
    return TrainingConfig(
        sampling=SamplingConfig(
            patch=plan.patch, spacing_mm=plan.spacing_mm, batch_size=plan.batch_size, augment=plan.augment
        ),
        seconds=None if steps else 60 * (config.minutes or DEFAULT_MINUTES),
        steps=steps,
        precision=config.precision,
        seed=config.seed,
        checkpoint=checkpoint,
        checkpoint_seconds=config.checkpoint_seconds,
    )


def own_checkpoint(
    folder: Path, split: Split, plan: Plan, config: TrainConfig, volumes: Sequence[TrainingVolume]
) -> Path:
    """The checkpoint of this split, plan, seed and data under `folder`; its name holds a digest of them.

    Raises CheckpointMismatch when `folder` holds one of the same split with another digest.
    """
    identity = [split, plan, config.seed, config.precision, [(volume.name, volume.sha256) for volume in volumes]]
    digest = sha256(repr(identity).encode()).hexdigest()[:16]
    name = "all" if split.fold is None else f"fold-{split.fold}"
    path = folder / f"{name}.{digest}.safetensors"
    others = [other for other in folder.glob(f"{name}.*.safetensors") if other != path]
    if others:
        raise CheckpointMismatch(
            f"the checkpoint '{others[0]}' is of other scans, or of another split, plan, seed or precision; "
            "leave --resume out to train anew"
        )
    return path


def mean_dice(
    network: UNet, volumes: Sequence[TrainingVolume], dataset: Dataset, plan: Plan, precision: torch.dtype
) -> dict[str, float]:
    """Mean Dice of each label over `volumes`, by name, on the network's grid; NaN where it is defined in none."""
    names = dict(enumerate((dataset.labels[value] for value in sorted(dataset.labels)), start=1))
    found = [
        dice_by_class(segment_volume(network, volume, plan, precision), reference_classes(volume), tuple(names))
        for volume in volumes
    ]
    means = {}
    for number, name in names.items():
        values = np.array([dice[number] for dice in found])
        means[name] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
    return means


def _require_labels(fingerprints: Sequence[Outcome[Fingerprint]], split: Split, dataset: Dataset) -> None:
    """Raises EmptyCohort when no case of the split can be learnt from, MissingLabel when none has one of the labels."""
    usable = [one.value for one in fingerprints if one.value]
    if not usable:
        raise EmptyCohort("no case is left to train on; the log says why for each")
    missing = set(dataset.labels) - {value for one in usable for value in one.labels}
    if missing:
        where = "the data set" if split.fold is None else f"the training cases of fold {split.fold}"
        names = ", ".join(f"{value} '{dataset.labels[value]}'" for value in sorted(missing))
        raise MissingLabel(
            f"no reference in {where} holds label {names}, so it cannot be learnt; add a case that does, "
            "hold out another fold, or take the label out of dataset.json or labels.json"
        )
