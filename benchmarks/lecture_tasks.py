"""The lecture's tasks on real data: waves of the heart, nuclei, both denoised, and the hippocampus in 3-D.

Each task holds volumes to learn from, others of people or images never seen, and a trivial answer to be compared with.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from matplotlib.image import imread
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor

from unet import Volume

NOISE_SD = 0.5
SMOOTHINGS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
Answer = Callable[[Volume], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """`classes` names the foreground classes, none for regression; `trivial` answers as the network does."""

    name: str
    learnt: Sequence[Volume]
    unseen: Sequence[Volume]
    classes: tuple[str, ...]
    trivial_name: str
    trivial: Answer
    patch: tuple[int, ...]
    features: tuple[int, ...]
    batch_size: int
    rotation_degrees: float = 0.0


def load_tasks(data: Path) -> list[Task]:
    """All five tasks, from the folder that holds `ecg`, `nuclei` and `hippocampus`."""
    heart, cells = (
        waves(data / "ecg" / "segments"),
        nuclei(data / "nuclei"),
    )
    return [heart, cells, denoising(heart), denoising(cells), hippocampus(data / "hippocampus")]


def waves(folder: Path) -> Task:
    """One-lead strips of 600 samples with the three waves of LUDB; every fifth patient is never seen."""
    learnt, unseen = [], []
    for path in sorted(folder.glob("*.npy")):
        strip = np.load(path)
        volume = Volume(torch.from_numpy(_scaled(strip[:1])), torch.from_numpy(_wave_classes(strip[1:])))
        (unseen if int(path.stem.split("_")[0]) % 5 == 0 else learnt).append(volume)
    votes = torch.stack([torch.nn.functional.one_hot(one.target.long(), 4) for one in learnt]).sum(0)
    return Task(
        name="1-D segmentation: waves of the heart",
        learnt=learnt,
        unseen=unseen,
        classes=("wave 1", "wave 2", "wave 3"),
        trivial_name="the most frequent class at each sample",
        trivial=lambda _: votes.argmax(-1),
        patch=(608,),
        features=(16, 32, 64, 128, 256),
        batch_size=16,
    )


def nuclei(folder: Path) -> Task:
    """Fluorescence microscopy of 256 to 1024 pixels a side; every fourth image is never seen."""
    volumes = []
    for path in sorted((folder / "images").glob("*.png")):
        image, mask = imread(path), imread(folder / "labels" / path.name)
        volumes.append(Volume(torch.from_numpy(_scaled(image[None])), torch.from_numpy((mask > 0).astype(np.uint8))))
    return Task(
        name="2-D segmentation: nuclei",
        learnt=[volume for number, volume in enumerate(volumes) if number % 4],
        unseen=volumes[::4],
        classes=("nucleus",),
        trivial_name="Otsu's threshold",
        trivial=lambda volume: (volume.image[0] > otsu(volume.image[0].numpy())).to(torch.uint8),
        patch=(128, 128),
        features=(16, 32, 64, 128),
        batch_size=8,
        rotation_degrees=180.0,
    )


def denoising(of: Task) -> Task:
    """The images of a task, with noise of half their own deviation added; the answer is the image without it."""
    random = torch.Generator().manual_seed(0)

    def noisy(volume: Volume) -> Volume:
        return Volume(volume.image + NOISE_SD * torch.randn(volume.image.shape, generator=random), volume.image)

    learnt, unseen = [noisy(volume) for volume in of.learnt], [noisy(volume) for volume in of.unseen]
    sigma = min(SMOOTHINGS, key=lambda width: np.mean([_error(smooth(one, width), one) for one in learnt[:100]]))
    return Task(
        name=f"{of.name[:3]} regression: denoising of the {of.name.rsplit(' ', 1)[-1]} images",
        learnt=learnt,
        unseen=unseen,
        classes=(),
        trivial_name=f"Gaussian smoothing, the best width ({sigma:g})",
        trivial=lambda volume: smooth(volume, sigma),
        patch=of.patch,
        features=of.features,
        batch_size=of.batch_size,
    )


def hippocampus(folder: Path, held_out: int = 0) -> Task:
    """Cropped T1 volumes with head and body; the fold `held_out` of `folds.csv`, by subject, is never seen."""
    with (folder / "folds.csv").open(newline="") as file:
        fold_of = {row["case"]: int(row["fold"]) for row in csv.DictReader(file)}
    learnt, unseen = [], []
    for name, fold in sorted(fold_of.items()):
        image = nibabel.load(next((folder / "imagesTr").glob(f"{name}.nii*"))).get_fdata(dtype=np.float32)
        labels = np.asarray(nibabel.load(next((folder / "labelsTr").glob(f"{name}.nii*"))).dataobj).astype(np.uint8)
        volume = Volume(torch.from_numpy(_scaled(image[None])), torch.from_numpy(labels))
        (unseen if fold == held_out else learnt).append(volume)
    atlas = _atlas(learnt, 3)
    return Task(
        name="3-D segmentation: hippocampus",
        learnt=learnt,
        unseen=unseen,
        classes=("head", "body"),
        trivial_name="a vote of all references, scaled to the volume",
        trivial=lambda volume: _stretched(atlas, volume.target.shape).argmax(0),
        patch=(40, 56, 40),
        features=(16, 32, 64, 128),
        batch_size=4,
        rotation_degrees=20.0,
    )


def otsu(image: np.ndarray) -> float:
    """The threshold that separates `image` into the two groups of least variance within (Otsu 1979)."""
    counts, edges = np.histogram(image, bins=256)
    centres, below = (edges[:-1] + edges[1:]) / 2, np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    inside = slice(0, -1)
    between = (
        below[inside] * above[inside] * (sums[inside] / below[inside] - (sums[-1] - sums[inside]) / above[inside]) ** 2
    )
    return float(centres[int(np.nanargmax(between))])


def smooth(volume: Volume, width: float) -> Tensor:
    """The image (1, X, Y) of `volume` under a Gaussian of `width` samples."""
    return torch.from_numpy(gaussian_filter(volume.image[0].numpy(), width))[None]


def _error(output: Tensor, volume: Volume) -> float:
    return float((output - volume.target).square().mean())


def _scaled(image: np.ndarray) -> np.ndarray:
    return ((image - image.mean()) / max(float(image.std()), 1e-8)).astype(np.float32)


def _wave_classes(one_hot: np.ndarray) -> np.ndarray:
    """Class numbers of the four rows; the last row is no wave, and becomes 0."""
    return ((one_hot.argmax(0) + 1) % 4).astype(np.uint8)


def _atlas(volumes: Sequence[Volume], classes: int) -> np.ndarray:
    """Share of references of each class, all scaled to the median shape."""
    shape = np.median([volume.target.shape for volume in volumes], axis=0).astype(int)
    votes = np.zeros((classes, *shape), np.float32)
    for volume in volumes:
        factors = shape / np.array(volume.target.shape)
        labels = zoom(volume.target.numpy(), factors, order=0, grid_mode=True, mode="nearest")
        votes += np.arange(classes)[:, None, None, None] == labels
    return votes / len(volumes)


def _stretched(atlas: np.ndarray, shape: torch.Size) -> Tensor:
    return torch.nn.functional.interpolate(torch.from_numpy(atlas)[None], size=tuple(shape), mode="trilinear")[0]
