"""The logits of the networks for one prepared case, in the way that fits into the memory there is."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch

from tasks.infer.machine import InferenceConfig, Machine
from tasks.model import Model, Plan
from tasks.scan.errors import NotEnoughMemory
from tasks.scan.files import save_array, temporary_name
from tasks.scan.records import Prediction, Prepared
from unet.backends import Network
from unet.inference import Seams, Sums, predict_in
from unet.ladder import climb_down
from unet.memory import Way, choose_way, smallest_way


def infer_case(
    prepared: Prepared, networks: Sequence[Network], model: Model, config: InferenceConfig, work: Path
) -> Prediction:
    """The logits of `networks` for `prepared`, written to `work`.

    Raises NotEnoughMemory, before anything is computed, when it would need more than there is.
    """
    machine = config.resolved()
    image = torch.from_numpy(np.load(prepared.voxels))
    way = plan_way(prepared.case.name, tuple(image.shape[1:]), model.plan, config, machine)
    mirror_axes = model.plan.augment.mirror_axes if config.mirror else ()
    seams = Seams(slice_axis=model.plan.slice_axis, nnunet=model.plan.nnunet is not None)
    path = work / f"{prepared.case.name}.logits.npy"

    def compute(tile: tuple[int, ...] | None, device: torch.device) -> dict[int, float]:
        shape = (model.plan.network.out_channels, *image.shape[1:])
        if tile is not None and way.on_disk:
            with sums_in_file(path, shape) as sums:
                return predict_in(tile, networks, image, mirror_axes, sums, seams).agreement
        answer = predict_in(tile, networks, image.to(device), mirror_axes, seams=seams)
        save_array(path, answer.logits.cpu().numpy())
        return answer.agreement

    smaller = smallest_way(model.plan.network, tuple(image.shape[1:]), model.plan.patch, 4).tile
    rungs: list[tuple[str, Callable[[], dict[int, float]]]] = [
        ("", lambda: compute(way.tile, machine.device)),
        ("in tiles of the training's patch", lambda: compute(smaller, machine.device)),
        ("in tiles of the training's patch, summed on the CPU", lambda: compute(smaller, torch.device("cpu"))),
    ]
    rung, agreement = climb_down(rungs)
    noted = (
        prepared if not rung else with_warning(prepared, f"{machine.device.type} ran out of memory: computed {rung}")
    )
    return Prediction(prepared=noted, logits=path, device=machine.device.type, agreement=agreement)


def with_warning(prepared: Prepared, warning: str) -> Prepared:
    """`prepared`, whose case has one more warning."""
    case = replace(prepared.case, warnings=(*prepared.case.warnings, warning))
    return replace(prepared, case=case)


def plan_way(case: str, size: tuple[int, ...], plan: Plan, config: InferenceConfig, machine: Machine) -> Way:
    """The way to run an image of `size` in the memory there is. Raises NotEnoughMemory."""
    free = config.memory_gb * 2**30 or free_bytes(machine.device)
    way = choose_way(plan.network, size, plan.patch, machine.width, free, fixed=plan.fixed_tile)
    if way is None:
        needed = smallest_way(plan.network, size, plan.patch, machine.width).needed_bytes
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
def sums_in_file(path: Path, shape: tuple[int, ...]) -> Iterator[Sums]:
    """Zeros of `shape` in the array file `path`, whose parts leave this process's memory when they are let go."""
    temporary = temporary_name(path)
    mapped = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
    with temporary.open("r+b") as whole:  # room on the disk for all of it: a map that finds none kills the process
        os.posix_fallocate(whole.fileno(), 0, temporary.stat().st_size)
    file = mapped.base
    let_go = (lambda: file.madvise(mmap.MADV_DONTNEED)) if isinstance(file, mmap.mmap) else (lambda: None)
    yield Sums(values=torch.from_numpy(mapped), let_go=let_go)
    temporary.replace(path)
