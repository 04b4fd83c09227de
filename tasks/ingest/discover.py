"""Which files of a cohort are which case, and what their headers say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tasks.ingest.datasets import find_in_bids, find_in_decathlon, find_in_nnunet, is_bids, is_decathlon, is_nnunet
from tasks.ingest.found import MOST_VOXELS, Found, SetAside
from tasks.ingest.layouts import Finding, Search, add_references, find_in_folder, find_in_manifest
from tasks.ingest.names import make_unique
from tasks.ingest.quality import plausibility_flags
from tasks.ingest.size import check_size
from tasks.scan.errors import ChannelMismatch, EmptyCohort, UnknownSetting, UnsupportedImage
from tasks.scan.records import Case
from tasks.scan.volume import read_header

_HERE = Search()


def discover(cohort: Path, references: Path | None, search: Search = _HERE) -> tuple[list[Found], list[SetAside]]:
    """Every case of the cohort, sorted by name, and every file that is none, with the reason.

    `cohort` is a folder, a CSV manifest, or a data set in the layout of the Decathlon, nnU-Net or BIDS. `references`
    holds one label map a case under the case's name.

    Raises:
        EmptyCohort: `cohort` does not exist. UnknownSetting: `references` is no folder, or the manifest no manifest.
    """
    if not cohort.exists():
        raise EmptyCohort(f"the cohort '{cohort}' does not exist; name a folder of scans or a CSV manifest")
    if references is not None and not references.is_dir():
        raise UnknownSetting(f"the references '{references}' are not a folder; name a folder with a label map a case")
    cases, set_aside = _find(cohort, references, search)
    cases = make_unique(cases, cohort)
    if references is not None:
        cases, unused = add_references(cases, references, search)
        set_aside = set_aside + unused
    return sorted(cases, key=lambda case: case.name), sorted(set_aside, key=lambda item: item.path)


def ingest_case(found: Found, most_voxels: int = MOST_VOXELS) -> Case:
    """The case with its grid and warnings, from its headers; a series' files in the order of their positions.

    Raises:
        CaseError: the image is unreadable, unsupported or too large, several instead of one, has no usable geometry, a
        gap, or other channels than its data set.
    """
    if found.channels:
        raise ChannelMismatch(
            found.name,
            found=f"the channel{'s' * (len(found.channels) > 1)} {', '.join(found.channels)}",
            needed=f"{', '.join(found.needed)}, each once",
            remedy="add the missing channels, and take away those that the data set does not name",
        )
    if found.scans > 1:
        raise UnsupportedImage(
            found.name,
            found=f"a folder of {found.scans} scans",
            needed="one scan for each image that the manifest names",
            remedy="name a file, or the folder of one scan; images of one case go into the columns image_2, image_3 …",
        )
    header = read_header(found.image, found.name)
    check_size(header, found.name, most_voxels)
    flags = plausibility_flags(header.geometry.shape, header.geometry.spacing_mm)
    return Case(
        name=found.name,
        image=header.source,
        geometry=header.geometry,
        reference=found.reference,
        warnings=(*found.warnings, *header.warnings, *flags),
        groups=found.groups,
    )


def _find(cohort: Path, references: Path | None, search: Search) -> Finding:
    if cohort.is_file():
        return find_in_manifest(cohort, search)
    search = replace(search, root=cohort)
    if is_nnunet(cohort):
        return find_in_nnunet(cohort, search)
    if is_decathlon(cohort):
        return find_in_decathlon(cohort, search)
    if is_bids(cohort):
        return find_in_bids(cohort, search)
    nested = () if references is None else (references,)
    return find_in_folder(cohort, replace(search, excluded=(*search.excluded, *nested)))
