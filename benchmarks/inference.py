"""The whole line beside nnU-Net's predictor and MONAI's sliding window: equal weights, the same scans, in one run.

    python3.11 -m venv peers && peers/bin/pip install torch==2.13.0 nnunetv2==2.8.1 monai==1.6.1 safetensors
    segment-cohort up
    python -m benchmarks.inference MODEL DATASET --peers peers/bin/python --folds folds.csv --widen [--mirror]

Each is a process of its own, started cold, timed from start to end: reading, preprocessing, the network, and masks on
disk; ours reads them back, scores them and writes tables and page besides. The network is one `UNet` with the same
weights in all three. `--widen` doubles its maps and changes nothing of what it computes: four times the work, nnU-Net's
plan for the hippocampus (32 to 256 maps) from a model of 16 to 128. Memory is the largest proportional set size of the
process and all its children. Dice is the mean over labels and cases against the references.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
import psutil
import torch

from tasks.model import Model
from tasks.model.folder import load_networks, read_model, save_model
from unet import UNet


def main() -> None:
    """Print one line a contestant: seconds, ratio to ours, memory, Dice."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("dataset", type=Path, help="Decathlon folder: imagesTr, labelsTr")
    arguments.add_argument("--peers", help="python of an environment with nnunetv2 and monai")
    arguments.add_argument("--folds", type=Path, required=True, help="CSV with the columns case and fold")
    arguments.add_argument("--fold", default="0", help="the fold that the model never saw, first; then others")
    arguments.add_argument("--cases", type=int, default=58)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--widen", action="store_true")
    arguments.add_argument(
        "--mirror", action="store_true", help="all eight flips; Dice means little without training so"
    )
    given = arguments.parse_args()
    given.dataset = given.dataset.resolve()  # its manifest is written elsewhere
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        names = write_manifest(given, work / "cohort.csv")
        description = prepare_model(given, work / "model")
        contestants = {"ours": ours(given, work)}
        if given.peers:
            contestants |= {name: peer(name, given, work) for name in ("nnunet", "monai")}
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        peaks, used = dict.fromkeys(contestants, 0.0), dict.fromkeys(contestants, 0.0)
        for _ in range(given.rounds):
            for name, command in contestants.items():
                shutil.rmtree(work / name, ignore_errors=True)
                took, peak, used[name] = run(command)
                seconds[name].append(took)
                peaks[name] = max(peaks[name], peak)
        print(f"{len(names)} scans, {'with' if given.mirror else 'without'} mirroring, {os.cpu_count()} cores")
        print(f"{'':<8}{'seconds':>9}{'to ours':>9}{'CPU s':>8}{'peak MB':>9}{'Dice':>8}")
        for name, took in seconds.items():
            masks = work / name / ("segmentations" if name == "ours" else "")
            dice = mean_dice(names, masks, given.dataset / "labelsTr", sorted(description.labels))
            ratio = median(took) / median(seconds["ours"])
            print(f"{name:<8}{median(took):>9.1f}{ratio:>9.2f}{used[name]:>8.1f}{peaks[name]:>9.0f}{dice:>8.4f}")
        record = json.loads((work / "ours" / "run.json").read_text())
        print("ours:", record["backend"], record["precision"], record["seconds_by_stage"], record["network_busy"])


def write_manifest(given: argparse.Namespace, path: Path) -> list[str]:
    """The names of the cases, those of the fold first, and the cohort as a CSV that all read."""
    with given.folds.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["fold"] != given.fold, row["fold"], row["case"]))
    names = [row["case"] for row in rows][: given.cases]
    lines = [
        f"{name},{given.dataset / 'imagesTr' / name}.nii.gz,{given.dataset / 'labelsTr' / name}.nii.gz"
        for name in names
    ]
    path.write_text("case,image,reference\n" + "\n".join(lines) + "\n")
    return names


