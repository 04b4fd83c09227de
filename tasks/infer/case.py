"""The logits of the networks for one prepared case, in the way that fits into the memory there is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from tasks.infer.config import InferenceConfig, Machine
from tasks.infer.machine import appetite_of, resolve
from tasks.model import Model, Plan
from tasks.scan.errors import NotEnoughMemory
from tasks.scan.files import save_array, temporary_name
from tasks.scan.planes import let_go
from tasks.scan.records import Prediction, Prepared
from unet.backends import Network
from unet.inference import Seams, Sums, predict_in
from unet.ladder import climb_down
from unet.memory import SUMS_IN_MEMORY_BYTES, Way, choose_way, smallest_way

CPU = torch.device("cpu")
ON_CPU = "on the CPU"
_one_at_a_time = Lock()
"""torch has the GPU and its memory, or all cores, to itself; cases beside it are read and written meanwhile."""


def infer_case(
    prepared: Prepared,
    networks: Sequence[Network],
    model: Model,
    config: InferenceConfig,
    work: Path,
    on_cpu: Callable[[], Sequence[Network]] = list,
) -> Prediction:
    """The logits of `networks` for `prepared`, written to `work`.

    On a GPU that runs out of memory: in smaller tiles, then summed on the CPU, then by the networks of `on_cpu`. Raises
    NotEnoughMemory, before anything is computed, when it would need more than there is.
    """
    machine = resolve(config)
    path = work / f"{prepared.case.name}.logits.npy"
    voxels = read_ahead(prepared.voxels, model.plan.network.out_channels)
    asked = _Question(voxels=voxels, model=model, mirror=config.mirror, path=path)
    with _one_at_a_time if machine.backend == "torch" else nullcontext():
        began, start = time.time(), time.monotonic()
        fallback, reply = climb_down(_rungs(prepared.case.name, asked, networks, config, machine, on_cpu))
        seconds = time.monotonic() - start
    if reply.logits is not None:
        save_array(path, reply.logits)
    if fallback:
        prepared = with_warning(prepared, f"{machine.device} ran out of memory: computed {fallback}")
    return Prediction(
        prepared=prepared,
        logits=path,
        device="cpu" if fallback == ON_CPU else machine.device,
        agreement=reply.agreement,
        fallback=fallback,
        began=began,
        seconds=seconds,
    )


def read_ahead(path: Path, classes: int) -> NDArray[np.float32]:
    """The image (C, X, Y, Z) in the array file `path`: read, or, where it or its sums are large, mapped to memory."""
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="c")
    largest = mapped.itemsize * max(len(mapped), classes) * prod(mapped.shape[1:])
    return mapped if largest > SUMS_IN_MEMORY_BYTES else np.array(mapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What the networks said of a case; None for `logits` (K, X, Y, Z) that are in their file already."""

    agreement: dict[int, float]
    logits: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What the networks are asked of a case, in whichever way: an image (C, X, Y, Z), mapped to memory from its file,
    and where the logits belong."""

    voxels: NDArray[np.float32]
    model: Model
    mirror: bool
    path: Path

    @property
    def size(self) -> tuple[int, ...]:
        return self.voxels.shape[1:]


def _rungs(
    case: str,
    asked: _Question,
    networks: Sequence[Network],
    config: InferenceConfig,
    machine: Machine,
    on_cpu: Callable[[], Sequence[Network]],
) -> list[tuple[str, Callable[[], _Reply]]]:
    """What is tried, the first first. Raises NotEnoughMemory."""
    plan = asked.model.plan
    way = plan_way(case, asked.size, plan, config, machine)
    small = smaller_way(way, asked.size, plan, machine)
    device = torch.device(machine.device)
    rungs: list[tuple[str, Callable[[], _Reply]]] = [
        ("", lambda: _answer(asked, way, device, networks)),
        ("in smaller tiles", lambda: _answer(asked, small, device, networks)),
    ]
    if device.type != CPU.type:
        there = replace(config, device="cpu", backend="auto", memory_gb=0.0)

        def answer_on_cpu() -> _Reply:
            whole = plan_way(case, asked.size, plan, there, resolve(there))
            return _answer(asked, whole, CPU, on_cpu())

        rungs += [
            ("in smaller tiles, summed on the CPU", lambda: _answer(asked, small, CPU, networks)),
            (ON_CPU, answer_on_cpu),
        ]
    return rungs


def _answer(asked: _Question, way: Way, device: torch.device, networks: Sequence[Network]) -> _Reply:
    """What `networks` say, summed on `device`, or in the file itself."""
    plan, image = asked.model.plan, torch.from_numpy(asked.voxels)
    mirror_axes = plan.augment.mirror_axes if asked.mirror else ()
    seams = Seams(slice_axis=plan.slice_axis, nnunet=plan.nnunet is not None)
    if way.tile is not None and way.on_disk:
        with sums_in_file(asked.path, (plan.network.out_channels, *asked.size), beside=asked.voxels) as sums:
            agreement = predict_in(way.tile, networks, image, mirror_axes, sums, seams).agreement
        return _Reply(agreement=agreement, logits=None)
    answer = predict_in(way.tile, networks, image.to(device), mirror_axes, seams=seams)
    return _Reply(agreement=answer.agreement, logits=answer.logits.cpu().numpy())


def smaller_way(way: Way, size: tuple[int, ...], plan: Plan, machine: Machine) -> Way:
    """What is tried without memory for `way`: tiles of the training's patch, or single slices of a 2-D network."""
    smallest = smallest_way(plan.network, size, plan.patch, appetite_of(machine))
    if plan.slice_axis is None or smallest.tile is None:
        return smallest
    tile = tuple(1 if axis == plan.slice_axis else side for axis, side in enumerate(smallest.tile))
    return replace(smallest, tile=tile, on_disk=way.on_disk)


