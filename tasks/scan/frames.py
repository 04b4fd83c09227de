"""What the headers of a DICOM file say of each of its frames: a slice has one, an enhanced object has many.

Read with pydicom. No name, identifier or UID of a header ever leaves this file in a message.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.config
from pydicom import Dataset
from pydicom.uid import UID

from tasks.scan.frame import COMPONENTS, Frame
from tasks.scan.reading import reading

# pydicom's warnings quote the header's values, and the header names the patient.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

_GE_CREATOR, _GE_COMPONENT = 0x00430010, 0x0043102F
"""GE's private number of a complex component, beside an image type that is the same for all of them."""

_TAGS: list[Any] = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "ImageType",
    "EchoTime",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "SeriesDescription",
    _GE_CREATOR,
    _GE_COMPONENT,
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")


def is_dicom(file: Path) -> bool:
    """Whether the file begins as DICOM does: with the mark after the preamble, or with a tag and a class of image.

    The first tag alone would do for old files without a preamble, but raw voxels of 8, 8 begin like it too.
    """
    with file.open("rb") as stream:
        start = stream.read(1024)
    return start[128:132] == b"DICM" or (start[:2] in (b"\2\0", b"\x08\0") and b"1.2.840.10008.5.1.4.1.1" in start)


def read_frames(file: Path, case: str) -> list[Frame]:
    """The frames of one DICOM file, in its order: from the functional groups where it has them.

    Raises:
        UnreadableImage: no DICOM file, or damaged before its pixels.
    """
    with reading(file, case):
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=is_dicom(file))
        frames = int(dataset.get("NumberOfFrames") or 1)
        groups = dataset.get("PerFrameFunctionalGroupsSequence")
        if not groups:
            return [_frame(file, dataset, (dataset,), (0, frames))]
        if len(groups) != frames:
            raise ValueError("the number of frames is not that of their headers")
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        return [
            _frame(file, dataset, (*_macros(own), *_macros(shared), dataset), (index, frames))
            for index, own in enumerate(groups)
        ]


def _macros(group: Dataset) -> list[Dataset]:
    """The functional groups of one frame, or of all frames, that say what a slice's own header would."""
    names = (
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
        "FrameContentSequence",
        "MREchoSequence",
        "TemporalPositionSequence",
        "MRDiffusionSequence",
        *_FRAME_TYPES,
    )
    return [group[name][0] for name in names if group.get(name)]


def _frame(file: Path, dataset: Dataset, places: Sequence[Dataset], number: tuple[int, int]) -> Frame:
    """The frame of that number and count; each tag is from the first of `places` that has it."""

    def value(*names: str) -> Any:
        return next((place.get(name) for name in names for place in places if place.get(name) is not None), None)

    sop_class = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    image_type = (value("FrameType", "ImageType"), value("ComplexImageComponent"), _ge_component(dataset))
    return Frame(
        file=file,
        index=number[0],
        count=number[1],
        described=number[1] == 1 or len(places) > 1,
        sop_class=sop_class,
        class_name=_class_name(sop_class),
        instance=str(dataset.get("SOPInstanceUID", "")),
        series=str(dataset.get("SeriesInstanceUID", "")),
        rows=int(dataset.get("Rows") or 0),
        columns=int(dataset.get("Columns") or 0),
        colour=int(dataset.get("SamplesPerPixel") or 1) > 1
        or dataset.get("PhotometricInterpretation") == "PALETTE COLOR",
        image_type=tuple(str(part) for parts in image_type for part in _several(parts)),
        stack=str(value("StackID") or ""),
        echo_ms=_number(value("EffectiveEchoTime", "EchoTime")),
        time=_number(value("TemporalPositionIndex", "TemporalPositionIdentifier")),
        b_value=_number(value("DiffusionBValue")),
        description=str(value("SeriesDescription") or ""),
        position_mm=_numbers(value("ImagePositionPatient"), 3),
        orientation=_numbers(value("ImageOrientationPatient"), 6),
        spacing_mm=_numbers(value("PixelSpacing"), 2),
        slope=float(_or_else(value("RescaleSlope"), 1)),
        intercept=float(_or_else(value("RescaleIntercept"), 0)),
    )


def _class_name(sop_class: str) -> str:
    name = UID(sop_class).name if sop_class else ""
    return "" if name == sop_class else name


def _ge_component(dataset: Dataset) -> str | None:
    if _GE_COMPONENT not in dataset or dataset[_GE_CREATOR].value != "GEMS_PARM_01":
        return None
    number = dataset[_GE_COMPONENT].value
    return COMPONENTS[number] if isinstance(number, int) and 0 <= number < len(COMPONENTS) else None


def _several(value: Any) -> Sequence[Any]:
    return () if value is None else (value,) if isinstance(value, str) else value


def _number(value: Any) -> str:
    """`value` in as few digits as six tell; empty if it is no number."""
    return f"{float(value):g}" if isinstance(value, int | float | Decimal) else ""


def _or_else(value: Any, otherwise: float) -> Any:
    """`value`, unless the header lacks it or leaves it empty."""
    return otherwise if value is None or value == "" else value


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    """`value` as that many finite floats; empty if it is anything else."""
    numbers = tuple(float(part) for part in value) if value is not None and not isinstance(value, str | float) else ()
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else ()