def prepare_model(given: argparse.Namespace, folder: Path) -> Model:
    """The model that all use, in `folder`, which may be mirrored if that is asked for."""
    model = read_model(given.model)
    networks = load_networks(model, given.model)
    if given.widen:
        networks = [widened(network) for network in networks]
    axes = (0, 1, 2) if given.mirror else model.plan.augment.mirror_axes
    plan = replace(model.plan, network=networks[0].config, augment=replace(model.plan.augment, mirror_axes=axes))
    return save_model(replace(model, plan=plan), networks, folder)


def widened(network: UNet) -> UNet:
    """A network of twice the maps that computes the same: each map is there twice, and counts half where it is used."""
    config = replace(network.config, features=tuple(2 * maps for maps in network.config.features))
    wide, narrow = UNet(config), network.state_dict()
    for name, parameter in wide.state_dict().items():
        values = narrow[name]
        for dim in range(min(2, values.ndim)):
            times = parameter.shape[dim] // values.shape[dim] if values.shape[dim] else 1
            if times == 2:
                values = twice(values, dim, len(narrow[name]), name)
        incoming = 0 if "upsamplings" in name else 1
        if values.ndim > 1 and parameter.shape[incoming] == 2 * narrow[name].shape[incoming]:
            values = values / 2
        parameter.copy_(values)
    return wide.eval()


def twice(values: torch.Tensor, dim: int, maps: int, name: str) -> torch.Tensor:
    """`values` with each map twice along `dim`; what a skip connection of `maps` joins is doubled part by part."""
    parts = [values]
    if dim == 1 and name.startswith("decoder") and name.endswith(".0.weight") and values.ndim > 2:
        parts = [values[:, :-maps], values[:, -maps:]]
    return torch.cat([torch.cat((part, part), dim) for part in parts], dim)


def ours(given: argparse.Namespace, work: Path) -> list[str]:
    """The command of our run."""
    program = str(Path(sys.executable).with_name("segment-cohort"))
    command = [program, "run", str(work / "cohort.csv"), "--model", str(work / "model"), "--output", str(work / "ours")]
    return [*command, *(["--mirror"] if given.mirror else [])]


def peer(name: str, given: argparse.Namespace, work: Path) -> list[str]:
    """The command of a peer's run."""
    command = [given.peers, "-m", f"benchmarks.inference_{name}", str(work / "cohort.csv"), str(work / "model")]
    return [*command, str(work / name), *(["--mirror"] if given.mirror else [])]


def run(command: list[str]) -> tuple[float, float, float]:
    """Seconds of `command`, the largest megabytes that it and its children had together, and their CPU seconds."""
    start, peak = time.perf_counter(), 0.0
    used: dict[int, float] = {}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, sum(proportional_mb(process.pid).values()))
            used |= cpu_seconds(process.pid)
            time.sleep(0.5)
        seconds = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            sys.exit(f"{command} ended with {process.returncode}:\n{log.read()[-3000:]}")
    return seconds, peak, sum(used.values())


def cpu_seconds(pid: int) -> dict[int, float]:
    """What a process and each below it used so far: beside others on a busy machine, a fairer measure than seconds."""
    found = {}
    try:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    return found


def proportional_mb(pid: int) -> dict[psutil.Process, float]:
    """Megabytes of a process and of each below it, what they share counted once; of those that have ended, nothing."""
    found = {}
    with suppress(psutil.NoSuchProcess):
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                found[process] = process.memory_full_info().pss / 2**20
    return found


def mean_dice(names: list[str], masks: Path, references: Path, labels: list[int]) -> float:
    """The mean over labels and cases."""
    found = []
    for name in names:
        mask = np.asarray(nibabel.load(masks / f"{name}.nii.gz").dataobj)
        truth = np.asarray(nibabel.load(references / f"{name}.nii.gz").dataobj)
        for label in labels:
            both = np.count_nonzero((mask == label) & (truth == label))
            found.append(2 * both / max(1, np.count_nonzero(mask == label) + np.count_nonzero(truth == label)))
    return float(np.mean(found))


if __name__ == "__main__":
    main()
