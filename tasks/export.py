"""Export: the label map of a DICOM series as a DICOM SEG that references it, for the archive that the series came from.

It carries the patient's identity and the series' UIDs, for an archive files an object by nothing else. That is why it
is off unless asked for, why its folder and files are for their owner alone, and why nothing of it reaches a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from tasks.scan.records import FORBID_UNKNOWN, Scores

DICOM = "dicom"
"""The folder in the output that DICOM SEG objects are written to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What is written for other systems, beside the masks."""

    __pydantic_config__ = FORBID_UNKNOWN

    dicom_seg: bool = False
    """For every DICOM series a DICOM SEG in `dicom/`. It holds the patient's identity, as the series does."""


def export_case(scores: Scores, labels: Mapping[int, str], folder: Path) -> Scores:
    """`scores` with the case's DICOM SEG, now in `folder`, if the case is a DICOM series with anything found in it.

    What makes it is imported where it is first made: highdicom alone takes half a second, and few nights export.
    A series that was sheared upright is left out: its mask does not lie on its slices. Raises UnsupportedImage.
    """
    if scores.segmentation.case.image.format != "dicom":
        return scores
    file: Path | None = import_module("tasks.dicom_seg").write_segmentation(scores, labels, folder)
    return replace(scores, segmentation=replace(scores.segmentation, dicom_seg=file)) if file else scores
