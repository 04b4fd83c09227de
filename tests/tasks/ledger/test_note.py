"""Two shards and one ledger: the second begins while the first has cases in hand."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tasks.belt import Belt
from tasks.ledger import LEDGER
from tasks.ledger.note import note
from tasks.ledger.recall import Ledger
from tasks.scan.records import Outcome


def test_a_shard_waits_for_the_ledger_however_long_the_one_before_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0.05))  # 5 s, if nothing is said
    ledger = Ledger(path=tmp_path / LEDGER, masks=tmp_path, recipes={}, retry=False)
    before: Belt = Belt()
    with ThreadPoolExecutor(2) as shards:
        try:
            first = shards.submit(note, before, ledger, "no pool")
            before.queue.put(Outcome(name="A"))
            while not before.queue.empty():
                time.sleep(0.01)
            second = shards.submit(note, [Outcome(name="B")], ledger, "no pool")
            time.sleep(0.3)
            assert not second.done()
        finally:
            before.queue.put(None)
        assert [[one.name for one in shard.result()] for shard in (first, second)] == [["A"], ["B"]]
