"""What computes, and with which weights: the settings of the stage, what they are on a machine, and what was opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from tasks.model import Model
from tasks.scan.records import FORBID_UNKNOWN
from unet.config import BackendName, DeviceName, Precision


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What computes: the device, the number type of the convolutions, and the library that runs them."""

    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
    backend: Literal["torch", "openvino"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the networks of a model are, and which of them to use."""

    folder: Path
    member: int | None = None
    """Of an ensemble, the one network that never saw the cases in hand; None: all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A model that was read and whose weights fit it, the machine that it will run on, and what a pass needs there."""

    model: Model
    machine: Machine
    network_bytes: int
    """Memory of a pass, whatever its image is."""
    voxel_bytes: int
    """And for each voxel of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is the same for all cases of a shard."""

    model: Model
    weights: Weights
    config: InferenceConfig
    work: Path


def cores() -> int:
    """Cores that the network may have: as many as torch would take. Asked before there is a pool, for which Dask sets
    what torch goes by: these variables, or the cores that this process may run on, each counted once."""
    for variable in ("MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        asked = os.environ.get(variable, "")
        if asked.isdecimal() and int(asked):
            return int(asked)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)
