"""The output folder: one run's alone, fit to be written before the first case, and as it was when the run refuses."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TextIO

from tasks.scan.errors import SetupError, UnwritableOutput

LOCK, WORK = ".lock", ".work"


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Turns an OSError of the block into UnwritableOutput: the one place that says so."""
    try:
        yield
    except OSError as error:
        where = f" ('{error.filename}')" if error.filename and str(error.filename) != str(output) else ""
        raise UnwritableOutput(
            f"output '{output}': {error.strerror or error}{where}; choose a folder that can be written"
        ) from error


def check_parts(output: Path, files: Sequence[str], folders: Sequence[str]) -> None:
    """Raises UnwritableOutput when what is in `output` stands in the way of `files`, or of files in `folders`.

    So does a link: what a run writes, puts aside and removes is in its own folder, and not where a link may lead.
    """
    with writing(output):
        for part in (output / name for name in (*files, *folders, LOCK, WORK)):
            if part.is_symlink():
                raise OSError(errno.ELOOP, "is a link, which a run does not follow", str(part))
        for file in (output / name for name in files):
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        for folder in (output / name for name in folders):
            if folder.exists():
                TemporaryFile(dir=folder).close()


@contextmanager
def hold_folder(output: Path) -> Iterator[None]:
    """`output` exists and is this run's alone, until the block ends or the process dies. Raises UnwritableOutput.

    When the block refuses by name (SetupError), folders and lock that were not there before go again, if empty.
    """
    missing = [folder for folder in (output, *output.parents) if not folder.exists()]
    lock_is_new = not (output / LOCK).exists()
    try:
        with writing(output):
            output.mkdir(parents=True, exist_ok=True)
            lock = _locked(output / LOCK)
        with lock:
            try:
                yield
            except SetupError:
                if lock_is_new:  # while it is held: whoever opened it meanwhile will see that it is gone
                    (output / LOCK).unlink()
                raise
    except SetupError:
        for folder in missing:
            with suppress(OSError):  # one that is not empty stays
                folder.rmdir()
        raise


def _locked(path: Path) -> TextIO:
    """The file at `path`, locked, with this process's id in it. Raises UnwritableOutput when another process has it."""
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        with lock:
            lock.seek(0)
            holder = lock.read().strip()
        raise UnwritableOutput(
            f"output '{path.parent}' is in use by process {holder}; wait for it, or choose another folder"
        ) from error
    if not path.exists() or not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
        lock.close()  # another run refused, and took it away between our opening and locking it
        return _locked(path)
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


@contextmanager
def workspace(output: Path) -> Iterator[Path]:
    """An empty folder for what stages pass to each other; removed at the end, or by the next run after a kill."""
    work = output / WORK
    shutil.rmtree(work, ignore_errors=True)
    with writing(output):
        work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
