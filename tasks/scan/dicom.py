"""DICOM series and enhanced objects as one volume: which frames it has, in which order, and where they lie.

SimpleITK leaves a truncated slice out and reads the rest with a warning; this raises. DICOM's axes are LPS; the change
to RAS+ happens in `affine_from_lps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.scan.errors import (
    CaseError,
    ColourImage,
    DuplicateSlice,
    MixedContrasts,
    MixedOrientations,
    MosaicImage,
    UnreadableImage,
    UnsupportedImage,
    UnusableGeometry,
)
from tasks.scan.frame import Frame, have_echoes, source_of
from tasks.scan.frames import read_frames
from tasks.scan.geometry import affine_from_lps
from tasks.scan.pixels import read_pixels
from tasks.scan.reading import Header, reading, shown
from tasks.scan.records import Geometry, Source
from tasks.scan.slices import check_gaps, check_upright, uneven_steps

ORIENTATION_TOLERANCE = 1e-4
"""Direction cosines of one series differ by 1e-7 in real data; this much moves a corner by less than 0.1 mm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The frames of one volume in the order of their positions, parallel and at equal distances."""

    frames: tuple[Frame, ...]
    step_mm: float

    @property
    def positions_mm(self) -> NDArray[np.float64]:
        """Where the first voxel of each frame lies (N, 3), on LPS axes."""
        return np.array([frame.position_mm for frame in self.frames])

    @property
    def directions(self) -> NDArray[np.float64]:
        """Unit vectors, as columns, along which column, row and slice number grow, on LPS axes."""
        first = self.frames[0]
        return np.stack([first.orientation[:3], first.orientation[3:], first.normal], axis=1)

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance of columns, rows and slices."""
        rows_mm, columns_mm = self.frames[0].spacing_mm
        return np.array([columns_mm, rows_mm, self.step_mm])

    @property
    def warnings(self) -> tuple[str, ...]:
        """Steps that are not quite even; and words that differ, which need not be, but may be, another contrast."""
        types = len({frame.image_type for frame in self.frames})
        descriptions = len({frame.description for frame in self.frames})
        counts = {"image types": types, "series descriptions": descriptions}
        words = [f"one volume has slices of {count} {name}" for name, count in counts.items() if count > 1]
        steps = uneven_steps(self.positions_mm @ self.frames[0].normal)
        return (*([f"steps from {steps}, read as {self.step_mm:.3g} mm each"] if steps else []), *words)


def read_header(source: Source, case: str) -> Header:
    """The grid of a series, index (column, row, slice), and its files in the order of the slices' positions.

    The spacing of slices is the distance of their positions, and every gap is checked.

    Raises:
        GantryTilt, and what `read_stack` raises.
    """
    stack = _read_upright(source, case)
    return Header(source=source_of(stack.frames), geometry=grid_of(stack), warnings=stack.warnings)


def read_stored(source: Source, case: str) -> tuple[NDArray[np.float32], Geometry]:
    """All voxels, index (column, row, slice), in the units of the rescale tags, and the grid.

    Raises:
        what `read_header` raises; TruncatedPixels, UnreadableImage for a slice that is cut short or cannot be decoded.
    """
    stack = _read_upright(source, case)
    return read_pixels(stack.frames, case), grid_of(stack)


def read_stack(source: Source, case: str) -> Stack:
    """The frames of `source`, sorted and checked: whole, of one kind, parallel, at equal distances. Tilt is allowed.

    Raises:
        UnreadableImage, UnsupportedImage, ColourImage, MosaicImage, UnusableGeometry, MixedOrientations, TimeSeries,
        MissingSlice, DuplicateSlice, UnevenSlices, MixedContrasts
    """
    frames = _frames(source, case)
    _check_whole(frames, case)
    _check_supported(frames, case)
    _check_placed(frames, case)
    _check_copies(frames, case)
    normal = frames[0].normal
    frames.sort(key=lambda frame: float(np.dot(frame.position_mm, normal)))
    step_mm = check_gaps(np.array([frame.position_mm for frame in frames]), normal, case)
    _check_contrast(frames, case)
    return Stack(frames=tuple(frames), step_mm=step_mm)


def grid_of(stack: Stack) -> Geometry:
    """The grid of `stack`, index (column, row, slice); of right angles where there is no tilt."""
    first = stack.frames[0]
    return Geometry(
        shape=(first.columns, first.rows, len(stack.frames)),
        affine=affine_from_lps(stack.directions, stack.spacing_mm, stack.positions_mm[0]),
    )


