"""The frozen records that stages hand to each other: names, numbers, paths, and other records; never an array.

The order of the types is the order of the line: Case → Prepared → Prediction → Segmentation → Scores. Each keeps the
record before it, so whatever a later stage needs to undo a step is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import ConfigDict

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
Affine = tuple[tuple[float, float, float, float], ...]
Format = Literal["dicom", "sheared", "nifti", "itk", "channels"]
T = TypeVar("T")
FORBID_UNKNOWN = ConfigDict(extra="forbid")
"""For records that are read from a user's file: a key that does not exist is an error, not a default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The files of one image. A DICOM series lists its slices in the order of their positions.

    `sheared` is a DICOM series whose gantry tilt, if it has any, is to be sheared out. `channels` are several images of
    one scan, `parts`, in the order in which the network takes them; its `files` are all of theirs, each once.
    """

    format: Format
    files: tuple[Path, ...]
    frames: tuple[tuple[int, ...], ...] = ()
    """For each DICOM file, which of its frames are meant, counted from 0; empty: all of them."""
    volume: int | None = None
    """Of a NIfTI file that may hold several volumes, which one is meant, counted from 0; None: there is only one."""
    parts: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("a source needs at least one file")
        if self.frames and len(self.frames) != len(self.files):
            raise ValueError("frames are named for each file or for none")
        if (self.format == "channels") != (len(self.parts) > 1):
            raise ValueError("several channels have a part each, any other source has none")

    @property
    def channels(self) -> tuple[Source, ...]:
        """One source for each channel: this one, where there is only one."""
        return self.parts or (self,)

    @property
    def dicom_files(self) -> tuple[Path, ...]:
        """Those of `files` that are DICOM."""
        series = [channel for channel in self.channels if channel.format in ("dicom", "sheared")]
        return tuple(file for channel in series for file in channel.files)


def join_channels(sources: Sequence[Source]) -> Source:
    """The images of one scan as one source, first channel first; a single one stays what it is."""
    if len(sources) == 1:
        return sources[0]
    files = dict.fromkeys(file for source in sources for file in source.files)
    return Source(format="channels", files=tuple(files), parts=tuple(sources))


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The voxel grid as the file stores it; `affine` (4 × 4) takes the index of a voxel's centre to RAS+ mm."""

    shape: Shape
    affine: Affine

    @property
    def spacing_mm(self) -> Spacing:
        """Distance of neighbouring voxel centres along each stored axis."""
        columns = zip(*self.affine[:3], strict=True)
        x, y, z, _ = (sum(part * part for part in column) ** 0.5 for column in columns)
        return (x, y, z)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres; the axes are at right angles, or the case was refused."""
        x, y, z = self.spacing_mm
        return x * y * z / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One scan of the cohort, seen by its headers only: what and where it is, and its reference if there is one."""

    name: str
    image: Source
    geometry: Geometry
    reference: Source | None = None
    warnings: tuple[str, ...] = ()
    groups: dict[str, str] = field(default_factory=dict)
    """What the manifest or layout says beside: subject, session, site, scanner …"""


@runtime_checkable
class Located(Protocol):
    """Whatever says which files a case is: a `Case`, or what was found before its headers were read."""

    @property
    def image(self) -> Source:
        """The files of the scan."""

    @property
    def reference(self) -> Source | None:
        """The files of its reference, if there is one."""


