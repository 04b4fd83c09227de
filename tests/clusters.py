"""A Dask cluster as a site runs it: every process was started by itself, and has a working folder of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

ROOT = Path(__file__).parents[1]


@contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """The address of a scheduler with two workers."""
    file, environment = folder / "scheduler.json", {**os.environ, "PYTHONPATH": str(ROOT)}
    common = ["--scheduler-file", file, "--host", "127.0.0.1", "--no-dashboard"]
    commands = {"scheduler": ["scheduler", *common, "--port", "0"]}
    commands |= {name: ["worker", *common, "--nthreads", "1"] for name in ("first", "second")}
    started = []
    for name, command in commands.items():
        (folder / name).mkdir(parents=True)
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                cwd=folder / name,
                env=environment,
                stderr=subprocess.DEVNULL,
            )
        )
    try:
        with Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            yield client.scheduler.address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
