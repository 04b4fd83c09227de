"""What a case costs beside its own work, from 100 cases to 10,000: `python -m benchmarks.scale [--cases N …]`.

A night over scans of 8 × 8 × 8 voxels, each with a reference, and a network of almost nothing; on a Prefect server, a
Dask pool and a ledger of their own. Then the same night again, in which nothing has changed. Prints, for each number of
cases:

- seconds of the night, and milliseconds a case: of these, the work is what the functions of the stages take by
  themselves, one after the other in one process, shared by the cores; the rest is overhead
- the flow's memory after the first thousand cases (or the first tenth) and at the end of the line
- rows that the night left in Prefect's database, and what a case costs where n is large: linear, if all are the same

`--plot FILE` draws milliseconds a case against the number of cases.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
import torch
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.segment_cohort import segment_cohort
from flows.services import down, recorded_by_server
from flows.settings import Settings
from tasks.drawing import draw_picture
from tasks.evaluate import EvaluationConfig
from tasks.evaluate.evaluate import evaluate_case
from tasks.infer import InferenceConfig, Weights
from tasks.infer.case import infer_case
from tasks.infer.machine import make_ready, resolve
from tasks.ingest import IngestConfig
from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.model import Model, Plan
from tasks.model.folder import read_model, save_model
from tasks.postprocess import postprocess_case
from tasks.preprocess import preprocess_case
from unet import UNet, UNetConfig

SIDE = 8
NETWORK = UNetConfig(dimensions=3, out_channels=2, features=(2, 4), normalisation="batch", upsampling="nearest")
ALONE = 100
"""Cases of which the work itself is measured."""
EVERY_SECONDS = 0.5
CHILD = "--child"


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="scale-") as name, server_of_its_own(Path(name)):
        folder = Path(name)
        make_model(folder / "model")
        make_cohort(folder / "alone", ALONE)
        work = _work_alone(folder)
        print(f"{os.cpu_count()} cores; the work of a case by itself, on one of them: {1000 * work:.1f} ms")
        points = []
        for count in arguments.cases:
            points.append(measure(folder / str(count), count, work, folder))
            _say(points[-1])
    if arguments.plot:
        _plot(points, arguments.plot)
    if arguments.json:
        arguments.json.write_text(json.dumps(points, indent=1))


def measure(home: Path, count: int, work: float, top: Path) -> dict[str, Any]:
    """A night over `count` new cases and one over the same, each in a process of its own."""
    make_cohort(home / "in", count)
    before = prefect_rows(top)
    first = _night(home, top)
    after = prefect_rows(top)
    again = _night(home, top)
    cores = os.cpu_count() or 1
    return {
        "cases": count,
        "seconds": first["seconds"],
        "ms_a_case": 1000 * first["seconds"] / count,
        "overhead_ms_a_case": 1000 * (first["seconds"] / count - work / cores),
        "early_mb": first["early_mb"],
        "late_mb": first["late_mb"],
        "peak_mb": first["peak_mb"],
        "rows": {table: after[table] - before.get(table, 0) for table in after if after[table] > before.get(table, 0)},
        "again_seconds": again["seconds"],
        "again_state": again["state"],
    }


def night(home: Path, model: Path) -> None:
    """A night in this process; prints what it took, as JSON in the last line."""
    settings = Settings(references=home / "in" / "references", ingest=IngestConfig(settle_seconds=0))
    with recorded_by_server(), _watching_memory(home / "out" / "segmentations") as memory:
        start = time.perf_counter()
        state = segment_cohort(home / "in" / "scans", model, home / "out", settings, return_state=True)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "state": f"{state.name}: {state.message}", **memory()}))


def make_model(folder: Path) -> None:
    """A model of random weights."""
    torch.manual_seed(0)
    plan = Plan(network=NETWORK, spacing_mm=(1, 1, 1), patch=(SIDE, SIDE, SIDE), batch_size=2)
    save_model(Model(plan=plan, labels={1: "head"}, weights_sha256=""), [UNet(NETWORK).eval()], folder)


def make_cohort(folder: Path, count: int, side: int = SIDE) -> None:
    """`count` scans of noise with a bright box, in `scans`, and the box as their reference, in `references`."""
    random = np.random.default_rng(0)
    box = np.zeros((side, side, side), np.uint8)
    box[side // 4 : -side // 4, side // 4 : -side // 4, side // 4 : -side // 4] = 1
    for part in ("scans", "references"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scan = (100 * box + random.integers(0, 50, box.shape)).astype(np.int16)
        for part, voxels in (("scans", scan), ("references", box)):
            nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(folder / part / f"case_{number:06d}.nii")


def _work_alone(folder: Path) -> float:
    """Seconds of a case in the functions of the stages, its picture included, one after the other in this process."""
    model, config = read_model(folder / "model"), InferenceConfig()
    networks = make_ready(Weights(folder=folder / "model"), model, resolve(config))
    found, _ = discover(folder / "alone" / "scans", folder / "alone" / "references")
    work, masks = folder / "alone" / "work", folder / "alone" / "masks"
    for new in (work, masks):
        new.mkdir()
    cases = [ingest_case(one) for one in found]
    seconds = []
    for case in cases:
        start = time.perf_counter()
        prepared = preprocess_case(case, model.plan, work, model.fingerprint)
        predicted = infer_case(prepared, networks, model, config, work)
        scores = evaluate_case(postprocess_case(predicted, model, masks), model.labels, EvaluationConfig())
        draw_picture(scores, folder / "alone" / "pictures")
        seconds.append(time.perf_counter() - start)
    return float(np.mean(seconds[len(seconds) // 10 :]))  # the first ones import and compile


def _night(home: Path, top: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", CHILD, str(home), str(top / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@contextmanager
def _watching_memory(masks: Path) -> Iterator[Callable[[], dict[str, float]]]:
    """What this process holds, against how many masks there are: early, late, and at most."""
    seen: list[tuple[int, float]] = []
    ended = threading.Event()
    process = psutil.Process()

    def watch() -> None:
        while not ended.wait(EVERY_SECONDS):
            count = len(os.listdir(masks)) if masks.is_dir() else 0  # noqa: PTH208 - names alone
            seen.append((count, process.memory_info().rss / 1e6))

    def told() -> dict[str, float]:
        most = max((count for count, _ in seen), default=0)
        tenth = max(min(1000, most // 10), 1)
        early = max((held for count, held in seen if 0 < count <= max(tenth, 100)), default=0.0)
        late = max((held for count, held in seen if most - tenth <= count < most), default=0.0)
        return {"early_mb": early, "late_mb": late, "peak_mb": max((held for _, held in seen), default=0.0)}

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield told
    finally:
        ended.set()
        watcher.join()


@contextmanager
def server_of_its_own(folder: Path) -> Iterator[None]:
    """A Prefect server with its own home and port, for this process and those that it starts."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    settings = {PREFECT_HOME: folder / "prefect", PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}
    os.environ |= {setting.name: str(value) for setting, value in settings.items()}
    with temporary_settings(settings):
        try:
            yield
        finally:
            down()


