"""Everything that can be wrong, as one tree.

PipelineError
├── CaseError                 one case's data is wrong: never retried, always reported, the others go on
│   ├── UnreadableImage       the file is truncated, corrupt, or not what its name says
│   ├── TruncatedPixels       a slice ends before its pixels do
│   ├── UnsupportedImage      readable, but not one 3-D volume of scalar voxels
│   ├── ColourImage           a DICOM series in colour
│   ├── MosaicImage           a DICOM series with many slices in one picture
│   ├── TimeSeries            a DICOM series of several volumes at the same positions
│   ├── MixedContrasts        the slices of a series measured different things: echoes, times …
│   ├── MixedOrientations     the slices of a series are not parallel
│   ├── GantryTilt            the slices of a series are not stacked at right angles
│   ├── TooLarge              the header claims more voxels than a scan may have
│   ├── NotEnoughMemory       the network would need more memory for the scan than there is
│   ├── DecompressionBomb     a small file that would unpack to something huge and nearly constant
│   ├── StillBeingWritten     the file changed while the cohort was looked at
│   ├── ChannelMismatch       a case has other channels than its data set or the model
│   ├── UnusableGeometry      the header does not say where the voxels are
│   ├── MissingSlice          a series has a gap
│   ├── DuplicateSlice        a series has two slices at one position
│   ├── UnevenSlices          the slices of a series are not equally spaced
│   ├── NonFiniteVoxels       NaN or infinity among the voxels
│   ├── EmptyImage            all voxels have one value: there is nothing to segment
│   ├── GridMismatch          image and reference, or two channels, are on different grids
│   ├── ForeignReference      a DICOM segmentation that was made on another series
│   ├── OverlappingSegments   a DICOM segmentation that gives a voxel to two segments
│   ├── UnknownLabel          a reference holds a value the model has no label for
│   ├── NoReference           a case of a training set without a label map, or with an empty one
│   ├── NoPrediction          a reference to which no segmentation belongs
│   ├── OutOfMemory           the case needs more memory than a process may have
│   ├── WorkerDied            the process that worked on the case was killed, each time
│   └── CaseTimedOut          the case took longer than a case may take
└── SetupError                the run itself is wrong: stop before the first case
    ├── UnknownSetting        a setting that does not exist, or a value it cannot have
    ├── EmptyCohort           no scan found, or too few to train on
    ├── MissingLabel          a label that no case to be trained on has
    ├── TrainingDiverged      the loss of a training is no number any more
    ├── ModelNotFound         there is no model where one was named
    ├── CheckpointMismatch    the model's files do not belong together, or are damaged
    ├── UnsupportedModel      a model of nnU-Net that does what this program cannot do
    ├── UnwritableOutput      the output folder cannot be written, or another run holds it
    ├── UnreadableRun         an output folder holds no finished run
    ├── UnreadableLedger      the ledger in the output folder is damaged, or of another version
    ├── UnreadableTable       a table that was named cannot be read, or lacks a column
    ├── ServiceUnavailable    the Prefect server, a worker or a Dask cluster does not answer
    └── DemoUnavailable       the brain template that the demo is made from is not installed

A case error names the case, what was found, what was needed and the remedy. Its `reason` is the stable code that the
tables carry: the class name in snake case.
"""

from __future__ import annotations

import re


