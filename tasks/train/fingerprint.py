"""What the training data look like, case by case: the basis of the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.case_log import logged
from tasks.pool import map_cases
from tasks.preprocess import crop, nonzero_box
from tasks.scan.errors import ChannelMismatch, NoReference, UnknownLabel
from tasks.scan.geometry import canonical_spacing_mm
from tasks.scan.records import Case, Geometry, Outcome, Shape, Spacing
from tasks.scan.volume import read_channels, read_labels
from tasks.signs import count_pieces
from tasks.slice_order import Ordering, orderings
from tasks.train.dataset import Dataset

SAMPLES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """One training case: `shape` is in voxels after cropping; `samples` are foreground intensities of each channel."""

    case: Case
    spacing_mm: Spacing
    shape: Shape
    samples: tuple[tuple[float, ...], ...]
    labels: tuple[int, ...]
    """The foreground labels that the reference holds."""
    volumes_ml: dict[int, float]
    """Of every label of the data set in the reference: 0 where it is not there."""
    components: dict[int, int]
    """Pieces of every label that is there."""
    orderings: tuple[Ordering, ...]
    """In which order the labels lie along each axis."""
    quantitative: tuple[bool, ...]
    """Of each channel, whether its modality has a scale of its own (CT)."""


def fingerprint_case(case: Case, dataset: Dataset, channels: int) -> Fingerprint:
    """The fingerprint of `case`. Raises CaseError when image or reference cannot be trained on.

    That is also when it has another number of `channels` than the rest of the data set.
    """
    _check_channels(case, dataset, channels)
    voxels, geometry = read_channels(case.image, case.name)
    reference = read_reference(case, geometry)
    present = set(np.unique(reference).tolist()) - {0}
    if not present <= set(dataset.labels):
        raise UnknownLabel(
            case.name,
            f"the reference holds the values {sorted(present - set(dataset.labels))}",
            f"only 0 and the data set's labels {sorted(dataset.labels)}",
            "name the label in dataset.json or labels.json, or map it to one that is there",
        )
    if not present:
        raise NoReference(case.name, "the reference is empty", "at least one labelled voxel", "leave the case out")
    start, shape = nonzero_box(voxels)
    labelled = crop(reference, start, shape) > 0
    return Fingerprint(
        case=case,
        spacing_mm=canonical_spacing_mm(geometry),
        shape=shape,
        samples=tuple(_samples(crop(channel, start, shape)[labelled]) for channel in voxels),
        labels=tuple(sorted(present)),
        volumes_ml={v: int(np.count_nonzero(reference == v)) * geometry.voxel_ml for v in dataset.labels},
        components=count_pieces(reference),
        orderings=orderings(reference),
        quantitative=tuple(name.upper() == "CT" for name in dataset.modalities) or (False,) * channels,
    )


@task(name="fingerprint", cache_policy=NO_CACHE)
def fingerprint(cases: Sequence[Outcome[Case]], dataset: Dataset, pool: str) -> list[Outcome[Fingerprint]]:
    """What every case looks like, in parallel; image and reference are checked on the way."""
    channels = len(dataset.modalities) or usual_channels(cases)
    done = map_cases(pool, "fingerprint", fingerprint_case, cases, dataset, channels)
    return list(logged("fingerprint", done))


def usual_channels(cases: Sequence[Outcome[Case]]) -> int:
    """How many channels most of the cases have: the fewer, where two numbers are equally usual."""
    counts = Counter(len(one.value.image.channels) for one in cases if one.value)
    return max(sorted(counts), key=lambda number: counts[number], default=1)


def read_reference(case: Case, grid: Geometry) -> NDArray[np.uint16]:
    """The label map (X, Y, Z) of `case` on RAS+ axes. Raises NoReference when there is none."""
    if case.reference is None:
        raise NoReference(case.name, "no reference", "a label map for every training case", "add one, or leave it out")
    return read_labels(case.reference, grid, case.name, case.image)


def _check_channels(case: Case, dataset: Dataset, channels: int) -> None:
    there = len(case.image.channels)
    if there != channels:
        raise ChannelMismatch(
            case.name,
            f"a case of {there} channel{'s' * (there > 1)}",
            f"{channels}, as {'dataset.json or labels.json says' if dataset.modalities else 'most cases have'}",
            "give the case the channels of the others, or leave it out",
        )


def _samples(inside: NDArray[np.float32]) -> tuple[float, ...]:
    """Some of the intensities `inside` (N,) of the foreground, with a fixed seed."""
    random = np.random.default_rng(0)
    chosen = random.choice(inside, size=min(SAMPLES, inside.size), replace=False)
    return tuple(float(value) for value in chosen)


def summarise(fingerprints: Sequence[Fingerprint]) -> dict[str, Any]:
    """Medians and ranges over the data set, for `model.json`; no case is named."""
    labels = sorted({value for one in fingerprints for value in one.volumes_ml})
    means = np.array([[np.mean(channel) for channel in one.samples] for one in fingerprints])
    return {
        "cases": len(fingerprints),
        "spacing_mm": _range(np.array([one.spacing_mm for one in fingerprints])),
        "shape": _range(np.array([one.shape for one in fingerprints])),
        "foreground_mean": _range(means[:, 0]),
        "further_foreground_means": [_range(of_channel) for of_channel in means.T[1:]],
        "volume_ml": {str(v): _percentiles([one.volumes_ml[v] for one in fingerprints]) for v in labels},
        "components": {str(v): max(one.components.get(v, 0) for one in fingerprints) for v in labels},
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    """The 1st, 5th, 50th, 95th and 99th percentile of `values`, to six digits."""
    shares = (1, 5, 50, 95, 99)
    found = np.percentile(values, shares)
    return {f"p{share}": float(f"{value:.6g}") for share, value in zip(shares, found, strict=True)}


def _range(values: NDArray[Any]) -> dict[str, Any]:
    return {"min": values.min(0).tolist(), "median": np.median(values, 0).tolist(), "max": values.max(0).tolist()}
