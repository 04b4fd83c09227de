"""The versions that a ledger can have: the tables of this one, and how an older one becomes it.

Each change of the tables has a number, in the file's header, where it is read before anything else is. A newer ledger
is refused by name; an older one is copied to `ledger.v1.sqlite` and brought up to date in one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tasks.scan.errors import UnreadableLedger
from tasks.scan.files import temporary_name

VERSION = 2
APPLICATION = 0x5EC0401E
"""Marks the file as a ledger of this program."""
REMEDY = "move it away: the next run then segments every case anew"
TABLES = """
CREATE TABLE recipes (sha256 TEXT PRIMARY KEY, ingredients TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE seen (name TEXT PRIMARY KEY, input TEXT, reference TEXT, reference_sha256 TEXT NOT NULL, seconds REAL)
  WITHOUT ROWID;
CREATE TABLE cases (name TEXT PRIMARY KEY, made TEXT NOT NULL, input TEXT, reference TEXT,
  reference_sha256 TEXT NOT NULL, mask TEXT,
  input_sha256 TEXT NOT NULL, content TEXT NOT NULL, result TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE stages (name TEXT, stage TEXT, key TEXT NOT NULL, recipe TEXT NOT NULL, PRIMARY KEY (name, stage))
  WITHOUT ROWID;
"""


def check_ledger(path: Path) -> None:
    """Raises UnreadableLedger when `path` holds something else than a ledger of this version or an older one.

    It reads the first bytes alone, and changes nothing.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        head = file.read(100)
    if head[:16] != b"SQLite format 3\0" or int.from_bytes(head[68:72], "big") != APPLICATION:
        raise UnreadableLedger(f"'{path}' is no ledger of this program; {REMEDY}")
    _refuse_unknown(int.from_bytes(head[60:64], "big"), path)


def copy_of(path: Path, version: int) -> Path:
    """Where the ledger at `path` is kept as it was in an older `version`.

    >>> copy_of(Path("out/ledger.sqlite"), 1)
    PosixPath('out/ledger.v1.sqlite')
    """
    return path.with_name(f"{path.stem}.v{version}{path.suffix}")


def bring_up_to_date(ledger: sqlite3.Connection, path: Path) -> None:
    """The open `ledger`, which is the file `path`, has the tables of this version, in place of those of an older one.

    All or nothing of it is done, and what it was is kept beside it. Raises UnreadableLedger for a newer one.
    """
    (version,) = ledger.execute("PRAGMA user_version").fetchone()
    _refuse_unknown(version, path)
    if version == VERSION:
        return
    temporary = temporary_name(path)
    with closing(sqlite3.connect(temporary)) as copy:
        ledger.backup(copy)
    temporary.replace(copy_of(path, version))
    ledger.execute("BEGIN IMMEDIATE")
    for step in range(version, VERSION):
        _STEPS[step](ledger)
    ledger.execute(f"PRAGMA user_version = {VERSION}")
    ledger.execute("COMMIT")
    ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # its number is at once where `check_ledger` reads it


def _refuse_unknown(version: int, path: Path) -> None:
    if not 1 <= version <= VERSION:
        raise UnreadableLedger(
            f"'{path}' was written by another version of this program (ledger {version}, this one reads 1 to "
            f"{VERSION}); install that version, or {REMEDY}"
        )


def _from_1(ledger: sqlite3.Connection) -> None:
    """The first ledgers did not know how long a case will take; later ones of the same number did."""
    if "seconds" not in {row[1] for row in ledger.execute("PRAGMA table_info(seen)")}:
        ledger.execute("ALTER TABLE seen ADD COLUMN seconds REAL")


_STEPS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _from_1}
"""By version: what makes of it the next one."""
