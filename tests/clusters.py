"""A Dask cluster as a site runs it: every process was started by itself, and has a working folder of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distributed import Client, Security

ROOT = Path(__file__).parents[1]


@contextmanager
def dask_cluster(folder: Path, tls: Mapping[str, Path] | None = None) -> Iterator[str]:
    """The address of a scheduler with two workers; with `tls`, each of them has these certificates."""
    file, environment = folder / "scheduler.json", {**os.environ, "PYTHONPATH": str(ROOT)}
    common = ["--scheduler-file", file, "--host", "127.0.0.1", "--no-dashboard"]
    security = None
    if tls:
        common += ["--tls-ca-file", tls["ca"], "--tls-cert", tls["certificate"], "--tls-key", tls["key"]]
        files = {"tls_ca_file": tls["ca"], "tls_client_cert": tls["certificate"], "tls_client_key": tls["key"]}
        security = Security(**{name: str(file) for name, file in files.items()}, require_encryption=True)
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
        with Client(scheduler_file=str(file), timeout=60, security=security) as client:
            client.wait_for_workers(2, timeout=60)
            yield client.scheduler.address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
