"""Every backend and precision beside float32 torch: one trained model on cases of a data set that it never saw.

    python -m benchmarks.backends MODEL DATASET [--folds CSV --fold K] [--mirror]

For each: seconds in the network and how many times as fast as float32 torch; the smallest Dice of any label of any
case between its mask and that of float32 torch; the largest change of a case's mean Dice against the reference; and the
mean Dice. The last row is float32 torch, where each image was padded up to a multiple of all poolings first, as other
programs do it.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from tasks.infer import InferenceConfig, Weights
from tasks.infer.machine import make_ready, resolve
from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.model import Model
from tasks.model.folder import read_model
from tasks.preprocess import crop, preprocess_case
from tasks.scan.records import Prepared
from tasks.scan.restore import restore_labels
from tasks.scan.volume import read_labels
from unet import UNetConfig, predict
from unet.backends import Network
from unet.metrics import dice

CONTESTANTS = [
    ("torch", "float32", False),
    ("torch", "bfloat16", False),
    ("openvino", "float32", False),
    ("openvino", "bfloat16", False),
    ("torch", "float32", True),
]
"""Backend, precision, and whether images are padded."""
Masks = dict[str, np.ndarray]


def main() -> None:
    """Print one line a contestant."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("dataset", type=Path)
    arguments.add_argument("--folds", type=Path, help="CSV with the columns case and fold")
    arguments.add_argument("--fold", default="0", help="the fold that the model never saw (default: 0)")
    arguments.add_argument("--mirror", action="store_true", help="average over all flips of the axes training mirrored")
    arguments.add_argument("--cases", type=int, default=1000, help="this many at most")
    given = arguments.parse_args()
    model = read_model(given.model)
    with tempfile.TemporaryDirectory() as work:
        cases = list(prepared(given, model, Path(work)))[: given.cases]
        references = {case.case.name: reference(case) for case in cases}
        first: Masks = {}
        print(f"{len(cases)} cases")
        print(f"{'':<24}{'seconds':>9}{'times':>7}{'worst Dice':>12}{'Dice changes by':>17}{'mean Dice':>11}")
        for backend, precision, padding in CONTESTANTS:
            config = InferenceConfig(device="cpu", backend=backend, precision=precision, mirror=given.mirror)
            networks = make_ready(Weights(folder=given.model), model, resolve(config))
            if padding:
                networks = [padded(network, model.plan.network) for network in networks]
            masks, seconds = segment(cases, model, networks, mirror=given.mirror)
            if not first:
                first, base = masks, seconds
            labels = sorted(model.labels)
            worst = min(overlap(masks[name] == v, first[name] == v) for name in masks for v in labels)
            now, before = (
                {name: score(those[name], references[name], labels) for name in references} for those in (masks, first)
            )
            change, name = max(abs(now[name] - before[name]) for name in now), f"{backend} {precision}"
            print(
                f"{name + ' padded' * padding:<24}{seconds:>9.2f}{base / seconds:>7.2f}{worst:>12.5f}{change:>17.5f}"
                f"{mean(now.values()):>11.5f}",
                flush=True,
            )


def prepared(given: argparse.Namespace, model: Model, work: Path) -> Iterator[Prepared]:
    """The cases of the fold, preprocessed."""
    fold = None
    if given.folds:
        with given.folds.open() as file:
            fold = {row["case"] for row in csv.DictReader(file) if row["fold"] == given.fold}
    for found in discover(given.dataset, None)[0]:
        if found.reference and (fold is None or found.name in fold):
            yield preprocess_case(ingest_case(found), model.plan, work)


def reference(case: Prepared) -> np.ndarray:
    """The reference in the box that was cropped, RAS+."""
    assert case.case.reference is not None
    labels = read_labels(case.case.reference, case.case.geometry, case.case.name)
    return crop(labels, case.crop_start, case.crop_shape)


def padded(network: Network, config: UNetConfig) -> Network:
    """`network`, which sees each image (B, C, X, Y, Z) with zeros at the far end, up to a multiple of all poolings."""
    factors = np.prod([config.pooling(level) for level in range(len(config.features) - 1)], axis=0)

    def run(image: Tensor) -> Tensor:
        size = image.shape[2:]
        room = [side for n, factor in zip(reversed(size), reversed(factors), strict=True) for side in (0, -n % factor)]
        return network(pad(image, room))[(slice(None), slice(None), *(slice(length) for length in size))]

    return run


def segment(cases: list[Prepared], model: Model, networks: list[Network], *, mirror: bool) -> tuple[Masks, float]:
    """The masks in the cropped boxes, and the seconds in `predict` after one that does not count."""
    axes = model.plan.augment.mirror_axes if mirror else ()
    masks, seconds = {}, 0.0
    for warm, case in [(False, cases[0]), *((True, case) for case in cases)]:
        image = torch.from_numpy(np.load(case.voxels))
        start = time.perf_counter()
        logits = predict(networks, image, model.plan.patch, axes).logits
        seconds += (time.perf_counter() - start) * warm
        masks[case.case.name] = restore_labels(logits.numpy(), case.crop_shape)
    return masks, seconds


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Dice, 1 where both are empty."""
    return dice(torch.from_numpy(one), torch.from_numpy(other)) if one.any() or other.any() else 1.0


def score(mask: np.ndarray, truth: np.ndarray, labels: list[int]) -> float:
    """Mean Dice over the labels; model values and class numbers are the same in the data sets used here."""
    return mean(overlap(mask == value, truth == value) for value in labels)


if __name__ == "__main__":
    main()
