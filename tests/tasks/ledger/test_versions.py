"""A ledger of an older version is brought up to date, a newer or a foreign one is refused by name: none is misread."""

import sqlite3
from contextlib import closing
from hashlib import sha256

import pytest

from tasks.ledger import LEDGER, check_ledger, read_entries, read_expected
from tasks.ledger import look as look_module
from tasks.ledger.table import Seen, read_waiting, renew_ledger, write_night
from tasks.ledger.versions import TABLES, VERSION
from tasks.pool import PoolConfig, open_pool
from tasks.scan.errors import UnreadableLedger, UnwritableOutput
from tests.phantoms import box, picture, write_nifti
from tests.tasks.ledger.nights import Home, night, todo, train_nothing

VERSION_1 = """
PRAGMA application_id = 1589657630;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
CREATE TABLE recipes (sha256 TEXT PRIMARY KEY, ingredients TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE seen (name TEXT PRIMARY KEY, input TEXT, reference TEXT, reference_sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cases (name TEXT PRIMARY KEY, made TEXT NOT NULL, input TEXT, reference TEXT,
  reference_sha256 TEXT NOT NULL, mask TEXT,
  input_sha256 TEXT NOT NULL, content TEXT NOT NULL, result TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE stages (name TEXT, stage TEXT, key TEXT NOT NULL, recipe TEXT NOT NULL, PRIMARY KEY (name, stage))
  WITHOUT ROWID;
INSERT INTO seen VALUES ('late', NULL, NULL, '');
INSERT INTO stages VALUES ('bad', 'preprocess', 'k', 'r');
INSERT INTO cases VALUES ('bad', '2026-11-25T01:00:00+00:00', 's', NULL, '', NULL, 'i', 'bytes i',
  '{"scores": null, "costs": [], "flags": [], "problem": {"stage": "preprocess", "status": "quarantined",
    "reason": "non_finite_voxels", "message": "m", "remedy": "r"}}');
"""
"""What the first version with a ledger wrote, of a night with one refused case and one that it did not come to."""


@pytest.fixture
def old(tmp_path):
    """A ledger of version 1."""
    with closing(sqlite3.connect(tmp_path / LEDGER)) as ledger:
        ledger.executescript(VERSION_1)
    return tmp_path / LEDGER


def columns_of_seen(path):
    with closing(sqlite3.connect(path)) as ledger:
        return [row[1] for row in ledger.execute("PRAGMA table_info(seen)")]


def give_version(path, version):
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute(f"PRAGMA user_version = {version}")


def test_an_old_ledger_tells_after_it_is_brought_up_to_date_what_it_told(old):
    check_ledger(old)
    renew_ledger(old)
    check_ledger(old)
    known = read_entries(old, ["bad", "late"])
    assert list(known) == ["bad"]
    assert (known["bad"].result.problem.reason, known["bad"].keys) == ("non_finite_voxels", {"preprocess": "k"})
    assert (read_waiting(old), read_expected(old)) == ({"late"}, {})


def test_an_old_ledger_can_be_written_to_after_it_is_brought_up_to_date(old):
    renew_ledger(old)
    write_night(old, {"late": Seen()}, {"late": 2.5}, [])
    assert read_expected(old) == {"late": 2.5}


def test_an_old_ledger_is_kept_beside_the_new_one_as_the_version_before_reads_it(old):
    renew_ledger(old)
    assert columns_of_seen(old.with_name("ledger.v1.sqlite")) == ["name", "input", "reference", "reference_sha256"]
    assert old.with_name("ledger.v1.sqlite").read_bytes()[60:64] == b"\0\0\0\1"


def test_a_ledger_of_version_1_that_has_the_later_column_already_is_brought_up_to_date_too(old):
    with closing(sqlite3.connect(old)) as ledger:
        ledger.execute("ALTER TABLE seen ADD COLUMN seconds REAL")
        ledger.execute("UPDATE seen SET seconds = 7")
        ledger.commit()
    renew_ledger(old)
    assert read_expected(old) == {"late": 7.0}


def test_a_ledger_of_this_version_is_left_as_it_is(tmp_path):
    write_night(tmp_path / LEDGER, {}, {}, [])
    renew_ledger(tmp_path / LEDGER)
    assert [file.name for file in tmp_path.iterdir()] == [LEDGER]


def test_an_old_ledger_of_which_no_copy_can_be_kept_stays_as_it_is(old):
    old.with_name("ledger.v1.sqlite").mkdir()
    with pytest.raises(UnwritableOutput, match="no copy of it can be kept"):
        renew_ledger(old)
    assert "seconds" not in columns_of_seen(old)


@pytest.mark.parametrize("version", [0, 3, 99])
def test_a_ledger_of_a_version_that_is_not_known_is_refused_by_name_and_left_alone(old, version):
    give_version(old, version)
    content = old.read_bytes()
    with pytest.raises(
        UnreadableLedger, match=f"ledger {version}, this one reads 1 to 2.; install that version, or mo"
    ):
        check_ledger(old)
    with pytest.raises(UnreadableLedger, match=f"ledger {version}, "):
        renew_ledger(old)
    assert old.read_bytes() == content


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(84)])
def test_what_is_no_ledger_is_refused_by_name(tmp_path, content):
    (tmp_path / LEDGER).write_bytes(content)
    with pytest.raises(UnreadableLedger, match="is no ledger of this program; move it away"):
        check_ledger(tmp_path / LEDGER)


def test_a_ledger_with_other_tables_than_its_version_has_is_refused_by_name(old):
    give_version(old, VERSION)
    with pytest.raises(UnreadableLedger, match="has other tables than a ledger has .*; move it away"):
        write_night(old, {"late": Seen()}, {}, [])


def test_a_change_of_the_tables_has_a_new_version():
    """Whoever changes the tables raises VERSION, writes the step from the one before, and changes this line."""
    told = (VERSION, sha256(" ".join(TABLES.split()).encode()).hexdigest()[:16])
    assert told == (2, "47678d38d55477b3")


def test_a_night_goes_on_from_a_ledger_of_version_1(tmp_path, monkeypatch):
    monkeypatch.setattr(look_module, "RACY_SECONDS", 0)
    with open_pool(PoolConfig(workers=1)) as pool:
        home = Home(folder=tmp_path, pool=pool)
        train_nothing(home.path("model"))
        write_nifti(home.path("in/a.nii.gz"), picture(box((12, 10, 8), (2, 2, 2), (8, 5, 6)), 1))
        assert todo(night(home)[0]) == {"a": "segment"}
        with closing(sqlite3.connect(home.path("out/ledger.sqlite"))) as ledger:
            ledger.executescript("ALTER TABLE seen DROP COLUMN seconds; PRAGMA user_version = 1;")
        assert todo(night(home)[0]) == {}
