"""Is a file still what it was? Its stamp says so for nothing; its bytes do where the stamp does not."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from tasks.ledger.table import Entry, Seen
from tasks.pool import MANY, map_cases
from tasks.scan.content import read_content
from tasks.scan.errors import CaseError
from tasks.scan.files import hash_files
from tasks.scan.records import Case, Outcome

RACY_SECONDS = 2.0
"""A file that changed so shortly before it was looked at may change again without its times showing it."""


BYTES = "bytes "
"""Before the checksum that the keys of a scan begin with which could not be read: that of its files, not of voxels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What is of a case tonight, before anything is done for it."""

    name: str
    seen: Seen
    mask: str | None
    """The stamp of its mask."""
    mask_holds: bool
    """Whether the mask of an earlier night is as it was written."""
    input_sha256: str
    content: str
    """What its keys begin with; empty where that cannot be what it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A case, what the ledger has of it, the stamps of its files; and which of these must be read."""

    case: Case
    entry: Entry | None
    seen: Seen
    mask_file: Path | None
    mask: str | None

    @property
    def input_is_asked(self) -> bool:
        return self.entry is not None and not _same(self.seen.input, self.entry.seen.input)

    @property
    def reference_is_asked(self) -> bool:
        known = self.entry.seen.reference if self.entry else None
        return self.case.reference is not None and not _same(self.seen.reference, known)

    @property
    def mask_is_asked(self) -> bool:
        return self.entry is not None and self.mask_file is not None and not _same(self.mask, self.entry.mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """Checksums of what was read; empty for what was not asked for, is not there, or could not be read."""

    input_sha256: str = ""
    content_sha256: str = ""
    """Only of a scan whose bytes are others than the ledger's."""
    reference_sha256: str = ""
    mask_sha256: str = ""


def look_at_cases(cases: Sequence[tuple[Case, Entry | None]], masks: Path, pool: str) -> dict[str, Now]:
    """What is of each of `cases` tonight, by name. Files whose stamps do not tell are read, in the pool."""
    looks = [_stamped(case, entry, masks) for case, entry in cases]
    asked = [look for look in looks if look.input_is_asked or look.reference_is_asked or look.mask_is_asked]
    items = [Outcome(name=look.case.name, value=look) for look in asked]
    answers = {one.name: one.value or _Looked() for one in map_cases(pool, "compare", _read, items, together=MANY)}
    return {look.case.name: _now(look, answers.get(look.case.name, _Looked())) for look in looks}


def stamp_files(files: Sequence[Path]) -> str | None:
    """A digest of path, size, times of change, and inode of `files`; None where it would not show a further change.

    The inode's own time is in it: a copy that keeps the file's time, or a clock that was set, does not deceive it.
    """
    now_ns = time.time_ns()
    digest = sha256()
    for file in files:
        try:
            status = os.stat(file)  # noqa: PTH116 - Path.stat is the same, and three times as slow
        except OSError:
            return None
        if now_ns - max(status.st_mtime_ns, status.st_ctime_ns) < RACY_SECONDS * 1e9:
            return None
        parts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        digest.update(f"{file}\0{parts}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _stamped(case: Case, entry: Entry | None, masks: Path) -> _Look:
    scores = entry.result.scores if entry else None
    mask_file = masks / scores.segmentation.mask.name if scores else None
    return _Look(
        case=case,
        entry=entry,
        seen=Seen(
            input=stamp_files(case.image.files),
            reference=stamp_files(case.reference.files) if case.reference else None,
        ),
        mask_file=mask_file,
        mask=stamp_files([mask_file]) if mask_file else None,
    )


def _read(look: _Look) -> _Looked:
    """Checksums of the files of a case that `look` asks for."""
    case, entry = look.case, look.entry
    files = hash_or_nothing(case.image.files) if look.input_is_asked else ""
    return _Looked(
        input_sha256=files,
        content_sha256=_content(case) if entry and files != entry.input_sha256 and look.input_is_asked else "",
        reference_sha256=hash_or_nothing(case.reference.files) if look.reference_is_asked and case.reference else "",
        mask_sha256=hash_or_nothing([look.mask_file]) if look.mask_is_asked and look.mask_file else "",
    )


def _now(look: _Look, looked: _Looked) -> Now:
    entry = look.entry
    reference = entry.seen.reference_sha256 if entry and look.case.reference else ""
    scores = entry.result.scores if entry else None
    same_bytes = not look.input_is_asked or (entry is not None and looked.input_sha256 == entry.input_sha256)
    return Now(
        name=look.case.name,
        seen=replace(look.seen, reference_sha256=looked.reference_sha256 if look.reference_is_asked else reference),
        mask=look.mask,
        mask_holds=scores is not None
        and (not look.mask_is_asked or looked.mask_sha256 == scores.segmentation.mask_sha256),
        input_sha256=(looked.input_sha256 if look.input_is_asked else entry.input_sha256) if entry else "",
        content=_begin_of_keys(entry, looked, same_bytes=same_bytes) if entry else "",
    )


def _begin_of_keys(entry: Entry, looked: _Looked, *, same_bytes: bool) -> str:
    """The content of a scan, or, of one that could not be read, its bytes."""
    if same_bytes:
        return entry.content
    return (
        looked.input_sha256 and f"{BYTES}{looked.input_sha256}"
        if entry.content.startswith(BYTES)
        else looked.content_sha256
    )


def _same(tonight: str | None, known: str | None) -> bool:
    return tonight is not None and tonight == known


def hash_or_nothing(files: Sequence[Path]) -> str:
    """The checksum of `files`; empty where one of them cannot be read."""
    try:
        return hash_files(files)
    except OSError:
        return ""


def _content(case: Case) -> str:
    try:
        return read_content(case.image, case.name)
    except (CaseError, OSError, MemoryError):
        return ""
