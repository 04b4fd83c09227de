"""What all processes of a night need for one large scan: `python -m benchmarks.large_night [--shape 512 512 600]`.

A synthetic CT of 1 mm and a network of random weights, whose classes lie scattered over the whole scan: nothing in it
is easy to leave out. `segment-cohort run` is started as a user does, on a Prefect server of its own, and all its
processes are watched, those of the pool and of the network too. Prints the seconds by stage, and how many megabytes
they had at most together: the sum of their proportional set sizes, which count once what two share.

`--spacing` is that of the network: 2 means that it sees half as many voxels along each axis.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import psutil
import torch

from benchmarks.inference import proportional_mb
from benchmarks.large_case import model_of, plain_network
from benchmarks.scale import server_of_its_own
from tasks.model.folder import save_model
from unet import UNet

EVERY_SECONDS = 0.2


def main() -> None:
    """Print seconds and megabytes of one night."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="large-") as name, server_of_its_own(Path(name)):
        folder = Path(name)
        make_scan(folder / "in" / "ct.nii", tuple(arguments.shape))
        make_model(folder / "model", arguments)
        command = [Path(sys.executable).with_name("segment-cohort"), "run", folder / "in", "--model", folder / "model"]
        start = time.perf_counter()
        night = subprocess.Popen([*map(str, command), "--output", str(folder / "out")], stdout=subprocess.PIPE)
        memory = watch(night)
        said = night.communicate()[0].decode()
        if night.returncode:
            sys.exit(said)
        times = json.loads((folder / "out" / "run.json").read_text(encoding="utf-8"))["seconds_by_stage"]
        shape = " × ".join(str(side) for side in arguments.shape)
        print(f"{shape} voxels of 1 mm, {arguments.classes} classes, a network of {arguments.maps} maps at ", end="")
        print(f"{arguments.spacing:g} mm: {time.perf_counter() - start:.0f} s, of which {times}")
        print(memory)


def make_scan(path: Path, shape: tuple[int, ...]) -> None:
    """Noise in Hounsfield units, as int16; written slab by slab, so that it is never whole in memory."""
    path.parent.mkdir()
    random = np.random.default_rng(0)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_sform(np.eye(4), code=1)
    with path.open("wb") as file:
        header.write_to(file)
        file.write(bytes(4))
        for _ in range(shape[2]):
            file.write(random.integers(-1000, 1000, shape[:2]).astype("<i2").tobytes(order="F"))


def make_model(folder: Path, arguments: argparse.Namespace) -> None:
    """A model of random weights."""
    network = plain_network(arguments.maps, arguments.classes)
    torch.manual_seed(0)
    save_model(model_of(network, patch=96, spacing_mm=arguments.spacing), [UNet(network).eval()], folder)


def watch(night: subprocess.Popen[bytes]) -> str:
    """The most megabytes that `night` and its processes had at once, and which of them had how many, until it ends."""
    most, told = 0.0, ""
    start = time.perf_counter()
    while night.poll() is None:
        sizes = proportional_mb(night.pid)
        if (together := sum(sizes.values())) > most:
            most = together
            each = ", ".join(f"{size:.0f} {role(one, night.pid)}" for one, size in largest_first(sizes) if size > 1)
            told = f"all processes together {most:.0f} MB at most, after {time.perf_counter() - start:.0f} s: {each}"
        time.sleep(EVERY_SECONDS)
    return told


def largest_first(sizes: dict[psutil.Process, float]) -> list[tuple[psutil.Process, float]]:
    """Each process with its size."""
    return sorted(sizes.items(), key=lambda pair: -pair[1])


def role(process: psutil.Process, night: int) -> str:
    """What `process` is to the one that has the number `night`."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return "gone"
    return "flow" if process.pid == night else "server" if "server" in command else "worker"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 600], metavar="N")
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM")
    parser.add_argument("--classes", type=int, default=25)
    parser.add_argument("--maps", type=int, default=16)
    return parser.parse_args()


if __name__ == "__main__":
    main()
