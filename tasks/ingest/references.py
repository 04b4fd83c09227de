"""Label maps for the cases of a cohort: by name, and DICOM segmentations by the series they were made on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.ingest.found import Found, SetAside
from tasks.ingest.glance import Glance, Look
from tasks.ingest.names import name_of_file
from tasks.ingest.series import SEGMENTATION
from tasks.scan.frame import Referenced
from tasks.scan.records import Source


def with_segmentations(
    found: Sequence[Found], set_aside: Sequence[SetAside], folder: Path
) -> tuple[list[Found], list[SetAside]]:
    """`found`, and the DICOM segmentations among what was `set_aside`: no scans, but references."""
    files = [item.path for item in set_aside if item.reason == SEGMENTATION]
    segmentations = [
        Found(name=name_of_file(file.with_suffix(""), folder), image=Source(format="dicom", files=(file,)))
        for file in files
    ]
    return [*found, *segmentations], [item for item in set_aside if item.path not in files]


def match_by_series(
    cases: Sequence[Found], references: dict[str, Source], look: Look
) -> tuple[dict[str, str], set[str]]:
    """The name of the segmentation that was made on each case's series, by the case's name; and those of no use.

    Of no use are several segmentations of one series: which of them is right is not for a program to say.
    """
    files = {name: source.files[0] for name, source in references.items() if source.format == "dicom"}
    read = look(sorted(files.values()))
    segmentations = {name: made_on for name, file in files.items() if (made_on := read[file].referenced)}
    if not segmentations:
        return {}, set()
    slices = look(sorted({file for case in cases for file in case.image.dicom_files}))
    found = {case.name: _made_on(case, segmentations, slices) for case in cases}
    several = {name for names in found.values() if len(names) > 1 for name in names}
    return {case: names[0] for case, names in found.items() if len(names) == 1}, several


def say_unused(names: set[str], several: set[str], folder: Path) -> list[SetAside]:
    """One line for each reason for which references are of no use to any case."""
    ambiguous, alone = sorted(names & several), sorted(names - several)
    set_aside = []
    if ambiguous:
        reason = f"several references of one series: {len(ambiguous)} DICOM segmentations, for example '{ambiguous[0]}'"
        set_aside.append(SetAside(path=folder, reason=reason))
    if alone:
        reason = f"references without a case of their name: {len(alone)}, nor of their series, for example '{alone[0]}'"
        set_aside.append(SetAside(path=folder, reason=reason))
    return set_aside


def _made_on(case: Found, segmentations: dict[str, Referenced], slices: dict[Path, Glance]) -> list[str]:
    """The names of the segmentations that were made on the case's series, or on one of its images."""
    frames = [frame for file in case.image.dicom_files for frame in slices[file].frames[:1]]
    series, instances = {frame.series for frame in frames}, {frame.instance for frame in frames}
    return [name for name, one in segmentations.items() if one.series & series or one.instances & instances]
