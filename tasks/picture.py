"""Every case on three planes: the image in grey, the outlines of reference and prediction over it.

Every plane is in the radiological convention (the patient's right is on the left of the picture, and so is the front of
sagittal planes), with true proportions and one scale for the three. A picture has few colours and one byte a pixel, and
is drawn voxel by voxel: a night of hundreds of cases has one for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The axes that run across and up each plane (x to Right, y to Anterior, z to Superior). The axis across is always drawn
# backwards, so that right and anterior are on the left of the picture.
PLANES = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
# Two colours of Okabe and Ito (2008), told apart in every common colour-blindness; wide and narrow (pixels) for print.
OUTLINES = {"reference": ("#56b4e9", 4), "prediction": ("#e69f00", 2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Where the picture of a case is, below the output folder, or why there is none."""

    path: str = ""
    problem: str = ""


def picture_file(folder: Path, case: str) -> Path:
    """Where the picture of `case` belongs."""
    return folder / f"{case}.png"


def picture_at(folder: Path, case: str) -> Picture:
    """The picture of `case` in `folder`."""
    return Picture(path=f"{folder.name}/{picture_file(folder, case).name}")
