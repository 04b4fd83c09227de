"""Whether the slices of a series lie one after the other at equal distances: every gap is looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.scan.errors import DuplicateSlice, GantryTilt, MissingSlice, TimeSeries, UnevenSlices, UnusableGeometry

SAME_POSITION_MM = 1e-3
"""Slices closer than this are at one position."""

STEP_TOLERANCE = 0.01
"""A gap may differ from the usual step by this fraction of it, and by 0.01 mm, which is how positions get rounded."""

ROUNDED_MM, ROUNDED_STEP = 0.1, 1 / 6
"""Gaps that differ by more are read, with a warning, if no slice lies further than this, nor than this fraction of a
step, from where equal steps put it: positions rounded to 0.1 mm do that to slices 0.6 mm apart."""

DRIFT_TOLERANCE = 0.1
"""Fraction of a step by which gaps that differ by less may add up."""

TILT_TOLERANCE_DEGREES, ASIDE_TOLERANCE_MM = 0.1, 0.1
"""How far the line of the positions may turn away from the slices' normal, or one end of it move, by rounding alone."""


def check_gaps(positions_mm: NDArray[np.float64], normal: NDArray[np.float64], case: str) -> float:
    """The distance of neighbouring slices in mm along `normal`, for positions (N, 3) sorted along it.

    Raises:
        TimeSeries: each position is held by equally many slices. DuplicateSlice: some position is held twice.
        MissingSlice: a gap of two or more steps; UnevenSlices: any other gap that is not one step.
        UnusableGeometry: a slice lies beside the line of the others.
    """
    heights_mm = positions_mm @ normal
    gaps_mm = np.diff(heights_mm)
    _check_duplicates(heights_mm, gaps_mm, case)
    _check_steps(heights_mm, gaps_mm, case)
    _check_line(positions_mm, case)
    return float(heights_mm[-1] - heights_mm[0]) / len(gaps_mm)


def check_upright(positions_mm: NDArray[np.float64], normal: NDArray[np.float64], case: str) -> None:
    """Nothing, if the slices are stacked along their normal. Raises GantryTilt."""
    if degrees := tilt_degrees(positions_mm, normal):
        raise GantryTilt(
            case,
            found=f"the slices are stacked {degrees:.1f}° away from their normal (gantry tilt)",
            needed="slices stacked at right angles",
            remedy='set ingest.tilt = "shear" to have them moved onto an upright grid, '
            "or reconstruct the series without tilt",
        )


def tilt_degrees(positions_mm: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    """The angle between the slices' normal and the line from the first to the last position; 0 if rounding made it."""
    line = positions_mm[-1] - positions_mm[0]
    along_mm = float(line @ normal)
    aside_mm = float(np.linalg.norm(line - along_mm * normal))
    degrees = float(np.degrees(np.arctan2(aside_mm, along_mm)))
    return degrees if degrees > TILT_TOLERANCE_DEGREES and aside_mm > ASIDE_TOLERANCE_MM else 0.0


def uneven_steps(heights_mm: NDArray[np.float64]) -> str:
    """From which to which step the gaps between sorted `heights_mm` go, where they differ by more than a little."""
    gaps_mm = np.diff(heights_mm)
    step_mm = _usual(gaps_mm)
    if np.abs(gaps_mm - step_mm).max() <= _tolerance_mm(step_mm):
        return ""
    return f"{gaps_mm.min():.2f} to {gaps_mm.max():.2f} mm"


def volumes_at_each_position(heights_mm: NDArray[np.float64]) -> int:
    """How many slices each position holds (heights sorted, in mm); 0 where the positions hold different numbers."""
    starts = np.flatnonzero(np.diff(heights_mm, prepend=-np.inf) > SAME_POSITION_MM)
    counts = set(np.diff([*starts, len(heights_mm)]).tolist())
    return counts.pop() if len(counts) == 1 else 0


def _check_duplicates(heights_mm: NDArray[np.float64], gaps_mm: NDArray[np.float64], case: str) -> None:
    same = np.flatnonzero(gaps_mm < SAME_POSITION_MM)
    if same.size == 0:
        return
    volumes = volumes_at_each_position(heights_mm)
    if volumes:
        raise TimeSeries(
            case,
            found=f"a series of {volumes} volumes: each position holds {volumes} slices",
            needed="one 3-D volume",
            remedy="export the one that should be segmented as a series of its own",
        )
    raise DuplicateSlice(
        case,
        found=f"{same.size} of {len(heights_mm)} slices lie where another one does, "
        f"the first at {heights_mm[same[0]]:.2f} mm",
        needed="one slice at each position",
        remedy="remove the copies, or export the series again",
    )


def _check_steps(heights_mm: NDArray[np.float64], gaps_mm: NDArray[np.float64], case: str) -> None:
    step_mm = _usual(gaps_mm)
    tolerance_mm = _tolerance_mm(step_mm)
    even_mm = np.linspace(heights_mm[0], heights_mm[-1], len(heights_mm))
    drift_mm = float(np.abs(heights_mm - even_mm).max())
    odd = np.flatnonzero(np.abs(gaps_mm - step_mm) > tolerance_mm)
    if odd.size == 0:
        if drift_mm > max(tolerance_mm, DRIFT_TOLERANCE * step_mm):
            raise _uneven(case, f"slices drift up to {drift_mm:.2f} mm away from equal steps")
        return
    if drift_mm <= min(ROUNDED_MM, ROUNDED_STEP * step_mm):
        return
    steps = np.rint(gaps_mm / step_mm)
    whole = (np.abs(gaps_mm - steps * step_mm) <= tolerance_mm * steps) & (steps >= 2)
    if not whole[odd].all():
        raise _uneven(case, f"steps from {gaps_mm.min():.2f} to {gaps_mm.max():.2f} mm between slices")
    missing = int(steps[odd].sum()) - odd.size
    first = odd[0]
    raise MissingSlice(
        case,
        found=f"{missing} slice{'s' * (missing > 1)} missing: after {heights_mm[first]:.2f} mm the next is at "
        f"{heights_mm[first + 1]:.2f} mm, where the usual step is {step_mm:.2f} mm"
        + (f" ({odd.size} such gaps)" if odd.size > 1 else ""),
        needed="a slice at every step",
        remedy="send the complete series again from the scanner or archive",
    )


def _check_line(positions_mm: NDArray[np.float64], case: str) -> None:
    along = positions_mm - positions_mm[0]
    line = along[-1] / np.linalg.norm(along[-1])
    aside_mm = float(np.linalg.norm(along - np.outer(along @ line, line), axis=1).max())
    if aside_mm > ASIDE_TOLERANCE_MM:
        raise UnusableGeometry(
            case,
            found=f"a slice lies {aside_mm:.2f} mm beside the line of the others",
            needed="slices stacked on one line",
            remedy="export the series again",
        )


def _uneven(case: str, found: str) -> UnevenSlices:
    return UnevenSlices(
        case, found=found, needed="equal steps", remedy="export the series again, or one of its parts with equal steps"
    )


def _usual(gaps_mm: NDArray[np.float64]) -> float:
    """The median of `gaps_mm`: one that occurs, and not the wider one of two."""
    return float(np.sort(gaps_mm)[(len(gaps_mm) - 1) // 2])


def _tolerance_mm(step_mm: float) -> float:
    return 0.01 + STEP_TOLERANCE * step_mm
