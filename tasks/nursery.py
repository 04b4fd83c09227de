"""Where the processes of the local pool are born: of one that has imported what the stages need, and does nothing else.

Importing takes a process two seconds, being born of one that has imported takes it none; and a worker that died is
replaced as quickly. Only what the standard library has is imported here: `segment-cohort` calls this before anything
heavy, so that both import at the same time.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, set_forkserver_preload

ENVIRONMENT = {
    "PREFECT_PLUGINS_ENABLED": "false",  # they start an event loop, and a worker already runs one
    "OMP_NUM_THREADS": "1",  # one process a core, one thread a process
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
}


@contextmanager
def unwatched() -> Iterator[None]:
    """The garbage collector does not look at what is imported in this block, then or later: it is no garbage."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def prepare_nursery() -> None:
    """Start that process, if it does not run yet; it ends with this one."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        set_forkserver_preload(["tasks.newborn"])
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