def printable(text: str) -> str:
    r"""`text` with an escape for each character that could move a terminal's cursor, begin a line or cannot be shown.

    >>> printable("a\x1b[2J\nb")
    'a\\x1b[2J\\nb'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


class PipelineError(Exception):
    """Anything that this program refuses by name."""


class CaseError(PipelineError):
    """One case's data is wrong. `str()` gives case, finding, need and remedy in one sentence."""

    def __init__(self, case: str, found: str, needed: str, remedy: str) -> None:
        super().__init__(case, found, needed, remedy)
        self.case = case
        self.found = printable(found)  # it may hold the name of a file, and a file may be called anything
        self.needed = needed
        self.remedy = remedy

    @property
    def message(self) -> str:
        """What was found and what was needed, without the remedy."""
        return f"case '{self.case}': {self.found}; needed: {self.needed}"

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"

    @classmethod
    def reason(cls) -> str:
        """The stable code of this error, for example `missing_slice`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class UnreadableImage(CaseError):
    """The file is truncated, corrupt, or not what its name says."""


class UnsupportedImage(CaseError):
    """The file is readable, but is not one 3-D volume of scalar voxels."""


class TruncatedPixels(CaseError):
    """A DICOM file ends before its pixels do."""


class ColourImage(CaseError):
    """A DICOM series has several values a pixel, or colours from a palette."""


class MosaicImage(CaseError):
    """A DICOM series has many slices in one picture, as Siemens scanners write functional MR."""


class TimeSeries(CaseError):
    """A DICOM series holds several volumes at the same positions, which neither type, echo nor folder tells apart."""


class MixedOrientations(CaseError):
    """The slices of a DICOM series are not parallel."""


class MixedContrasts(CaseError):
    """The slices of a DICOM series lie like one volume, but differ in echo time, component, time or b-value."""


class GantryTilt(CaseError):
    """The slices of a DICOM series are stacked along a line that is not at right angles to them."""


class TooLarge(CaseError):
    """The header claims more voxels than a scan may have."""


class NotEnoughMemory(CaseError):
    """The network would need more memory for the scan than there is, whichever way it ran."""


class DecompressionBomb(CaseError):
    """A small file that would unpack to something huge, and nearly constant: no scan does."""


class StillBeingWritten(CaseError):
    """The size or time of a file changed while the cohort was looked at."""


class ChannelMismatch(CaseError):
    """A case has other channels than its data set names, or than the model takes."""


class UnusableGeometry(CaseError):
    """The header does not say where the voxels are: no position, a sheared or singular affine, a zero spacing."""


class MissingSlice(CaseError):
    """A DICOM series has a gap where a slice should be."""


class DuplicateSlice(CaseError):
    """A DICOM series has two slices at one position."""


class UnevenSlices(CaseError):
    """The slices of a DICOM series are not equally spaced."""


class NonFiniteVoxels(CaseError):
    """NaN or infinity among the voxels."""


class EmptyImage(CaseError):
    """All voxels have one value."""


class GridMismatch(CaseError):
    """Image and reference are on different grids."""


class ForeignReference(CaseError):
    """A DICOM segmentation was made on another series than the image's."""


class OverlappingSegments(CaseError):
    """A DICOM segmentation gives a voxel to two segments; a label map has one label a voxel."""


class UnknownLabel(CaseError):
    """A reference holds a value that the model or data set has no label for."""


class NoReference(CaseError):
    """A case of a training set has no label map, or an empty one."""


class NoPrediction(CaseError):
    """A reference has no segmentation that belongs to it."""


class OutOfMemory(CaseError):
    """The case needs more memory than a process may have, or than the machine gives."""


class WorkerDied(CaseError):
    """The worker process was killed each time it took this case."""


class CaseTimedOut(CaseError):
    """The case took longer than a case may take."""


class SetupError(PipelineError):
    """The run itself is wrong. The message says what was found and what to do; no output was touched."""


class UnknownSetting(SetupError):
    """A setting that does not exist, or a value that it cannot have."""


class EmptyCohort(SetupError):
    """No scan was found, or too few to do what was asked."""


class MissingLabel(SetupError):
    """A label of the data set is in no reference that could be learnt from."""


class TrainingDiverged(SetupError):
    """The loss of a training is not a number any more."""


class ModelNotFound(SetupError):
    """There is no model in the folder that was named."""


class CheckpointMismatch(SetupError):
    """The model's files do not belong together, or are damaged."""


class UnsupportedModel(SetupError):
    """A model of nnU-Net that does what this program cannot do."""


class UnwritableOutput(SetupError):
    """The output folder cannot be written, or another run holds it."""


class ServiceUnavailable(SetupError):
    """A server, worker or cluster that was named does not answer."""


class UnreadableRun(SetupError):
    """An output folder holds no finished run."""


class UnreadableLedger(SetupError):
    """The ledger in the output folder is damaged, or was written by another version of this program."""


class UnreadableTable(SetupError):
    """A table that was named cannot be read, or lacks a column."""


class DemoUnavailable(SetupError):
    """The brain template that the demo cohort is made from is not installed."""
