"""What `verify` says of the ledger."""

import sqlite3
from contextlib import closing

import pytest

from tasks.ledger import LEDGER, Entry, ledger_findings
from tasks.ledger.table import Result, Seen, write_night, writing_cases
from tasks.scan.errors import UnreadableLedger
from tests.tasks.report.cases import score, segmented


@pytest.fixture
def ledger(tmp_path):
    """A ledger that knows 100 cases, whose masks all have the checksum bbb…"""
    result = Result(scores=segmented("A", score(1, 0.5)).value, problem=None, costs=())
    names = [f"C{number}" for number in range(100)]
    write_night(tmp_path / LEDGER, dict.fromkeys(names, Seen()), {}, [])
    with writing_cases(tmp_path / LEDGER, {}) as write:
        for name in names:
            facts = {"name": name, "made": "2026", "mask": None, "input_sha256": "a", "content": "c", "keys": {}}
            write(name, lambda seen, facts=facts: Entry(**facts, seen=seen, result=result))
    return tmp_path / LEDGER


def test_a_ledger_that_says_the_same_of_every_mask_agrees(ledger):
    assert ledger_findings(ledger, {"C1": "b" * 64, "new": "c" * 64, "C2": None}) == []


def test_a_ledger_that_somebody_holds_or_that_cannot_be_written_to_is_read(ledger):
    """A run holds it for itself; a backup may be mounted to be read alone."""
    ledger.chmod(0o400)
    ledger.parent.chmod(0o500)
    with closing(sqlite3.connect(ledger)) as held:
        held.execute("PRAGMA locking_mode = EXCLUSIVE")
        held.execute("BEGIN EXCLUSIVE")
        assert ledger_findings(ledger, {"C1": "b" * 64}) == []
    ledger.parent.chmod(0o700)


def test_a_mask_that_the_ledger_knows_with_another_checksum_is_named(ledger):
    assert ledger_findings(ledger, {"C1": "b" * 64, "C2": "c" * 64}) == [
        "ledger.sqlite: case 'C2': its mask is another than the one that the run wrote"
    ]


def test_a_damaged_ledger_is_told(ledger):
    content = bytearray(ledger.read_bytes())
    content[-3 * 4096 :] = b"\x07" * (3 * 4096)
    ledger.write_bytes(content)
    (finding,) = ledger_findings(ledger, {})
    assert finding.startswith("ledger.sqlite: damaged: ")


def test_a_file_that_is_no_ledger_is_refused_by_name(ledger):
    ledger.write_bytes(b"no ledger" * 100)
    with pytest.raises(UnreadableLedger, match="is no ledger of this program"):
        ledger_findings(ledger, {})


def test_without_a_ledger_there_is_nothing_to_disagree_with(tmp_path):
    assert ledger_findings(tmp_path / LEDGER, {"C1": "b"}) == []
