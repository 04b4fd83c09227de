"""Which files of a cohort are which case, and what their headers say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.ingest.found import Found, SetAside
from tasks.ingest.layouts import (
    add_references,
    find_in_decathlon,
    find_in_folder,
    find_in_manifest,
    is_decathlon,
)
from tasks.ingest.names import make_unique
from tasks.scan.errors import EmptyCohort, UnknownSetting
from tasks.scan.records import Case
from tasks.scan.volume import read_header


def discover(
    cohort: Path, references: Path | None, *, excluded: Sequence[Path] = ()
) -> tuple[list[Found], list[SetAside]]:
    """Every case of the cohort, sorted by name, and every file that is none, with the reason.

    `cohort` is a folder, a CSV manifest or a Medical Segmentation Decathlon folder. `references` holds one label map a
    case under the case's name. Folders in `excluded` (an output folder inside the cohort) are not searched.

    Raises:
        EmptyCohort: `cohort` does not exist. UnknownSetting: `references` is no folder, or the manifest no manifest.
    """
    if not cohort.exists():
        raise EmptyCohort(f"the cohort '{cohort}' does not exist; name a folder of scans or a CSV manifest")
    if references is not None and not references.is_dir():
        raise UnknownSetting(f"the references '{references}' are not a folder; name a folder with a label map a case")
    if cohort.is_file():
        cases, set_aside = find_in_manifest(cohort)
    elif is_decathlon(cohort):
        cases, set_aside = find_in_decathlon(cohort)
    else:
        nested = () if references is None else (references,)
        cases, set_aside = find_in_folder(cohort, (*excluded, *nested))
    cases = make_unique(cases, cohort)
    if references is not None:
        cases, unused = add_references(cases, references)
        set_aside = set_aside + unused
    return sorted(cases, key=lambda case: case.name), sorted(set_aside, key=lambda item: item.path)


def ingest_case(found: Found) -> Case:
    """The case with its grid and warnings, from its headers; a series' files in the order of their positions.

    Raises:
        CaseError: the image is unreadable or unsupported, has no usable geometry, or a gap.
    """
    header = read_header(found.image, found.name)
    return Case(
        name=found.name,
        image=header.source,
        geometry=header.geometry,
        reference=found.reference,
        warnings=found.warnings + header.warnings,
    )
