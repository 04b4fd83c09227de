"""The ledger's file, `ledger.sqlite` in the output folder: what was read, what came of it, and by which keys.

Whatever is written is written in a transaction: what a kill leaves is a whole ledger of a moment before. Only one run
has an output folder at a time, so that WAL needs no shared memory, and works on shares.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tasks.ledger.versions import APPLICATION, REMEDY, TABLES, VERSION, bring_up_to_date
from tasks.scan.errors import UnreadableLedger, UnwritableOutput
from tasks.scan.records import Cost, Problem, Scores

LEDGER = "ledger.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a case. The scan's and the reference's files are not in it: tonight's may have other names."""

    scores: Scores | None
    problem: Problem | None
    costs: tuple[Cost, ...]
    flags: tuple[str, ...] = ()
    """The warnings that stages after ingest added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a case's files before they were read. A stamp is None where it may not be relied on."""

    input: str | None = None
    reference: str | None = None
    reference_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the ledger knows of a case."""

    name: str
    made: str
    """When the result was made: UTC, ISO 8601."""
    seen: Seen
    mask: str | None
    """The stamp of the mask, from before its checksum was last found right."""
    input_sha256: str
    content: str
    """What `keys` begin with: a checksum of voxels and geometry; of a scan that could not be read, of its bytes."""
    keys: dict[str, str]
    """By stage; a stage that must be done again has none."""
    recipes: dict[str, str] = field(default_factory=dict)
    """The checksums of the recipes by which the stages were done."""
    result: Result

    @property
    def last_stage(self) -> str:
        """The stage that the result is of: the one that refused the case, or `evaluate`."""
        return self.result.problem.stage if self.result.problem and not self.result.scores else "evaluate"


_RESULT = TypeAdapter(Result)


def renew_ledger(path: Path) -> None:
    """The ledger at `path`, if there is one, is of this version. Raises UnreadableLedger or UnwritableOutput."""
    if path.exists():
        with _opened(path) as ledger:
            try:
                bring_up_to_date(ledger, path)
            except OSError as error:
                raise UnwritableOutput(f"ledger '{path}': no copy of it can be kept: {error}; see to that") from error


def read_entries(path: Path, names: Iterable[str]) -> dict[str, Entry]:
    """What is known of the cases `names`; those that are not known, or not as this version has it, are not in it."""
    if not path.exists():
        return {}
    entries = {}
    with _opened(path) as ledger:
        for name in names:
            row = ledger.execute(f"SELECT {_COLUMNS} FROM cases WHERE name = ?", (_in_utf8(name),)).fetchone()
            stages = ledger.execute(
                "SELECT stage, key, recipe FROM stages WHERE name = ?", (_in_utf8(name),)
            ).fetchall()
            if row and (entry := _entry(name, row, stages)):
                entries[name] = entry
    return entries


@contextmanager
def looked_at(path: Path) -> Iterator[Path]:
    """A copy of the ledger at `path`, whoever holds that; for this block, to look at."""
    with TemporaryDirectory(prefix="ledger-") as folder:
        for file in (path, path.with_name(f"{path.name}-wal")):  # what a run has written last is in the second
            if file.exists():
                shutil.copyfile(file, Path(folder) / file.name)
        yield Path(folder) / path.name


@contextmanager
def writing_cases(
    path: Path, recipes: Mapping[str, Mapping[str, str]]
) -> Iterator[Callable[[str, Callable[[Seen], Entry]], None]]:
    """A function that writes a case at once, in place of what was known of it: `write(name, make)`.

    `make` is given what `write_night` noted of the case; of one that it did not note, nothing is written. `recipes` are
    ingredients by checksum.
    """
    written = [(checksum, json.dumps(dict(parts))) for checksum, parts in recipes.items()]
    with _opened(path) as ledger:

        def write(name: str, make: Callable[[Seen], Entry]) -> None:
            if seen := _read_seen(ledger, name):
                entry = make(seen)
                with _transaction(ledger):
                    _write_entry(ledger, entry)

        with _transaction(ledger):
            ledger.executemany("INSERT OR IGNORE INTO recipes VALUES (?, ?)", written)
        yield write


def _write_entry(ledger: sqlite3.Connection, entry: Entry) -> None:
    row = _row(entry)
    ledger.execute(f"INSERT OR REPLACE INTO cases ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    for table in ("stages", "seen"):
        ledger.execute(f"DELETE FROM {table} WHERE name = ?", row[:1])
    stages = [(row[0], stage, key, entry.recipes[stage]) for stage, key in entry.keys.items()]
    ledger.executemany("INSERT INTO stages VALUES (?, ?, ?, ?)", stages)


def _read_seen(ledger: sqlite3.Connection, name: str) -> Seen | None:
    """What `write_night` noted of the case."""
    found = ledger.execute(
        "SELECT input, reference, reference_sha256 FROM seen WHERE name = ?", (_in_utf8(name),)
    ).fetchone()
    return Seen(input=found[0], reference=found[1], reference_sha256=found[2]) if found else None


def write_night(
    path: Path, pending: Mapping[str, Seen], seconds: Mapping[str, float], looked_at: Sequence[Entry]
) -> None:
    """Note what was seen of the cases that are to be done tonight, what they will take, and renewed stamps."""
    rows = [
        (_in_utf8(name), one.input, one.reference, one.reference_sha256, seconds.get(name))
        for name, one in pending.items()
    ]
    stamps = [(one.seen.input, one.seen.reference, one.mask, one.input_sha256, _in_utf8(one.name)) for one in looked_at]
    with _opened(path) as ledger, _transaction(ledger):
        ledger.execute("DELETE FROM seen")
        ledger.executemany("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", rows)
        ledger.executemany(
            "UPDATE cases SET input = ?, reference = ?, mask = ?, input_sha256 = ? WHERE name = ?", stamps
        )


def read_waiting(path: Path) -> set[str]:
    """The names of the cases that the run before was to do and did not."""
    if not path.exists():
        return set()
    with _opened(path) as ledger:
        return {name for (name,) in ledger.execute("SELECT name FROM seen")}


def read_expected(path: Path) -> dict[str, float]:
    """Processor seconds that each case that is to be done tonight will take, of those of which that is known."""
    with _opened(path) as ledger:
        return dict(ledger.execute("SELECT name, seconds FROM seen WHERE seconds IS NOT NULL"))


def read_recipes(path: Path) -> dict[str, dict[str, str]]:
    """The ingredients of every recipe that was ever used, by checksum."""
    if not path.exists():
        return {}
    with _opened(path) as ledger:
        found = ledger.execute("SELECT sha256, ingredients FROM recipes").fetchall()
    return {checksum: dict(json.loads(ingredients)) for checksum, ingredients in found}


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The ledger at `path`, made where there is none, for this block. Raises UnreadableLedger or UnwritableOutput."""
    try:
        is_new = not path.exists() or path.stat().st_size == 0
        ledger = sqlite3.connect(path, isolation_level=None)
        try:
            ledger.execute("PRAGMA locking_mode = EXCLUSIVE")
            if is_new:  # in one transaction, in the file itself: before WAL, so that its first bytes tell its version
                ledger.executescript(
                    f"BEGIN; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; {TABLES} COMMIT;"
                )
            ledger.execute("PRAGMA journal_mode = WAL")
            ledger.execute("PRAGMA synchronous = NORMAL")
            yield ledger
        finally:
            ledger.close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # not the disk: a table is not what its number says
            raise UnreadableLedger(f"'{path}' has other tables than a ledger has ({error}); {REMEDY}") from error
        raise UnwritableOutput(f"ledger '{path}': {error}; see to the disk, then start the run again") from error
    except sqlite3.DatabaseError as error:
        raise UnreadableLedger(f"'{path}' is damaged ({error}); {REMEDY}") from error


