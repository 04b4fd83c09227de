"""Which files this process opens, as the interpreter itself reports it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_watched: list[tuple[Path, list[Path]]] = []


@contextmanager
def opened_here(folder: Path) -> Iterator[list[Path]]:
    """The files below `folder` that this process, and no other, opens while the block runs."""
    files: list[Path] = []
    _watched.append((folder, files))
    try:
        yield files
    finally:
        _watched.remove((folder, files))


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str | bytes):
        file = Path(os.fsdecode(arguments[0]))
        for folder, files in _watched:
            if folder in file.parents:
                files.append(file)


sys.addaudithook(_note)  # it stays for good, and costs nothing while nothing is watched
