"""Where a night's masks differ from the references: `python -m benchmarks.errors OUTPUT REFERENCES`.

OUTPUT holds masks, as a night or a training's `validation/` does; REFERENCES has label maps of the same names on the
same grids. Of all voxels that are wrong: which are at the surface of the whole structure, which at a border between two
labels, and how far those of the first kind are from the reference's surface. And what the Dice of each label would be
if the one or the other were as in the reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from unet.metrics import dice

Labels = NDArray[np.int_]


def main() -> None:
    """Print a line for the masks as they are, and for each of the two corrections."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("references", type=Path)
    given = arguments.parse_args()
    pairs = [
        (load(mask), load(given.references / mask.name))
        for mask in sorted((given.output / "segmentations").glob("*.nii.gz"))
    ]
    labels = sorted({int(value) for _, reference in pairs for value in np.unique(reference)} - {0})
    print(f"{len(pairs)} cases{'':<40}mean Dice of label {', '.join(map(str, labels))}, and of all together")
    for name, corrected in CORRECTIONS.items():
        scores = [scored(corrected(mask, reference), reference, labels) for mask, reference in pairs]
        print(f"{name:<50}" + "".join(f"{value:8.4f}" for value in np.nanmean(scores, axis=0)))
    far, surface, border = np.sum([count(*pair) for pair in pairs], axis=0)
    print(f"{surface / (surface + border):.1%} of the wrong voxels are at the surface, the others between labels")
    print(f"{far / surface:.1%} of those at the surface are more than a voxel from the reference's")


def load(path: Path) -> Labels:
    """The label map (X, Y, Z) in `path`."""
    return np.asarray(nibabel.load(path).dataobj).astype(int)


def filled(outline: Labels, inside: Labels) -> Labels:
    """`outline`, labelled as `inside` is where both have any label."""
    return np.where((outline > 0) & (inside > 0), inside, outline)


CORRECTIONS: dict[str, Callable[[Labels, Labels], Labels]] = {
    "as they are": lambda mask, _: mask,
    "with the reference's borders between labels": filled,
    "with the reference's surface": lambda mask, reference: filled(reference, mask),
}


def scored(mask: Labels, reference: Labels, labels: list[int]) -> list[float]:
    """Dice of each label, then of all together."""
    pairs: list[tuple[Any, Any]] = [(mask == label, reference == label) for label in labels]
    pairs.append((mask > 0, reference > 0))
    return [dice(torch.from_numpy(found), torch.from_numpy(truth)) for found, truth in pairs]


def count(mask: Labels, reference: Labels) -> tuple[int, int, int]:
    """Wrong voxels: at the surface and more than a voxel away from the reference's, at the surface, between labels."""
    inside = reference > 0
    surface = (mask > 0) != inside
    border = (mask != reference) & (mask > 0) & inside
    voxels = distance_transform_edt(inside) + distance_transform_edt(~inside)
    return int((surface & (voxels >= 2)).sum()), int(surface.sum()), int(border.sum())


if __name__ == "__main__":
    main()
