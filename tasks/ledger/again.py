"""The files of a case whose stamps do not tell whether they are what they were: read again, in the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.ledger.table import Entry, Seen
from tasks.named import Named
from tasks.scan.errors import CaseError
from tasks.scan.files import hash_files
from tasks.scan.records import Case

READ_CONTENT = Named("tasks.scan.content", "read_content")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A case, what the ledger has of it, the stamps of its files; and which of these must be read."""

    case: Case
    entry: Entry | None
    seen: Seen
    mask_file: Path | None
    mask: str | None

    @property
    def input_is_asked(self) -> bool:
        """Whether the scan's files are to be read."""
        return self.entry is not None and not is_same(self.seen.input, self.entry.seen.input)

    @property
    def reference_is_asked(self) -> bool:
        """Whether the reference's are."""
        known = self.entry.seen.reference if self.entry else None
        return self.case.reference is not None and not is_same(self.seen.reference, known)

    @property
    def mask_is_asked(self) -> bool:
        """Whether the mask of an earlier night is."""
        return self.entry is not None and self.mask_file is not None and not is_same(self.mask, self.entry.mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Checksums of what was read; empty for what was not asked for, is not there, or could not be read."""

    input_sha256: str = ""
    content_sha256: str = ""
    """Only of a scan whose bytes are others than the ledger's."""
    reference_sha256: str = ""
    mask_sha256: str = ""


def read_asked(look: Look) -> Looked:
    """Checksums of the files of a case that `look` asks for."""
    case, entry = look.case, look.entry
    files = hash_or_nothing(case.image.files) if look.input_is_asked else ""
    return Looked(
        input_sha256=files,
        content_sha256=_content(case) if entry and files != entry.input_sha256 and look.input_is_asked else "",
        reference_sha256=hash_or_nothing(case.reference.files) if look.reference_is_asked and case.reference else "",
        mask_sha256=hash_or_nothing([look.mask_file]) if look.mask_is_asked and look.mask_file else "",
    )


def hash_or_nothing(files: Sequence[Path]) -> str:
    """The checksum of `files`; empty where one of them cannot be read."""
    try:
        return hash_files(files)
    except OSError:
        return ""


def _content(case: Case) -> str:
    try:
        return str(READ_CONTENT(case.image, case.name))
    except (CaseError, OSError, MemoryError):
        return ""


def is_same(tonight: str | None, known: str | None) -> bool:
    """Whether a stamp is known, and the same."""
    return tonight is not None and tonight == known