def prefect_rows(folder: Path) -> dict[str, int]:
    """Rows of each table of the server's database, once it has written what it was told."""
    file = folder / "prefect" / "prefect.db"
    counted: dict[str, int] = {}
    while file.exists():
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as base:
            tables = [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            now = {name: base.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
        base.close()
        if now == counted:
            break
        counted = now
        time.sleep(5)
    return counted


def _say(point: dict[str, Any]) -> None:
    print(
        f"{point['cases']:>6} cases {point['seconds']:8.1f} s {point['ms_a_case']:7.1f} ms a case, overhead "
        f"{point['overhead_ms_a_case']:6.1f} ms; memory early {point['early_mb']:.0f} MB, late {point['late_mb']:.0f}, "
        f"most {point['peak_mb']:.0f}; again {point['again_seconds']:.1f} s; rows "
        + ", ".join(f"{table} {rows}" for table, rows in sorted(point["rows"].items())),
        flush=True,
    )


def _plot(points: list[dict[str, Any]], file: Path) -> None:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - only for the drawing

    counts = [point["cases"] for point in points]
    for name, key in (("all in all", "ms_a_case"), ("overhead", "overhead_ms_a_case")):
        plt.plot(counts, [point[key] for point in points], marker="o", label=name)
    plt.xscale("log")
    plt.ylim(bottom=0)
    plt.xlabel("cases in the night")
    plt.ylabel("milliseconds a case")
    plt.legend()
    plt.savefig(file, dpi=120)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        night(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
