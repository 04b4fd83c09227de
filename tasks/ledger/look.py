"""Is a file still what it was? Its stamp says so for nothing; its bytes do where the stamp does not."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from tasks.ledger.again import Look, Looked, read_asked
from tasks.ledger.table import Entry, Seen
from tasks.pool import MANY, map_cases
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


def look_at_cases(cases: Sequence[tuple[Case, Entry | None]], masks: Path, pool: str) -> dict[str, Now]:
    """What is of each of `cases` tonight, by name. Files whose stamps do not tell are read, in the pool."""
    looks = [_stamped(case, entry, masks) for case, entry in cases]
    asked = [look for look in looks if look.input_is_asked or look.reference_is_asked or look.mask_is_asked]
    items = [Outcome(name=look.case.name, value=look) for look in asked]
    answers = {one.name: one.value or Looked() for one in map_cases(pool, "compare", read_asked, items, together=MANY)}
    return {look.case.name: _now(look, answers.get(look.case.name, Looked())) for look in looks}


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


def _stamped(case: Case, entry: Entry | None, masks: Path) -> Look:
    scores = entry.result.scores if entry else None
    mask_file = masks / scores.segmentation.mask.name if scores else None
    return Look(
        case=case,
        entry=entry,
        seen=Seen(
            input=stamp_files(case.image.files),
            reference=stamp_files(case.reference.files) if case.reference else None,
        ),
        mask_file=mask_file,
        mask=stamp_files([mask_file]) if mask_file else None,
    )


def _now(look: Look, looked: Looked) -> Now:
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


def _begin_of_keys(entry: Entry, looked: Looked, *, same_bytes: bool) -> str:
    """The content of a scan, or, of one that could not be read, its bytes."""
    if same_bytes:
        return entry.content
    return (
        looked.input_sha256 and f"{BYTES}{looked.input_sha256}"
        if entry.content.startswith(BYTES)
        else looked.content_sha256
    )
