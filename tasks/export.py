"""Export: the label map of a DICOM series as a DICOM SEG that references it, for the archive that the series came from.

It carries the patient's identity and the series' UIDs, for an archive files an object by nothing else. That is why it
is off unless asked for, why its folder and files are for their owner alone, and why nothing of it reaches a table.
"""

from __future__ import annotations

import colorsys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from tasks.attempt import logged
from tasks.belt import Belt, Line, arriving, hand_on
from tasks.pool import stream_cases
from tasks.scan.errors import UnsupportedImage
from tasks.scan.files import write_whole
from tasks.scan.reading import reading
from tasks.scan.records import FORBID_UNKNOWN, Case, Outcome, Scores

DICOM = "dicom"
"""The folder in the output that DICOM SEG objects are written to."""
MAKER = "segment-cohort"
LONGEST_LABEL = 64
SERIES_NUMBER = 9100
GOLDEN = 0.618034
MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Attributes of type 2 of patient and study: they must be there, with or without a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What is written for other systems, beside the masks."""

    __pydantic_config__ = FORBID_UNKNOWN

    dicom_seg: bool = False
    """For every DICOM series a DICOM SEG in `dicom/`. It holds the patient's identity, as the series does."""


def export_case(scores: Scores, labels: Mapping[int, str], folder: Path) -> Scores:
    """`scores` with the case's DICOM SEG, now in `folder`, if the case is a DICOM series with anything found in it.

    A series that was sheared upright is left out: its mask does not lie on its slices. Raises UnsupportedImage.
    """
    case = scores.segmentation.case
    if case.image.format != "dicom":
        return scores
    mask = np.asarray(nibabel.Nifti1Image.from_filename(scores.segmentation.mask).dataobj)
    if not mask.any():
        return scores
    file = folder / f"{case.name}.dcm"
    segmentation = describe(mask, _read_whole(case), case, labels, scores.segmentation.mask_sha256)
    content = BytesIO()
    segmentation.save_as(content, enforce_file_format=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    write_whole(file, content.getvalue(), 0o600)
    return replace(scores, segmentation=replace(scores.segmentation, dicom_seg=file))


@task(name="export", cache_policy=NO_CACHE)
def export(
    cases: Line[Scores],
    labels: Mapping[int, str],
    config: ExportConfig,
    output: Path,
    pool: str,
    belt: Belt[Scores] | None = None,
) -> list[Outcome[Scores]]:
    """Every case of the shard, exported as asked for. One that cannot be keeps its mask and its scores."""
    done = _exported(cases, labels, output / DICOM, pool) if config.dicom_seg else arriving(cases)
    return logged("export", hand_on(done, belt))


def _exported(cases: Line[Scores], labels: Mapping[int, str], folder: Path, pool: str) -> Iterator[Outcome[Scores]]:
    for before, after in stream_cases(pool, "export", export_case, cases, labels, folder):
        yield replace(after, value=after.value or before.value, problem=before.problem or after.problem)


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
