"""One case on three planes: the image in grey, the outlines of reference and prediction over it.

Every plane is in the radiological convention (the patient's right is on the left of the picture, and so is the front of
sagittal planes), with true proportions and one scale for the three.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray

from tasks.scan.files import write_whole
from tasks.scan.geometry import canonical_spacing_mm
from tasks.scan.records import Scores, Source, Spacing
from tasks.scan.volume import read_labels, read_voxels

# The axes that run across and up each plane (x to Right, y to Anterior, z to Superior). The axis across is always drawn
# backwards, so that right and anterior are on the left of the picture.
PLANES = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
LOW_END, HIGH_END = ("L", "P", "I"), ("R", "A", "S")
# Two colours of Okabe and Ito (2008), told apart in every common colour-blindness; solid and dashed for print.
OUTLINES = {"reference": ("#56b4e9", "solid"), "prediction": ("#e69f00", (0, (2.5, 1.2)))}
COMPARED = ("scored", "both_empty", "false_positive", "missed")
SIDE_INCHES, DOTS_PER_INCH = 4.0, 130
VIEW_RELATIVE_TO_STRUCTURE = 1.6
SHADOW: list[AbstractPathEffect] = [withStroke(linewidth=3, foreground="black", alpha=0.7)]

Labels = NDArray[np.uint16]
Interval = tuple[float, float]


def draw_planes(scores: Scores, folder: Path) -> dict[str, Path]:
    """The picture of each of `PLANES`, drawn from the case's files into `folder` as a square PNG.

    A plane is the slice with the most labelled voxels of the reference, or of the prediction where the reference is
    absent, refused or empty. Raises what reading raises: a `CaseError` or an `OSError`.
    """
    case = scores.segmentation.case
    voxels, geometry = read_voxels(case.image, case.name)
    prediction = read_labels(Source(format="nifti", files=(scores.segmentation.mask,)), geometry, case.name)
    reference = np.zeros_like(prediction)
    if case.reference and all(score.status in COMPARED for score in scores.scores):
        reference = read_labels(case.reference, geometry, case.name, case.image)
    structure = (reference if reference.any() else prediction) > 0
    spacing_mm = canonical_spacing_mm(geometry)
    views_mm = view_mm(structure, spacing_mm)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for plane, (across, up) in PLANES.items():
        through = 3 - across - up
        index = fullest_slice(structure, through)
        figure = Figure(figsize=(SIDE_INCHES, SIDE_INCHES), dpi=DOTS_PER_INCH, facecolor="black")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), facecolor="black", xticks=[], yticks=[])
        step_mm = (spacing_mm[across], spacing_mm[up])
        _draw_image(axes, np.take(voxels, index, axis=through), step_mm)
        _draw_outlines(axes, np.take(reference, index, axis=through), step_mm, "reference")
        _draw_outlines(axes, np.take(prediction, index, axis=through), step_mm, "prediction")
        axes.set(xlim=views_mm[across][::-1], ylim=views_mm[up])
        _name_the_ends(axes, across, up)
        _draw_scale(axes)
        paths[plane] = folder / f"{case.name}-{plane}.png"
        _save(figure, paths[plane])
    return paths


def fullest_slice(structure: NDArray[np.bool_], axis: int) -> int:
    """The index along `axis` with the most voxels of `structure`; of equals, and without any, the middle one."""
    counts = structure.sum(axis=tuple(other for other in range(3) if other != axis))
    fullest = np.flatnonzero(counts == counts.max())
    return int(fullest[len(fullest) // 2])


def view_mm(structure: NDArray[np.bool_], spacing_mm: Spacing) -> tuple[Interval, Interval, Interval]:
    """The interval to show along each axis, in mm from the first voxel's edge; the three have one length.

    The view holds the structure with some of its surroundings, and shows no more beyond the image than it must.
    """
    shown = structure if structure.any() else np.ones_like(structure)
    indices = [np.flatnonzero(shown.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    low = np.array([found[0] for found in indices]) * spacing_mm
    high = np.array([found[-1] + 1 for found in indices]) * spacing_mm
    lengths = np.array(structure.shape) * spacing_mm
    side = min(VIEW_RELATIVE_TO_STRUCTURE * (high - low).max(), lengths.max())
    margin = np.minimum(side, lengths) / 2
    centres = np.clip((low + high) / 2, margin, lengths - margin)
    x, y, z = ((float(centre - side / 2), float(centre + side / 2)) for centre in centres)
    return x, y, z


def _draw_image(axes: Axes, plane: NDArray[np.float32], step_mm: Interval) -> None:
    # Each voxel is drawn as the rectangle it is; smoothing would hide how coarse a scan is.
    dark, bright = np.percentile(plane, (0.5, 99.5))
    extent = (0, plane.shape[0] * step_mm[0], 0, plane.shape[1] * step_mm[1])
    axes.imshow(plane.T, cmap="gray", vmin=dark, vmax=bright, extent=extent, origin="lower", interpolation="nearest")


def _draw_outlines(axes: Axes, plane: Labels, step_mm: Interval, drawing: str) -> None:
    # One empty voxel around the plane closes the outline of a structure that touches the border.
    padded = np.pad(plane, 1)
    across, up = ((np.arange(length) - 0.5) * step for length, step in zip(padded.shape, step_mm, strict=True))
    colour, style = OUTLINES[drawing]
    for label in np.unique(plane[plane > 0]):
        outline = axes.contour(across, up, (padded == label).T, levels=[0.5], colors=colour, linestyles=[style])
        outline.set(linewidth=2, path_effects=SHADOW)


def _name_the_ends(axes: Axes, across: int, up: int) -> None:
    for letter, x, y in (
        (HIGH_END[across], 0.04, 0.5),
        (LOW_END[across], 0.96, 0.5),
        (HIGH_END[up], 0.5, 0.96),
        (LOW_END[up], 0.5, 0.04),
    ):
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            color="white",
            fontsize=15,
            ha="center",
            va="center",
            path_effects=SHADOW,
        )


def _draw_scale(axes: Axes) -> None:
    right, _ = axes.get_xlim()
    bottom, top = axes.get_ylim()
    side = top - bottom
    bar_mm = max(length for length in (1, 2, 5, 10, 20, 50, 100) if length <= max(side / 4, 1))
    start, height = right - 0.04 * side, bottom + 0.04 * side
    axes.plot((start, start - bar_mm), (height, height), color="white", linewidth=2, path_effects=SHADOW)
    axes.text(start, height + 0.02 * side, f"{bar_mm} mm", color="white", fontsize=13, path_effects=SHADOW)


def _save(figure: Figure, path: Path) -> None:
    content = BytesIO()
    figure.savefig(content, format="png", facecolor="black")
    write_whole(path, content.getvalue())
