"""What every reader of scans shares: the record of a header, and one way to say that a file cannot be read."""

from __future__ import annotations

import errno
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.scan.errors import CaseError, UnreadableImage
from tasks.scan.records import Geometry, Source

# An error of the file system that waiting will not cure; any other one (a share that is away) is left to be retried.
_COPY_AGAIN = "copy or export it again from where it came from"
_LASTING = {
    errno.ENOENT: ("does not exist", _COPY_AGAIN),
    errno.ENOTDIR: ("does not exist", _COPY_AGAIN),
    errno.ELOOP: ("is a link that leads nowhere", _COPY_AGAIN),
    errno.EISDIR: ("is a folder without a readable scan", "put the scan into it, or name another folder"),
    errno.ENAMETOOLONG: ("has a name that is too long", _COPY_AGAIN),
    errno.EINVAL: ("cannot be read: its header points to nowhere", _COPY_AGAIN),
    errno.EACCES: ("may not be read by this account", "let the account that runs this read it"),
}


LONGEST_SHOWN = 100
_DICOM = (".dcm", ".dicom", ".ima")
_OTHERS = (".nii", ".nii.gz", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the headers of one image say: its files in order, its grid as stored, and what is odd about them.

    `volumes` is how many its file holds, of which `source` names the one that is meant.
    """

    source: Source
    geometry: Geometry
    warnings: tuple[str, ...] = ()
    volumes: int = 1


def shown(file: Path) -> str:
    """The file's name as messages may show it: short, without folders, and without UIDs, which identify a patient.

    Archives name DICOM files after patients: of such a name only short words and numbers are left.

    >>> shown(Path("Doe_John_003.dcm"))
    '…_…_003.dcm'
    """
    name = re.sub(r"\d+(\.\d+){4,}", "…", file.name)
    if file.suffix.lower() in _DICOM or (not name.lower().endswith(_OTHERS) and os.path.isfile(file)):  # noqa: PTH113
        ending = file.suffix if file.suffix.lower() in _DICOM else ""
        name = veiled_words(name.removesuffix(ending)) + ending
    return name if len(name) <= LONGEST_SHOWN else f"{name[: LONGEST_SHOWN - 1]}…"


def veiled_words(text: str) -> str:
    """`text` with `…` for each UID, and word of three letters or number of six digits and more: names, dates …

    >>> veiled_words("Doe_Li/19010203/MR/0042")
    '…_Li/…/MR/0042'
    """
    return re.sub(r"\d+(\.\d+){4,}|[^\W\d_]{3,}|\d{6,}", "…", text)


@contextmanager
def reading(file: Path, case: str) -> Iterator[None]:
    """Turns whatever a library raises over the bytes of `file` into `UnreadableImage`; passing OSErrors stay.

    Libraries' own messages and warnings are not repeated: they may quote the header, and the header names the patient.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (CaseError, MemoryError):
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number is not None and number not in _LASTING:
            raise
        broken = (f"cannot be read ({type(error).__name__}): it is damaged or cut short", _COPY_AGAIN)
        found, remedy = _LASTING.get(number or 0, broken)
        raise UnreadableImage(
            case, found=f"'{shown(file)}' {found}", needed="a complete file", remedy=remedy
        ) from error