@contextmanager
def _transaction(ledger: sqlite3.Connection) -> Iterator[None]:
    """All that the block writes, or, when it is left by an exception or a kill, nothing of it."""
    ledger.execute("BEGIN IMMEDIATE")
    yield
    ledger.execute("COMMIT")


_COLUMNS = "name, made, input, reference, reference_sha256, mask, input_sha256, content, result"


def _row(entry: Entry) -> tuple[Any, ...]:
    seen = entry.seen
    files = (seen.input, seen.reference, seen.reference_sha256, entry.mask, entry.input_sha256)
    return (_in_utf8(entry.name), entry.made, *files, entry.content, _as_json(entry.result))


def _entry(name: str, row: Sequence[Any], stages: Sequence[tuple[str, str, str]]) -> Entry | None:
    """The entry in a row; None where its result is not one that this version knows, so that it is made again."""
    try:
        result = _RESULT.validate_python(json.loads(row[8]))
    except (ValidationError, ValueError):
        return None
    return Entry(
        name=name,
        made=row[1],
        seen=Seen(input=row[2], reference=row[3], reference_sha256=row[4]),
        mask=row[5],
        input_sha256=row[6],
        content=row[7],
        keys={stage: key for stage, key, _ in stages},
        recipes={stage: recipe for stage, _, recipe in stages},
        result=result,
    )


def _as_json(result: Result) -> str:
    """`result` in ASCII: numbers come back as they were, NaN and infinity too, and so does a name that is not UTF-8."""
    return json.dumps(_RESULT.dump_python(result), default=str)


def _in_utf8(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
