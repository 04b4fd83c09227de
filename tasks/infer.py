"""Infer: logits of the network for every prepared case, in the process of the flow, which owns the GPU."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.attempt import attempt, logged
from tasks.belt import Belt, Line, hand_on
from tasks.lanes import side_by_side
from tasks.model import Model, Plan, load_networks
from tasks.progress import progress_bar
from tasks.scan.errors import NotEnoughMemory, UnknownSetting
from tasks.scan.files import save_array, temporary_name
from tasks.scan.planes import let_go
from tasks.scan.records import FORBID_UNKNOWN, Outcome, Prediction, Prepared
from unet import choose_device, choose_precision
from unet.backends import BackendName, Network, choose_backend, ready
from unet.devices import DeviceName, Precision
from unet.inference import Seams, Sums, predict_in
from unet.ladder import climb_down
from unet.memory import (
    OPENVINO_BFLOAT16,
    OPENVINO_FLOAT32,
    SMALL_VOXELS,
    TORCH_BFLOAT16,
    TORCH_FLOAT32,
    Appetite,
    Way,
    choose_way,
    pass_bytes,
    smallest_way,
)
from unet.slices import by_slice

CPU = torch.device("cpu")
ON_CPU = "on the CPU"
_one_at_a_time = threading.Lock()
"""The network has the machine's cores, or the GPU, to itself: a second shard waits with its own till it ends."""
_kept: dict[Any, list[Network]] = {}
_keeping = threading.Lock()
_beside = ThreadPoolExecutor(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """Where and how the network runs."""

    __pydantic_config__ = FORBID_UNKNOWN

    device: DeviceName = "auto"
    """`auto` is CUDA where there is one, else the CPU."""
    precision: Precision = "auto"
    """`auto` is bfloat16 where the hardware has it, else float32."""
    backend: BackendName = "auto"
    """`auto` is OpenVINO on the CPU, torch on a GPU."""
    memory_gb: float = 0.0
    """What a case may need of the device's memory at most; 0: what is free when its turn comes."""
    mirror: bool = False
    """Average over the flips of the axes that training mirrored: slower, a little better."""

    def resolved(self) -> Machine:
        """What this is on this machine. Raises UnknownSetting where it does not have it."""
        try:
            device = choose_device(self.device)
            backend = choose_backend(self.backend, device)
        except RuntimeError as error:
            raise UnknownSetting(str(error)) from error
        return Machine(device=device, precision=choose_precision(self.precision, device), backend=backend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What computes: the device, the number type of the convolutions, and the library that runs them."""

    device: torch.device
    precision: torch.dtype
    backend: Literal["torch", "openvino"]

    @property
    def appetite(self) -> Appetite:
        """What it needs in memory; measured on the CPU, where a GPU's allocator keeps about as much."""
        narrow = self.precision == torch.bfloat16
        if self.backend == "openvino":
            return OPENVINO_BFLOAT16 if narrow else OPENVINO_FLOAT32
        return TORCH_BFLOAT16 if narrow else TORCH_FLOAT32


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the networks of a model are, and which of them to use."""

    folder: Path
    member: int | None = None
    """Of an ensemble, the one network that never saw the cases in hand; None: all of them."""

    def ready(self, model: Model, machine: Machine) -> list[Network]:
        """The networks, ready to run on `machine`. Raises CheckpointMismatch."""
        networks = load_networks(model, self.folder)
        used = networks if self.member is None else [networks[self.member]]
        runs = [ready(network, machine.backend, machine.device, machine.precision) for network in used]
        axis = model.plan.slice_axis
        return runs if axis is None else [by_slice(run, axis) for run in runs]


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
    machine = config.resolved()
    path = work / f"{prepared.case.name}.logits.npy"
    asked = _Question(voxels=np.load(prepared.voxels, mmap_mode="c"), model=model, mirror=config.mirror, path=path)
    way = plan_way(prepared.case.name, asked.size, model.plan, config, machine)
    small = smaller_way(way, asked.size, model.plan, machine)
    rungs: list[tuple[str, Callable[[], dict[int, float]]]] = [
        ("", lambda: _answer(asked, way, machine.device, networks)),
        ("in smaller tiles", lambda: _answer(asked, small, machine.device, networks)),
    ]
    if machine.device.type != CPU.type:
        there = replace(config, device="cpu", backend="auto", memory_gb=0.0)
        rungs += [
            ("in smaller tiles, summed on the CPU", lambda: _answer(asked, small, CPU, networks)),
            (
                ON_CPU,
                lambda: _answer(
                    asked, plan_way(prepared.case.name, asked.size, model.plan, there, there.resolved()), CPU, on_cpu()
                ),
            ),
        ]
    fallback, agreement = climb_down(rungs)
    prepared.voxels.unlink()
    if fallback:
        prepared = with_warning(prepared, f"{machine.device.type} ran out of memory: computed {fallback}")
    used = CPU if fallback == ON_CPU else machine.device
    return Prediction(prepared=prepared, logits=path, device=used.type, agreement=agreement, fallback=fallback)


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


def _answer(asked: _Question, way: Way, device: torch.device, networks: Sequence[Network]) -> dict[int, float]:
    """The agreement of `networks`, whose logits are in the file then; summed on `device`, or in the file itself."""
    plan, image = asked.model.plan, torch.from_numpy(asked.voxels)
    mirror_axes = plan.augment.mirror_axes if asked.mirror else ()
    seams = Seams(slice_axis=plan.slice_axis, nnunet=plan.nnunet is not None)
    if way.tile is not None and way.on_disk:
        with sums_in_file(asked.path, (plan.network.out_channels, *asked.size), beside=asked.voxels) as sums:
            return predict_in(way.tile, networks, image, mirror_axes, sums, seams).agreement
    answer = predict_in(way.tile, networks, image.to(device), mirror_axes, seams=seams)
    save_array(asked.path, answer.logits.cpu().numpy())
    return answer.agreement


def smaller_way(way: Way, size: tuple[int, ...], plan: Plan, machine: Machine) -> Way:
    """What is tried without memory for `way`: tiles of the training's patch, or single slices of a 2-D network."""
    smallest = smallest_way(plan.network, size, plan.patch, machine.appetite)
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
    free = config.memory_gb * 2**30 or free_bytes(machine.device)
    way = choose_way(plan.network, size, plan.patch, machine.appetite, free, fixed=plan.fixed_tile)
    if way is None:
        needed = smallest_way(plan.network, size, plan.patch, machine.appetite).needed_bytes
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


@task(name="infer", cache_policy=NO_CACHE)
def infer(
    cases: Line[Prepared],
    model: Model,
    weights: Weights,
    config: InferenceConfig,
    work: Path,
    belt: Belt[Prediction] | None = None,
) -> list[Outcome[Prediction]]:
    """Logits for every case of the shard, each put on `belt`; the networks of the model are loaded once."""
    return logged("infer", hand_on(_told(_inferred(cases, model, weights, config, work)), belt))


def _told(outcomes: Iterator[Outcome[Prediction]]) -> Iterator[Outcome[Prediction]]:
    """`outcomes`; the log is told of each that a device had no memory for."""
    for outcome in outcomes:
        if outcome.value and outcome.value.fallback:
            get_run_logger().warning(
                "infer: case '%s': no memory left: computed %s", outcome.name, outcome.value.fallback
            )
        yield outcome


def _inferred(
    cases: Line[Prepared], model: Model, weights: Weights, config: InferenceConfig, work: Path
) -> Iterator[Outcome[Prediction]]:
    with _one_at_a_time, progress_bar("infer", None) as bar:
        machine = config.resolved()
        networks = ready_networks(weights, model, machine)
        lanes = torch.get_num_threads() if machine.backend == "openvino" else 1
        there = replace(config, device="cpu", backend="auto").resolved()

        def on_cpu() -> list[Network]:
            return ready_networks(weights, model, there)

        def one(case: Outcome[Prepared]) -> Outcome[Prediction]:
            if case.value is None:
                return replace(case, value=None)  # type: ignore[return-value]
            return attempt("infer", infer_case, case, networks, model, config, work, on_cpu)

        def is_large(case: Outcome[Prepared]) -> bool:
            return case.value is not None and not fits_beside_others(case.value, model.plan, machine, lanes)

        with torch_threads(1 if machine.backend == "openvino" else None):
            for outcome in side_by_side(one, cases, lanes, is_large):
                yield outcome
                bar.advance()


def fits_beside_others(prepared: Prepared, plan: Plan, machine: Machine, lanes: int) -> bool:
    """Whether `prepared` is small, and there is memory for `lanes` like it at once."""
    voxels = max(prod(prepared.resampled_shape), prod(plan.patch) if plan.fixed_tile else 0)
    needed = lanes * pass_bytes(plan.network, voxels, machine.appetite)
    return voxels <= SMALL_VOXELS and needed <= free_bytes(machine.device)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """In this block torch has so many threads (None: as before); while they wait, they keep cores from OpenVINO's."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def warm_up(weights: Weights, model: Model, config: InferenceConfig) -> None:
    """Begins to make the networks ready, beside what comes next; what it raises is raised when they are used."""
    _beside.submit(ready_networks, weights, model, config.resolved())


def ready_networks(weights: Weights, model: Model, machine: Machine) -> list[Network]:
    """What `weights.ready` returns, which is kept for the next who asks for the same. Raises CheckpointMismatch."""
    key = (weights, model.weights_sha256, machine)
    with _keeping:
        if key not in _kept:
            if len(_kept) > 1:  # those of the GPU, and of the CPU that helps it out
                _kept.clear()
            _kept[key] = weights.ready(model, machine)
        return _kept[key]
