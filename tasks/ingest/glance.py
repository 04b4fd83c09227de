"""One look into a file: what it is, and, of a DICOM file, its header. The only part of discovery that opens files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tasks.scan.errors import UnreadableImage
from tasks.scan.frames import SEGMENTATIONS, Frame, is_dicom, read_frames
from tasks.scan.itk import data_file
from tasks.scan.records import FORBID_UNKNOWN, Format, Source
from tasks.scan.segmentation import Referenced, is_segmentation, read_referenced

NIFTI = (".nii", ".nii.gz", ".hdr", ".img")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
DICOM = (".dcm", ".dicom", ".ima")
NOT_READABLE = "may not be read by this account"
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What one look into a file told. A file that is not `aside` is a scan, or has the name of one."""

    __pydantic_config__ = FORBID_UNKNOWN

    format: Format
    aside: str = ""
    """Why it is no scan."""
    voxels: Path | None = None
    """The file beside an NRRD or MetaImage header that holds its voxels."""
    frames: tuple[Frame, ...] = ()
    """Of DICOM; none where it cannot be read."""
    referenced: Referenced | None = None
    """What a DICOM segmentation was made on."""


Look: TypeAlias = Callable[[Sequence[Path]], dict[Path, Glance]]
"""How files are looked into: one after the other here, or in parallel and with a memory (`tasks/ingest/ingest.py`)."""


def look_here(files: Sequence[Path]) -> dict[Path, Glance]:
    """A glance at each of `files`, one after the other."""
    return {file: glance(file) for file in files}


def glance(file: Path) -> Glance:
    """What `file` is. A folder is looked at only if it cannot be listed: DICOM's reader will say so.

    Raises:
        OSError: the share is away.
    """
    name = suffix(file)
    if is_there(file) and not file.is_file() and not file.is_dir():
        return Glance(format="nifti", aside="neither file nor folder")
    if not is_folder(file) and name not in NIFTI + ITK + DICOM and (aside := _not_a_scan(file)):
        return Glance(format="nifti", aside=aside)
    if name in ITK:
        return Glance(format="itk", voxels=data_file(file) if is_readable(file) else None)
    if not _is_dicom_file(file):
        return Glance(format="nifti")
    try:
        frames = tuple(read_frames(file, file.name))
    except UnreadableImage:
        frames = ()
    return Glance(format="dicom", frames=frames, referenced=_referenced(file, frames))


def source_of(file: Path, look: Glance) -> Source:
    """The file, with the one that holds its voxels where that is another."""
    if suffix(file) == ".img" and is_there(header := file.with_suffix(".hdr" if file.suffix == ".img" else ".HDR")):
        file = header
    voxels = look.voxels
    if suffix(file) == ".hdr":
        voxels = next(
            (other for other in (file.with_suffix(".img"), file.with_suffix(".IMG")) if other.is_file()), None
        )
    return Source(format=look.format, files=(file,) if voxels is None else (file, voxels))


def is_readable(file: Path) -> bool:
    """By trying: on a network share the mode of a file does not tell."""
    try:
        file.open("rb").close()
    except (PermissionError, FileNotFoundError):
        return False
    return True


def is_there(file: Path) -> bool:
    """Whether there is something that this account may see; no OSError for a name that is too long for any file."""
    return os.path.exists(file)  # noqa: PTH110 - Path.exists raises where a folder may not be entered


def is_folder(file: Path) -> bool:
    """Whether there is a folder that this account may see."""
    return os.path.isdir(file)  # noqa: PTH112 - as above


def is_link(file: Path) -> bool:
    """Whether there is a link, wherever it leads, that this account may see."""
    return os.path.islink(file)  # noqa: PTH114 - as above


def suffix(file: Path) -> str:
    """The extension in small letters; `.nii.gz` is one."""
    return ".nii.gz" if file.name.lower().endswith(".nii.gz") else file.suffix.lower()


def _referenced(file: Path, frames: Sequence[Frame]) -> Referenced | None:
    """What the segmentation in `file` was made on; None where it is none, or does not say so."""
    if frames and frames[0].sop_class not in SEGMENTATIONS:
        return None
    try:
        is_one = is_segmentation(Source(format="dicom", files=(file,)), file.name)
        return read_referenced(file, file.name) if is_one else None
    except UnreadableImage:
        return None


def _not_a_scan(file: Path) -> str:
    """Why a file without the name of a scan is set aside; empty if it is DICOM all the same."""
    if not is_there(file):
        return _not_a_file(file)
    if not is_readable(file):
        return NOT_READABLE
    if is_dicom(file):
        return ""
    if suffix(file) in ARCHIVES:
        return "an archive: unpack it to have its scans segmented"
    return "no format of a scan" if file.stat().st_size else "empty"


def _not_a_file(file: Path) -> str:
    """Why a file that was listed a moment ago cannot be found."""
    try:
        file.lstat()
    except PermissionError:
        return NOT_READABLE
    except OSError:
        return "not there any more"
    return "a link that leads nowhere"


def _is_dicom_file(file: Path) -> bool:
    """By its name, or else by how it begins."""
    name = suffix(file)
    if name in DICOM or is_folder(file):
        return True
    return name not in (".nii", ".nii.gz", ".hdr", *ITK) and is_readable(file) and is_dicom(file)
