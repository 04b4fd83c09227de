"""Does the ledger still hold what it did, and does it say the same of each mask as the record of the run?"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from tasks.ledger.table import looked_at, read_entries
from tasks.ledger.versions import check_ledger


def ledger_findings(path: Path, masks: Mapping[str, str | None]) -> list[str]:
    """What is wrong with the ledger at `path`, one line each; `masks` has the checksum of each case's mask, if any.

    Empty when all is well, or there is no ledger. Raises UnreadableLedger when it cannot be read at all.
    """
    if not path.exists():
        return []
    check_ledger(path)
    with looked_at(path) as copy:  # a run may have it, or its disk be one that is only read
        if damage := _damage(copy):
            return [f"{path.name}: damaged: {damage}"]
        entries = read_entries(copy, [name for name, checksum in masks.items() if checksum])
    return [
        f"{path.name}: case '{name}': its mask is another than the one that the run wrote"
        for name, entry in entries.items()
        if entry.result.scores and entry.result.scores.segmentation.mask_sha256 != masks[name]
    ]


def _damage(path: Path) -> str:
    """The first of what SQLite finds wrong with the file at `path`; empty when nothing is."""
    try:
        with closing(sqlite3.connect(path)) as ledger:
            (said,) = ledger.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if said == "ok" else str(said)
