"""The three forms of a cohort: a folder to search, a CSV manifest, a Medical Segmentation Decathlon folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.ingest.found import Found, SetAside
from tasks.ingest.names import make_unique, name_of_file, safe_name
from tasks.ingest.references import match_by_series, say_unused, with_segmentations
from tasks.ingest.series import find_series, only_series
from tasks.scan.errors import UnknownSetting
from tasks.scan.frames import is_dicom
from tasks.scan.itk import data_file
from tasks.scan.records import Source

Finding = tuple[list[Found], list[SetAside]]
_NIFTI = (".nii", ".nii.gz", ".hdr", ".img")
_ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
_DICOM = (".dcm", ".dicom", ".ima")
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")


def find_in_folder(folder: Path, excluded: Sequence[Path] = ()) -> Finding:
    """Every scan below `folder`, in the order of the paths; hidden files and `excluded` folders are not looked at."""
    set_aside: list[SetAside] = []
    dicom: list[Path] = []
    sources: dict[Path, Source] = {}
    for file in _walk(folder, {path.resolve() for path in excluded}, set_aside):
        reason = _not_a_scan(file)
        if reason:
            set_aside.append(SetAside(path=file, reason=reason))
        elif _is_dicom_file(file):
            dicom.append(file)
        else:
            sources[file] = _source(file)
    parts = {part for source in sources.values() for part in source.files[1:]}
    cases = [
        Found(name=name_of_file(file, folder), image=source) for file, source in sources.items() if file not in parts
    ]
    series, objects = find_series(dicom, folder)
    return cases + series, [item for item in set_aside if item.path not in parts] + objects


def find_in_manifest(manifest: Path) -> Finding:
    """One case a row of `case,image[,reference]`; paths are relative to the manifest. A missing file is a case too.

    Raises:
        UnknownSetting: no text in UTF-8, or no columns of these names.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns, rows = set(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnknownSetting(f"the manifest '{manifest}' is not CSV in UTF-8; save it as such") from error
    if not {"case", "image"} <= columns or columns - {"case", "image", "reference"}:
        raise UnknownSetting(
            f"the manifest '{manifest}' has the columns {', '.join(sorted(map(str, columns))) or 'none'}; "
            "needed: case,image and, if there are any, reference, with commas between them"
        )
    found = [_row(row, manifest.parent) for row in rows]
    return [case for case, _ in found], [item for _, items in found for item in items]


def find_in_decathlon(folder: Path) -> Finding:
    """The cases of `imagesTr`, each with its label map of `labelsTr`, of `imagesTs`, and listed files that are missing.

    Raises:
        UnknownSetting: `dataset.json` does not list the training images.
    """
    cases, set_aside = find_in_folder(folder / "imagesTr")
    present = {file for case in cases for file in case.image.files}
    missing = [file for file in _listed(folder) if file not in present]
    cases += [Found(name=name_of_file(file, file.parent), image=_source(file)) for file in missing]
    if (folder / "labelsTr").is_dir():
        cases, unused = add_references(cases, folder / "labelsTr")
        set_aside += unused
    if (folder / "imagesTs").is_dir():
        tests, others = find_in_folder(folder / "imagesTs")
        cases, set_aside = cases + tests, set_aside + others
    return cases, set_aside


def is_decathlon(folder: Path) -> bool:
    """Whether the folder holds `dataset.json` and `imagesTr`."""
    return (folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir()


def add_references(cases: Sequence[Found], folder: Path) -> Finding:
    """The cases, each without a reference now having the one in `folder`: of its name, else made on its series.

    Two references of one name are used by no case: which of them is right is not for a program to say.
    """
    found, set_aside = with_segmentations(*find_in_folder(folder), folder)
    references = {case.name: case.image for case in make_unique(found, folder)}
    by_name = references.keys() & {case.name for case in cases}
    by_series, several = match_by_series(cases, {name: references[name] for name in references.keys() - by_name})
    chosen = {case.name: case.name if case.name in by_name else by_series.get(case.name, "") for case in cases}
    set_aside += say_unused(references.keys() - set(chosen.values()), several, folder)
    return [replace(case, reference=case.reference or references.get(chosen[case.name])) for case in cases], set_aside


def _walk(folder: Path, seen: set[Path], set_aside: list[SetAside]) -> Iterator[Path]:
    """Files below `folder`, sorted; each real folder once, so that a loop of links ends. An unreadable folder too."""
    seen.add(folder.resolve())
    try:
        entries = sorted(folder.iterdir())
    except PermissionError:
        yield folder
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            yield entry
        elif entry.resolve() not in seen:
            yield from _walk(entry, seen, set_aside)
        elif entry.is_symlink():
            set_aside.append(SetAside(path=entry, reason="a link to a folder that is searched already"))


def _row(row: dict[str, str], folder: Path) -> tuple[Found, list[SetAside]]:
    image = folder / ((row["image"] or "").strip() or "(no image named)")
    set_aside: list[SetAside] = []
    case = Found(name="", image=_source(image))
    if image.is_dir():
        case, set_aside = only_series(list(_walk(image, set(), set_aside)), image)
    named = (row.get("reference") or "").strip()
    reference = _source(folder / named) if named else None
    name = safe_name((row["case"] or "").strip() or name_of_file(Path(image.name), Path()))
    return replace(case, name=name, reference=reference), set_aside


def _listed(folder: Path) -> list[Path]:
    try:
        entries = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["training"]
        return [folder / entry["image"] for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise UnknownSetting(
            f"'{folder / 'dataset.json'}' does not list its training images as the Decathlon does"
        ) from error


def _source(file: Path) -> Source:
    """The file, with the one that holds its voxels where that is another, in the format that its name says."""
    if _suffix(file) == ".img" and (header := file.with_suffix(".hdr" if file.suffix == ".img" else ".HDR")).exists():
        file = header
    suffix = _suffix(file)
    voxels = None
    if suffix == ".hdr":
        voxels = next((other for other in (file.with_suffix(".img"), file.with_suffix(".IMG")) if other.exists()), None)
    elif suffix in _ITK and _is_readable(file):
        voxels = data_file(file)
    files = (file,) if voxels is None else (file, voxels)
    return Source(format="itk" if suffix in _ITK else "dicom" if _is_dicom_file(file) else "nifti", files=files)


def _not_a_scan(file: Path) -> str:
    """Why the file is set aside; empty if it is a scan, or looks like one."""
    if _suffix(file) in _NIFTI + _ITK + _DICOM or file.is_dir():
        return ""
    if not file.is_file():
        return "a link that leads nowhere, or no file"
    if not _is_readable(file):
        return "may not be read by this account"
    if is_dicom(file):
        return ""
    if _suffix(file) in _ARCHIVES:
        return "an archive: unpack it to have its scans segmented"
    return "no format of a scan" if file.stat().st_size else "empty"


def _is_dicom_file(file: Path) -> bool:
    """By its name, or else by how it begins. A folder is here only if it cannot be read: DICOM's reader will say so."""
    suffix = _suffix(file)
    if suffix in _DICOM or file.is_dir():
        return True
    return suffix not in (".nii", ".nii.gz", ".hdr", *_ITK) and _is_readable(file) and is_dicom(file)


def _is_readable(file: Path) -> bool:
    """By trying: on a network share the mode of a file does not tell."""
    try:
        file.open("rb").close()
    except (PermissionError, FileNotFoundError):
        return False
    return True


def _suffix(file: Path) -> str:
    return ".nii.gz" if file.name.lower().endswith(".nii.gz") else file.suffix.lower()