def with_warning(prepared: Prepared, warning: str) -> Prepared:
    """`prepared`, whose case has one more warning."""
    case = replace(prepared.case, warnings=(*prepared.case.warnings, warning))
    return replace(prepared, case=case)


def plan_way(case: str, size: tuple[int, ...], plan: Plan, config: InferenceConfig, machine: Machine) -> Way:
    """The way to run an image of `size` in the memory there is. Raises NotEnoughMemory."""
    free = config.memory_gb * 2**30 or free_bytes(torch.device(machine.device))
    way = choose_way(plan.network, size, plan.patch, appetite_of(machine), free, fixed=plan.fixed_tile)
    if way is None:
        needed = smallest_way(plan.network, size, plan.patch, appetite_of(machine)).needed_bytes
        raise NotEnoughMemory(
            case,
            found=f"{' × '.join(str(side) for side in size)} voxels at the model's spacing, for which "
            f"{needed / 2**30:.1f} GB are needed at least",
            needed=f"no more than the {free / 2**30:.1f} GB that are free",
            remedy="run it where there is more memory, or with nothing beside it",
        )
    return way


def free_bytes(device: torch.device) -> float:
    """Memory that `device` has free."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


@contextmanager
def sums_in_file(path: Path, shape: tuple[int, ...], beside: NDArray[Any]) -> Iterator[Sums]:
    """Zeros of `shape` in the array file `path`, whose parts leave this process's memory when they are let go.

    So do those of `beside`, an array that may be mapped from a file, too.
    """
    temporary = temporary_name(path)
    mapped = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
    with temporary.open("r+b") as whole:  # room on the disk for all of it: a map that finds none kills the process
        os.posix_fallocate(whole.fileno(), 0, temporary.stat().st_size)

    def let_both_go() -> None:
        let_go(mapped)
        let_go(beside)

    yield Sums(values=torch.from_numpy(mapped), let_go=let_both_go)
    temporary.replace(path)