def _frames(source: Source, case: str) -> list[Frame]:
    frames: list[Frame] = []
    for number, file in enumerate(source.files):
        with reading(file, case):
            found = read_frames(file, case)
            frames += [found[index] for index in source.frames[number]] if source.frames else found
    return frames


def _read_upright(source: Source, case: str) -> Stack:
    stack = read_stack(source, case)
    check_upright(stack.positions_mm, stack.directions[:, 2], case)
    return stack


def _check_whole(frames: Sequence[Frame], case: str) -> None:
    """Raises UnreadableImage if a file ends before it gives the picture's size: pydicom takes that for a header."""
    for frame in frames:
        if frame.rows == 0 or frame.columns == 0:
            raise UnreadableImage(
                case,
                found=f"'{shown(frame.file)}' ends before its pixels",
                needed="complete slices",
                remedy="send the series again from the scanner or archive",
            )


def _check_supported(frames: Sequence[Frame], case: str) -> None:
    """Raises unless the frames are slices of one series, one grey value a pixel."""
    series = len({frame.series for frame in frames})
    together = max(1 if frame.described else frame.count for frame in frames)
    wrong: list[tuple[bool, type[CaseError], str]] = [
        (series > 1, UnsupportedImage, f"{series} series instead of one"),
        (any(frame.colour for frame in frames), ColourImage, "a series in colour"),
        (
            any("MOSAIC" in frame.image_type for frame in frames),
            MosaicImage,
            "a series of mosaics (many slices in one picture)",
        ),
        (together > 1, UnsupportedImage, f"a multi-frame image of {together} frames, none with a position of its own"),
        (
            len({(frame.rows, frame.columns) for frame in frames}) > 1,
            UnsupportedImage,
            "slices of different sizes",
        ),
        (len(frames) == 1, UnsupportedImage, "a series of a single slice"),
    ]
    for is_so, error, found in wrong:
        if is_so:
            raise error(
                case,
                found=found,
                needed="one series of at least two grey slices, each with its position",
                remedy="export it as such a series, or convert it to NIfTI",
            )


def _check_placed(frames: Sequence[Frame], case: str) -> None:
    """Raises unless every slice says where it is, and all are parallel and have equal pixels."""
    first = frames[0]
    error: type[CaseError] = UnusableGeometry
    found = ""
    if not all(frame.position_mm and frame.orientation and frame.spacing_mm for frame in frames):
        found = "a slice lacks its position, orientation or pixel spacing"
    elif min(min(frame.spacing_mm) for frame in frames) <= 0:
        found = "a slice has pixels whose sides are not above 0 mm"
    elif not all(
        np.allclose(frame.orientation, first.orientation, rtol=0, atol=ORIENTATION_TOLERANCE) for frame in frames
    ):
        error, found = MixedOrientations, "the slices are not parallel"
    elif not all(np.allclose(frame.spacing_mm, first.spacing_mm, rtol=1e-4) for frame in frames):
        found = "the slices have different pixel spacings"
    elif abs(np.linalg.norm(first.normal) - 1) > 1e-3:
        found = "the row and column directions of the slices are not at right angles"
    if found:
        raise error(
            case,
            found=found,
            needed="parallel slices with position, orientation and pixel spacing",
            remedy="export the series again; slices that lie across each other must become series of their own",
        )


def _check_copies(frames: Sequence[Frame], case: str) -> None:
    """Raises DuplicateSlice if one slice was exported twice: all slices twice would look like a time series.

    Not all that share an identifier are copies: careless anonymisers give one to all slices.
    """
    instances = [(frame.instance, frame.index, frame.position_mm) for frame in frames if frame.instance]
    copies = len(instances) - len(set(instances))
    if copies:
        raise DuplicateSlice(
            case,
            found=f"{copies} of {len(frames)} slices are copies of another one, under the same identifier",
            needed="each slice once",
            remedy="remove the copies, or export the series again into an empty folder",
        )


def _check_contrast(frames: Sequence[Frame], case: str) -> None:
    """Raises MixedContrasts if slices that lie like one volume differ in what they measured."""
    mixed = {
        "complex components": len({frame.component for frame in frames if frame.component}) > 1,
        "echo times": have_echoes(frames),
        "temporal positions": len({frame.time for frame in frames if frame.time}) > 1,
        "b-values": len({frame.b_value for frame in frames if frame.b_value}) > 1,
    }
    names = [name for name, is_mixed in mixed.items() if is_mixed]
    if names:
        raise MixedContrasts(
            case,
            found=f"slices of different {' and '.join(names)} in one stack",
            needed="slices that measured one thing",
            remedy="export those of each kind as a series of their own",
        )
