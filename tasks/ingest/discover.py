"""Which files of a cohort are which case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tasks.ingest.datasets import find_in_bids, find_in_decathlon, find_in_nnunet, is_bids, is_decathlon, is_nnunet
from tasks.ingest.found import Found, SetAside
from tasks.ingest.layouts import Finding, Search, add_references, find_in_folder, find_in_manifest
from tasks.ingest.names import make_unique
from tasks.scan.errors import EmptyCohort, UnknownSetting

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
