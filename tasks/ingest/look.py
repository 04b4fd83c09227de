"""One look into a file: what it is, and, of a DICOM file, its header. The only part of discovery that opens files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pydicom

from tasks.ingest.glance import NOT_READABLE, Glance, is_folder, is_there, suffix
from tasks.ingest.privacy import keyed, veiled
from tasks.scan.errors import CaseError, UnreadableImage
from tasks.scan.frame import SEGMENTATIONS, Frame, Referenced
from tasks.scan.frames import is_dicom, read_frames
from tasks.scan.itk import data_file
from tasks.scan.reading import reading
from tasks.scan.records import Source
from tasks.scan.segmentation import is_segmentation, read_referenced

NIFTI = (".nii", ".nii.gz", ".hdr", ".img")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
DICOM = (".dcm", ".dicom", ".ima")
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
_NAMES = ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson")
_IDENTIFIERS = (
    "PatientID",
    "OtherPatientIDs",
    "PatientBirthDate",
    "AccessionNumber",
    "StudyInstanceUID",
    "SeriesInstanceUID",
)


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


def glance_veiled(file: Path, key: bytes) -> Glance:
    """A glance at `file` that tells no text of its header."""
    look = glance(file)
    referenced = look.referenced and Referenced(
        series=frozenset(keyed(key, uid) for uid in look.referenced.series),
        instances=frozenset(keyed(key, uid) for uid in look.referenced.instances),
    )
    return replace(look, frames=tuple(veiled(frame, key) for frame in look.frames), referenced=referenced)


def names_patient(question: tuple[Path, str]) -> bool:
    """What `tells_patient` says of a file and a path."""
    return tells_patient(*question)


def tells_patient(file: Path, where: str) -> bool:
    """Whether `where`, a path that a name would come from, repeats what the header of `file` calls the patient.

    That is a word of a name with at least three letters, or an identifier, birth date or UID, whatever the punctuation.
    """
    try:
        with reading(file, where):
            tags = [*_NAMES, *_IDENTIFIERS]
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(tags), force=is_dicom(file))
            texts = {tag: str(header.get(tag) or "") for tag in tags}
    except CaseError:
        return False
    words = set(re.findall(r"[^\W_]+", where.casefold()))
    squeezed = _squeezed(where)
    names = {word for tag in _NAMES for word in re.findall(r"[^\W\d_]{3,}", texts[tag].casefold())}
    identifiers = {_squeezed(texts[tag]) for tag in _IDENTIFIERS}
    return any(_occurs(word, words, squeezed, 5) for word in names) or any(
        _occurs(one, words, squeezed, 4) for one in identifiers
    )


def _occurs(word: str, words: set[str], squeezed: str, long: int) -> bool:
    """Whether `word` is one of the `words`, or, from `long` characters on, anywhere in the text."""
    return word in words or (len(word) >= long and word in squeezed)


def _squeezed(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def is_readable(file: Path) -> bool:
    """By trying: on a network share the mode of a file does not tell."""
    try:
        file.open("rb").close()
    except (PermissionError, FileNotFoundError):
        return False
    return True


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
