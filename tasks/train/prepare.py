"""Prepare: image and reference of each case on the network's grid, written down for training to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.case_log import logged
from tasks.model import Plan
from tasks.pool import map_cases
from tasks.preprocess import crop, preprocess_case
from tasks.scan.files import hash_files, save_array
from tasks.scan.records import Outcome
from tasks.scan.resample import resample_labels
from tasks.slice_order import Ordering
from tasks.train.dataset import Dataset
from tasks.train.fingerprint import Fingerprint, read_reference
from unet import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingVolume:
    """A case on the network's grid with its reference: `.npy` files (C, X, Y, Z) float32 and (X, Y, Z) uint8.

    `labels` holds class numbers.
    """

    name: str
    image: Path
    labels: Path
    present: tuple[int, ...]
    """The label values that the reference holds."""
    orderings: tuple[Ordering, ...]
    """In which order they lie along each axis."""
    sha256: str
    """Of both files."""


def prepare_case(fingerprint: Fingerprint, plan: Plan, labels: Sequence[int], work: Path) -> TrainingVolume:
    """Image and reference of a case on the network's grid, written to `work`; label values become class numbers."""
    case = fingerprint.case
    prepared = preprocess_case(case, plan, work)
    reference = crop(read_reference(case, case.geometry), prepared.crop_start, prepared.crop_shape)
    classes = np.searchsorted([0, *labels], reference).astype(np.uint16)
    path = save_array(work / f"{case.name}.labels.npy", resample_labels(classes, prepared.resampled_shape))
    return TrainingVolume(
        name=case.name,
        image=prepared.voxels,
        labels=path,
        present=fingerprint.labels,
        orderings=fingerprint.orderings,
        sha256=hash_files([prepared.voxels, path]),
    )


@task(name="prepare", cache_policy=NO_CACHE)
def prepare(
    fingerprints: Sequence[Outcome[Fingerprint]], plan: Plan, dataset: Dataset, work: Path, pool: str
) -> list[Outcome[TrainingVolume]]:
    """Every case on the network's grid, in parallel."""
    done = map_cases(pool, "prepare", prepare_case, fingerprints, plan, sorted(dataset.labels), work)
    return list(logged("prepare", done))


def load_volume(volume: TrainingVolume) -> Volume:
    """Image (C, X, Y, Z) and class numbers (X, Y, Z) of a case, read from disk where and when they are used."""
    image, labels = (torch.from_numpy(np.load(path, mmap_mode="c")) for path in (volume.image, volume.labels))
    return Volume(image, labels)
