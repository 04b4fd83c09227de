"""Files that are either whole or not there, and their checksums."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def temporary_name(path: Path) -> Path:
    """A hidden name in the same folder, of this process only, for a file that is not whole yet."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def write_whole(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write `content` to `path` so that a reader, or a kill at any moment, finds all of it or the former file.

    `mode` are the permissions of the file, from its first byte on; None: the account's usual ones.
    """
    temporary = temporary_name(path)
    temporary.unlink(missing_ok=True)
    if mode is not None:
        temporary.touch(mode, exist_ok=False)
    with _put_in_place(temporary, path), temporary.open("wb" if mode else "xb") as file:  # x: never through a link
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _put_in_place(temporary: Path, path: Path) -> Iterator[None]:
    """`temporary` becomes `path` when the block ends well, and goes when it does not: a full disk keeps no halves."""
    try:
        yield
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def save_array(path: Path, array: NDArray[np.generic]) -> Path:
    """`path`, which now holds `array` in numpy's own format, for passing between the stages of one run."""
    temporary = temporary_name(path)
    whole = np.ascontiguousarray(array)
    with _put_in_place(temporary, path), temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        file.write(whole.data)  # numpy's own way does not tell a full disk from any other trouble
    return path


def hash_files(files: Sequence[Path]) -> str:
    """SHA-256 over the bytes of `files`, in their order."""
    digest = sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
