"""The DICOM SEG of a label map: whose it is, which series it lies on, and what its segments are."""

from __future__ import annotations

import colorsys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pydicom
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence, PlanePositionSequence
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from tasks.scan.errors import UnsupportedImage
from tasks.scan.files import write_whole
from tasks.scan.reading import reading
from tasks.scan.records import Case, Scores

MAKER = "segment-cohort"
LONGEST_LABEL = 64
SERIES_NUMBER = 9100
GOLDEN = 0.618034
MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Attributes of type 2 of patient and study: they must be there, with or without a value."""


def write_segmentation(scores: Scores, labels: Mapping[int, str], folder: Path) -> Path | None:
    """The DICOM SEG of a case that is a DICOM series, now in `folder`; None when nothing was found in it.

    Raises UnsupportedImage.
    """
    case = scores.segmentation.case
    mask = np.asarray(nibabel.Nifti1Image.from_filename(scores.segmentation.mask).dataobj)
    if not mask.any():
        return None
    file = folder / f"{case.name}.dcm"
    segmentation = describe(mask, _read_whole(case), case, labels, scores.segmentation.mask_sha256)
    content = BytesIO()
    segmentation.save_as(content, enforce_file_format=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    write_whole(file, content.getvalue(), 0o600)
    return file


def describe(
    mask: NDArray[Any], sources: Sequence[Dataset], case: Case, labels: Mapping[int, str], checksum: str
) -> highdicom.seg.Segmentation:
    """The DICOM SEG of `mask` (column, row, slice) on the slices of `sources`, which are in the mask's order.

    Segments are numbered from 1 in the order of the label values; one that was not found is described all the same. The
    same mask on the same series gives the same UIDs.
    """
    positions = place(case, sources)
    frames = np.moveaxis(mask, 2, 0).swapaxes(1, 2)
    numbers = np.zeros(int(max(labels)) + 1, np.uint16)
    numbers[sorted(labels)] = np.arange(1, len(labels) + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom warns of dubious names of patients, and repeats them
            return highdicom.seg.Segmentation(
                source_images=[completed(source, case.geometry.spacing_mm[2]) for source in sources],
                pixel_array=numbers[frames].astype(np.uint8 if len(labels) < 256 else np.uint16),
                segmentation_type="BINARY",
                segment_descriptions=_segments(labels),
                **_identity(sources, checksum),
                **positions,
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # What highdicom says may repeat the header.
        raise UnsupportedImage(
            case.name,
            found=f"headers that no DICOM SEG can be made for ({type(error).__name__})",
            needed="a series with all that an archive files it by",
            remedy="take the mask in NIfTI, which was written",
        ) from error


def _read_whole(case: Case) -> list[Dataset]:
    datasets: list[Dataset] = []
    for path in case.image.files:
        with reading(path, case.name):
            datasets.append(pydicom.dcmread(path))
    return datasets


def _identity(sources: Sequence[Dataset], checksum: str) -> dict[str, Any]:
    """Whose object it is, and which; patient and study are those of the sources."""
    return {
        "series_instance_uid": generate_uid(entropy_srcs=[MAKER, "series", sources[0].SeriesInstanceUID]),
        "sop_instance_uid": generate_uid(entropy_srcs=[MAKER, sources[0].SOPInstanceUID, checksum]),
        "series_number": SERIES_NUMBER,
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": MAKER,
        "software_versions": version(MAKER),
        "device_serial_number": "0",
        "content_label": "SEGMENTATION",
        "content_description": "automatic, for research only",
        "series_description": f"{MAKER}, for research only",
    }


def place(case: Case, sources: Sequence[Dataset]) -> dict[str, Any]:
    """Where the slices of an enhanced object lie, for highdicom; nothing for a slice a file, which say it themselves.

    An enhanced object may hold several volumes, so its own frames do not say which are meant.

    Raises UnsupportedImage for a volume that is spread over several enhanced objects.
    """
    if not case.image.frames:
        return {}
    if len(sources) > 1:
        raise UnsupportedImage(
            case.name,
            found=f"a volume in {len(sources)} enhanced objects",
            needed="one enhanced object, or one slice a file, for a DICOM SEG",
            remedy="take the mask in NIfTI, or have the scanner export the series as single slices",
        )
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.array(case.geometry.affine)
    positions = [(lps @ (0, 0, number, 1))[:3].tolist() for number in range(case.geometry.shape[2])]
    return {"plane_positions": [PlanePositionSequence("PATIENT", position) for position in positions]}


def completed(source: Dataset, slice_mm: float) -> Dataset:
    """`source` as highdicom expects it: what DICOM lets be empty is there, spacing and orientation are shared groups.

    De-identified series often lack the first. Some scanners repeat the second in every frame; the frames of one volume
    share them, or it would not be one. Slices whose thickness is not said are as thick as they are apart.
    """
    for name in MAY_BE_EMPTY:
        if name not in source:
            setattr(source, name, None)
    if "SharedFunctionalGroupsSequence" in source:
        shared, first = source.SharedFunctionalGroupsSequence[0], source.PerFrameFunctionalGroupsSequence[0]
        for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            if name not in shared and name in first:
                setattr(shared, name, getattr(first, name))
    shared = source.get("SharedFunctionalGroupsSequence", [Dataset()])[0]
    measures = shared.get("PixelMeasuresSequence", [source])[0]
    if not measures.get("SliceThickness"):
        measures.SliceThickness = f"{slice_mm:.8g}"
    return source


def _segments(labels: Mapping[int, str]) -> list[SegmentDescription]:
    maker = AlgorithmIdentificationSequence(name=MAKER, version=version(MAKER), family=codes.DCM.ArtificialIntelligence)
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=labels[value][:LONGEST_LABEL],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type="AUTOMATIC",
            algorithm_identification=maker,
            tracking_id=f"label {value}",
            tracking_uid=generate_uid(entropy_srcs=[MAKER, "label", str(value), labels[value]]),
            display_color=CIELabColor.from_rgb(*colour(number)),
        )
        for number, value in enumerate(sorted(labels), start=1)
    ]


def colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of a segment: neighbours in number are far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.65, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
