"""Infer: logits of the network for every prepared case, in the process of the flow, which owns the GPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.attempt import attempt, logged
from tasks.belt import Belt, Line, arriving, hand_on
from tasks.model import Model, load_networks
from tasks.progress import progress_bar
from tasks.scan.errors import UnknownSetting
from tasks.scan.files import save_array
from tasks.scan.records import FORBID_UNKNOWN, Outcome, Prediction, Prepared
from unet import choose_device, choose_precision, predict
from unet.backends import BackendName, Network, choose_backend, ready
from unet.devices import DeviceName, Precision

_one_at_a_time = threading.Lock()
"""The network has the machine's cores, or the GPU, to itself: a second shard waits with its own till it ends."""


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

    def __str__(self) -> str:
        return f"{self.device}, {str(self.precision).removeprefix('torch.')}, {self.backend}"


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
        return [ready(network, machine.backend, machine.device, machine.precision) for network in used]


def infer_case(
    prepared: Prepared, networks: Sequence[Network], model: Model, config: InferenceConfig, work: Path
) -> Prediction:
    """The logits of `networks` for `prepared`, written to `work`."""
    device = config.resolved().device
    image = torch.from_numpy(np.load(prepared.voxels)).to(device)
    mirror_axes = model.plan.augment.mirror_axes if config.mirror else ()
    answer = predict(networks, image, model.plan.patch, mirror_axes)
    path = save_array(work / f"{prepared.case.name}.logits.npy", answer.logits.cpu().numpy())
    prepared.voxels.unlink()
    return Prediction(prepared=prepared, logits=path, device=device.type, agreement=answer.agreement)


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
    return logged("infer", hand_on(_inferred(cases, model, weights, config, work), belt))


def _inferred(
    cases: Line[Prepared], model: Model, weights: Weights, config: InferenceConfig, work: Path
) -> Iterator[Outcome[Prediction]]:
    with _one_at_a_time, progress_bar("infer", None) as bar:
        networks = weights.ready(model, config.resolved())
        for case in arriving(cases):
            if case.value is None:
                yield replace(case, value=None)  # type: ignore[misc]
            else:
                yield attempt("infer", infer_case, case, networks, model, config, work)
            bar.advance()
