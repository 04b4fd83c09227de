"""What must not be told: names and identifiers of patients, which headers and sometimes folders hold.

A secret key makes hashes that stay the same each night, and that nobody without the key can find a patient by, neither
by trying all identifiers of a hospital nor all UIDs of an archive.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pydicom

from tasks.scan.errors import CaseError, UnknownSetting
from tasks.scan.frames import Frame, is_dicom
from tasks.scan.reading import reading

SHORTEST_KEY = 16
_NAMES = ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson")
_IDENTIFIERS = (
    "PatientID",
    "OtherPatientIDs",
    "PatientBirthDate",
    "AccessionNumber",
    "StudyInstanceUID",
    "SeriesInstanceUID",
)
_DICOM_ROOT = "1.2.840.10008."  # UIDs of the standard itself: kinds of objects, not objects
_IMAGE_TYPES = {
    *("ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "LOCALIZER", "MOSAIC", "OTHER", "MPR", "NORM", "DIS2D"),
    *("DIS3D", "ND", "NONE", "M", "P", "R", "I", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "M_SE", "M_FFE", "M_IR"),
    *("VOLUME", "MIXED", "REFORMATTED", "PROJECTION IMAGE", "ADC", "DIFFUSION", "PERFUSION", "MIP", "FMRI"),
}


def load_key(file: Path) -> bytes:
    """The secret that `file` holds; 32 random bytes, written there for its owner alone, if there is no such file.

    Raises:
        UnknownSetting: the file is shorter than 16 bytes, cannot be read, or cannot be made.
    """
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            _make_key(file)
        key = file.read_bytes().strip()
    except OSError as error:
        raise UnknownSetting(
            f"the key of case names '{file}': {error.strerror}; name a file with ingest.key"
        ) from error
    if len(key) < SHORTEST_KEY:
        raise UnknownSetting(f"the key of case names '{file}' has {len(key)} bytes; it needs at least {SHORTEST_KEY}")
    return key


def keyed(key: bytes, text: str) -> str:
    """64 hexadecimal digits that stand for `text`, the same as long as the key is (HMAC-SHA-256)."""
    return hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256").hex()


def veiled(frame: Frame, key: bytes) -> Frame:
    """`frame` with hashes in place of its UIDs and of words in its image type that are not the standard's.

    Equal texts stay equal, so that series are told apart as before.
    """
    changes: dict[str, Any] = {
        field.name: keyed(key, value)
        for field in fields(frame)
        if isinstance(value := getattr(frame, field.name), str) and _is_uid(value)
    }
    words = tuple(word if word in _IMAGE_TYPES else keyed(key, word)[:16] for word in frame.image_type)
    texts = {name: getattr(frame, name) for name in ("series", "instance", "stack", "description")}
    hashes = {name: keyed(key, text) if text else "" for name, text in texts.items()}
    return replace(frame, **{**changes, **hashes, "image_type": words})


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


def _is_uid(text: str) -> bool:
    return bool(re.fullmatch(r"\d+(\.\d+){4,}", text)) and not text.startswith(_DICOM_ROOT)


def _make_key(file: Path) -> None:
    """Two runs that start at once end up with one key: the second finds that the name is taken."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    temporary.touch(0o600)
    temporary.write_text(secrets.token_hex(32) + "\n")
    try:
        os.link(temporary, file)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