@runtime_checkable
class OnDisk(Protocol):
    """Whatever is handed on with a work file, which the next stage reads and removes."""

    @property
    def work_file(self) -> Path:
        """An array, written by the stage before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A case as the network wants it: float32 `.npy` (C, X, Y, Z) on RAS+ axes at the model's spacing.

    Lengths are voxels. The steps, first to last: RAS+ axes (`canonical_shape`), crop (`crop_start`, `crop_shape`),
    resample (`resampled_shape`); for models of nnU-Net pad (`pad_start` before, the rest at the far end: the shape of
    the file), and for some of them the axes are those of the file instead.
    """

    case: Case
    voxels: Path
    canonical_shape: Shape
    crop_start: Shape
    crop_shape: Shape
    resampled_shape: Shape
    input_sha256: str
    pad_start: Shape = (0, 0, 0)
    content_sha256: str = ""
    """Of voxels and geometry (`tasks/scan/content.py`): what the ledger knows a scan by."""
    intensity: tuple[float, float, float] | None = None
    """0.5th, 50th and 99.5th percentile of the cropped scan."""

    @property
    def work_file(self) -> Path:
        """The network's input."""
        return self.voxels


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the network said: float32 logits `.npy` (K, X, Y, Z) on the grid of `prepared.voxels`.

    `agreement`: by class, how far the members of an ensemble, or the answers to the flipped images, agree: the mean
    Dice over all pairs of their own label maps, NaN where none has the class. Empty where there was one answer.
    `fallback`: how it was computed because a device had run out of memory; empty where it had not.
    `began` (seconds since 1970) and `seconds`: when the network had it, and for how long.
    """

    prepared: Prepared
    logits: Path
    device: str
    agreement: dict[int, float] = field(default_factory=dict)
    fallback: str = ""
    began: float = 0.0
    seconds: float = 0.0

    @property
    def work_file(self) -> Path:
        """The network's answer."""
        return self.logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What the segmentation of one label looks like by itself, without a reference; NaN where it is not known."""

    components: int
    border_voxels: int
    """Voxels in the outermost layer of the image."""
    boundary_entropy: float = math.nan
    """Of the network's answer at the label's boundary: 0 is certain, 1 a guess."""
    dice_expected: float = math.nan
    """The Dice that the network expects of itself, by its own probabilities."""
    agreement: float = math.nan
    """Mean Dice between the answers of an ensemble, or to flipped images."""
    relabelled: float = math.nan
    """Of the voxels that were found, the fraction that other labels got because labels follow one another."""
    removed: float = math.nan
    """Of the voxels left then, the fraction that was taken away because it was not of the largest piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """The label map on the scan's own grid, written, read back and verified. Volumes by label value, in millilitres."""

    case: Case
    mask: Path
    mask_sha256: str
    input_sha256: str
    volumes_ml: dict[int, float]
    content_sha256: str = ""
    """Of the scan's voxels and geometry; empty for a label map that no scan of this run became."""
    signs: dict[int, Signs] = field(default_factory=dict)
    """By label value."""
    dicom_seg: Path | None = None
    """The same as a DICOM SEG, where that was asked for."""
    intensity: tuple[float, float, float] | None = None
    """0.5th, 50th and 99.5th percentile of the scan, cropped to what is not 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One row of `metrics.csv`; NaN where a number is undefined or there was nothing to compare."""

    label: int
    name: str
    status: str
    dice: float
    jaccard: float
    hd95_mm: float
    assd_mm: float
    nsd: float
    nsd_tolerance_mm: float
    volume_reference_ml: float
    volume_prediction_ml: float
    volume_error: float
    components_reference: float
    components_prediction: float
    border_voxels: float = math.nan
    boundary_entropy: float = math.nan
    dice_expected: float = math.nan
    agreement: float = math.nan

    def __post_init__(self) -> None:
        expected = self.dice / (2 - self.dice)
        undefined = math.isnan(self.jaccard) and math.isnan(expected)
        if not undefined and not math.isclose(self.jaccard, expected, abs_tol=1e-12):
            raise ValueError(f"jaccard {self.jaccard} does not belong to dice {self.dice}: it must be {expected}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A segmented case with one `Score` per label."""

    segmentation: Segmentation
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a case stopped. `quarantined`: the input is at fault. `failed`: this program is. `carried_over`: no time."""

    stage: str
    status: Literal["quarantined", "failed", "carried_over"]
    reason: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one stage took for one case. Peak memory is the process's high-water mark after the stage.

    `began` is seconds since 1970; 0 where it is not known.
    """

    stage: str
    seconds: float
    peak_memory_mb: float
    began: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[T]):
    """What became of one case so far: exactly one of these exists per case, from ingest to report.

    `value` is the last stage's record, or None once a stage failed; `case` stays, when the headers were readable.
    A case whose reference was refused has both: scores without numbers, and the problem.
    """

    name: str
    case: Case | None = None
    value: T | None = None
    problem: Problem | None = None
    costs: tuple[Cost, ...] = ()
    found: Located | None = None
    """The files of a case that was refused before there was a `case`."""
    unchanged: bool = False
    """Whether this is the result of an earlier night, which still holds: nothing was done for it tonight."""
