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

from tasks.scan.errors import UnknownSetting
from tasks.scan.frame import Frame

SHORTEST_KEY = 16
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
