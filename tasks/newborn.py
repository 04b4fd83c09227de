"""What a process of the pool knows from birth: imported by the one that all are forked from (`tasks/nursery.py`).

The garbage collector does not look at it: what it touched would no longer be shared. Ctrl-C does not end them: who
started them does.
"""

from __future__ import annotations

import signal
from importlib import import_module

from tasks.nursery import unwatched

STAGES = (
    *("distributed.nanny", "tasks.ingest.look", "tasks.ingest.case", "tasks.ledger.again", "tasks.preprocess"),
    *("tasks.infer.there", "tasks.postprocess", "tasks.evaluate.evaluate", "tasks.drawing", "tasks.work"),
)

signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells all at once; the one that asks decides
with unwatched():
    for stage in STAGES:
        import_module(stage)
