"""What earlier looks at the headers of a cohort gave, so that the next one reads only what is new.

A file is known by its path, size, time of change and inode: enough for a header, never trusted for voxels. Only what
could be read is remembered, so a case that was refused is tried again each time. The memory is a file of JSON beside
the history of the runs, for its owner alone; losing it costs nothing but time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasks.scan.files import write_whole

Stamp = tuple[int, int, int]
FORMAT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What was known when this look began, and what of it is still in use or new; the second is what is kept."""

    known: dict[str, Any] = field(default_factory=dict)
    used: dict[str, Any] = field(default_factory=dict)


@contextmanager
def remembering(file: Path | None) -> Iterator[Memory]:
    """The memory that `file` holds, which is written back at the end; None: one for this look only.

    A file that is damaged, or from another version of a reader, is an empty memory.
    """
    memory = Memory(known=_load(file) if file else {})
    yield memory
    if file and memory.used != memory.known:
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # a full disk: the next look will be as slow as this one, nothing else
            write_whole(file, json.dumps({**_versions(), "entries": memory.used}).encode(), mode=0o600)


def stamp(file: Path) -> Stamp | None:
    """Size, time of change in ns, and inode of what `file` leads to; None where there is nothing."""
    try:
        status = os.stat(file)  # noqa: PTH116 - Path.stat is the same, and three times as slow
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns, status.st_ino)


def key_of(what: str, files: Sequence[Path], stamps: dict[Path, Stamp | None]) -> str | None:
    """What an entry about `files` is found by; None where one of them is not there, so that nothing is to be known."""
    digest = sha256(what.encode("utf-8", "surrogateescape"))
    for file in files:
        if stamps.get(file) is None:
            return None
        digest.update(f"\0{file}\0{stamps[file]}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
        entries = content.pop("entries")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    return entries if isinstance(entries, dict) and content == _versions() else {}


def _versions() -> dict[str, Any]:
    packages = ("segment-cohort", "pydicom", "nibabel", "SimpleITK")
    return {"format": FORMAT, **{package: version(package) for package in packages}}
