"""What is known of a frame of a DICOM file once its header has been read, and of what a segmentation was made on.

Records alone: who sorts the frames of a cohort into scans needs no reader of DICOM. `tasks/scan/frames.py` reads them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.scan.records import Source

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Classes of DICOM segmentations: one bit a voxel and segment, and label maps."""
COMPONENTS = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")
ECHO_TOLERANCE_MS = 0.1
"""Echo times of one volume jitter in their last digits; those of two echoes are further apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame of one file. `position_mm`, `orientation` (row, then column direction) are on LPS axes.

    `spacing_mm` is the distance of rows, then of columns. Empty tuples stand for what the header lacks. `index` counts
    the `count` frames of the file from 0. Where the file has one header for many frames, it is not `described`, and
    this is the first.
    """

    file: Path
    index: int
    count: int
    described: bool
    sop_class: str
    class_name: str
    """What the standard calls its class; empty where that is not known."""
    instance: str
    series: str
    rows: int
    columns: int
    colour: bool
    image_type: tuple[str, ...]
    stack: str
    echo_ms: str
    time: str
    """Number of the temporal position."""
    b_value: str
    """Of diffusion, in s/mm²."""
    description: str
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    slope: float
    intercept: float

    @property
    def contrast(self) -> tuple[Hashable, ...]:
        """What slices of one volume have in common beside their geometry and, but for its jitter, their echo time."""
        return (self.image_type, self.time, self.b_value, self.description)

    @property
    def component(self) -> frozenset[str]:
        """Whether the voxels are magnitudes, phases … of a complex signal, where the image type says so."""
        return frozenset(self.image_type) & {"M", "P", "R", "I", *COMPONENTS}

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector at right angles to the slice."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def height_mm(self) -> float:
        """Where the slice lies along its normal."""
        return float(np.dot(self.position_mm, self.normal))


@dataclass(frozen=True, slots=True, kw_only=True)
class Referenced:
    """What a segmentation was made on, by UID."""

    series: frozenset[str]
    instances: frozenset[str]

    def has(self, frame: Frame) -> bool:
        """Whether `frame` is of the series, or the image, that the segmentation names."""
        return frame.series in self.series or frame.instance in self.instances


def source_of(frames: Sequence[Frame]) -> Source:
    """The files that hold `frames`, each once, in their order; and which frames of each, where it holds more."""
    chosen: dict[str, list[Frame]] = {}
    for frame in frames:
        chosen.setdefault(str(frame.file), []).append(frame)
    indices = tuple(tuple(sorted(frame.index for frame in parts)) for parts in chosen.values())
    return Source(
        format="dicom",
        files=tuple(parts[0].file for parts in chosen.values()),
        frames=indices if any(frame.count > 1 for frame in frames) else (),
    )


def have_echoes(frames: Sequence[Frame]) -> bool:
    """Whether the echo times of `frames` differ by more than the jitter of one."""
    echoes_ms = [float(frame.echo_ms) for frame in frames if frame.echo_ms]
    return bool(echoes_ms) and max(echoes_ms) - min(echoes_ms) > ECHO_TOLERANCE_MS
