"""DICOM series with gantry tilt, sheared out: each slice is moved within its own plane onto an upright grid.

The slices of a tilted CT are parallel, but each lies a little aside of the one before, so that the axes of the grid do
not meet at right angles, which neither a network nor a NIfTI qform can say. Upright, every slice keeps its plane, its
pixels' size and its distance to the next. The field of view grows by what the slices were moved: nothing is cut off.
Between pixels the move is linear, as in `dcm2niix`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.scan import dicom
from tasks.scan.dicom import Stack
from tasks.scan.errors import GantryTilt
from tasks.scan.frame import source_of
from tasks.scan.geometry import affine_from_lps
from tasks.scan.pixels import read_pixels
from tasks.scan.reading import Header
from tasks.scan.records import Geometry, Source
from tasks.scan.slices import tilt_degrees

STEEPEST_DEGREES = 45.0
"""No gantry tilts further; positions that do are wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upright:
    """Where the slices go: `moves` (N, 2) is how far each is moved, in pixels, not below 0; `grid` holds them all."""

    moves: NDArray[np.float64]
    grid: Geometry


def read_header(source: Source, case: str) -> Header:
    """The upright grid of a tilted series, with a warning that says so; any other series as `dicom.read_header` has it.

    Raises:
        GantryTilt: more than 45°. What `dicom.read_stack` raises.
    """
    stack = dicom.read_stack(source, case)
    plain = source_of(stack.frames)
    degrees = _tilt(stack, case)
    if not degrees:
        return Header(source=plain, geometry=dicom.grid_of(stack), warnings=stack.warnings)
    warning = f"gantry tilt of {degrees:.1f}° sheared out: the mask lies on the upright grid, not on the scan's slices"
    warnings = (*stack.warnings, warning)
    return Header(source=replace(plain, format="sheared"), geometry=upright(stack).grid, warnings=warnings)


def read_stored(source: Source, case: str) -> tuple[NDArray[np.float32], Geometry]:
    """All voxels of a tilted series on its upright grid; where no slice was measured, the lowest value of the series.

    Raises:
        what `read_header` raises; TruncatedPixels, UnreadableImage for a slice that is cut short or cannot be decoded.
    """
    stack = dicom.read_stack(source, case)
    voxels = read_pixels(stack.frames, case)
    if not _tilt(stack, case):
        return voxels, dicom.grid_of(stack)
    target = upright(stack)
    columns, rows, _ = target.grid.shape
    moved = np.empty(target.grid.shape, np.float32, order="F")
    lowest = float(voxels.min())
    for index, (along_row, along_column) in enumerate(target.moves.tolist()):
        within = move(voxels[:, :, index], along_row, columns, lowest)
        moved[:, :, index] = move(within.T, along_column, rows, lowest).T
    return moved, target.grid


def upright(stack: Stack) -> Upright:
    """How the slices of `stack` must be moved within their planes to lie above each other."""
    away_mm = stack.positions_mm - stack.positions_mm[0]
    moves = away_mm @ stack.directions[:, :2] / stack.spacing_mm[:2]
    moves = np.where(np.abs(moves) < 1e-3, 0, moves)
    first = moves.min(axis=0)
    frame = stack.frames[0]
    further = np.ceil(moves.max(axis=0) - first).astype(int)
    origin_mm = stack.positions_mm[0] + stack.directions[:, :2] @ (first * stack.spacing_mm[:2])
    shape = (frame.columns + int(further[0]), frame.rows + int(further[1]), len(stack.frames))
    affine = affine_from_lps(stack.directions, stack.spacing_mm, origin_mm)
    return Upright(moves=moves - first, grid=Geometry(shape=shape, affine=affine))


def move(pixels: NDArray[np.float32], pixels_further: float, length: int, outside: float) -> NDArray[np.float32]:
    """`pixels` (A, B), moved up the first axis by that many, linearly between pixels, on an axis of `length`.

    >>> move(np.array([[1], [3]], np.float32), 0.5, 3, outside=0).ravel().tolist()
    [0.5, 2.0, 1.5]
    """
    whole = int(np.floor(pixels_further))
    part = pixels_further - whole
    padded = np.full((length + 1, pixels.shape[1]), outside, np.float32)
    padded[1 + whole : 1 + whole + len(pixels)] = pixels
    return (1 - part) * padded[1:] + part * padded[:-1]


def _tilt(stack: Stack, case: str) -> float:
    """The tilt in degrees; 0 where rounding explains it. Raises GantryTilt where no gantry does."""
    degrees = tilt_degrees(stack.positions_mm, stack.directions[:, 2])
    if degrees > STEEPEST_DEGREES:
        raise GantryTilt(
            case,
            found=f"the slices are stacked {degrees:.0f}° away from their normal",
            needed=f"a gantry tilt of at most {STEEPEST_DEGREES:.0f}°",
            remedy="export the series again: its positions cannot be right",
        )
    return degrees
