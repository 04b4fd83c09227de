"""What a process of the pool knows from birth: imported by the one that all are forked from (`tasks/nursery.py`).

The garbage collector does not look at it: it is no garbage, and what it touched would no longer be shared.
"""

from __future__ import annotations

import gc
from importlib import import_module

STAGES = ("distributed.nanny", "tasks.ingest", "tasks.preprocess", "tasks.postprocess", "tasks.evaluate", "tasks.work")

gc.disable()
for stage in STAGES:
    import_module(stage)
gc.freeze()
gc.enable()
