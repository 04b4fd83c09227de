"""Infer: logits of the network for every prepared case, in the process of the flow, which owns the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from prefect import task

from tasks.attempt import attempt, logged
from tasks.model import Model, load_networks
from tasks.progress import progress_bar
from tasks.scan.errors import UnknownSetting
from tasks.scan.files import save_array
from tasks.scan.records import FORBID_UNKNOWN, Outcome, Prediction, Prepared
from unet import UNet, choose_device, choose_precision, predict
from unet.devices import DeviceName, Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """Where and how the network runs."""

    __pydantic_config__ = FORBID_UNKNOWN

    device: DeviceName = "auto"
    """`auto` is CUDA where there is one, else the CPU."""
    precision: Precision = "auto"
    """`auto` is bfloat16 where the hardware has it, else float32."""
    mirror: bool = False
    """Average over the flips of the axes that training mirrored: slower, a little better."""

    def resolved(self) -> tuple[torch.device, torch.dtype]:
        """Device and number type on this machine. Raises UnknownSetting where the device is not there."""
        try:
            device = choose_device(self.device)
        except RuntimeError as error:
            raise UnknownSetting(str(error)) from error
        return device, choose_precision(self.precision, device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the networks of a model are, and which of them to use."""

    folder: Path
    member: int | None = None
    """Of an ensemble, the one network that never saw the cases in hand; None: all of them."""

    def of(self, model: Model) -> list[UNet]:
        """The networks, in evaluation mode. Raises CheckpointMismatch."""
        networks = load_networks(model, self.folder)
        return networks if self.member is None else [networks[self.member]]


def infer_case(
    prepared: Prepared, networks: Sequence[UNet], model: Model, config: InferenceConfig, work: Path
) -> Prediction:
    """The logits of `networks` for `prepared`, written to `work`."""
    device, precision = config.resolved()
    image = torch.from_numpy(np.load(prepared.voxels)).to(device)
    mirror_axes = model.plan.augment.mirror_axes if config.mirror else ()
    logits = predict(networks, image, model.plan.patch, precision, mirror_axes)
    path = save_array(work / f"{prepared.case.name}.logits.npy", logits.cpu().numpy())
    prepared.voxels.unlink()
    return Prediction(prepared=prepared, logits=path, device=device.type)


@task(name="infer")
def infer(
    cases: Sequence[Outcome[Prepared]], model: Model, weights: Weights, config: InferenceConfig, work: Path
) -> list[Outcome[Prediction]]:
    """Logits for every case of the shard; the networks of the model are loaded once."""
    device, _ = config.resolved()
    networks = [network.to(device) for network in weights.of(model)]
    results: list[Outcome[Prediction]] = []
    with progress_bar("infer", len(cases)) as bar:
        for case in cases:
            tried = case.value is not None
            results.append(attempt("infer", infer_case, case, networks, model, config, work) if tried else case)  # type: ignore[arg-type]
            bar.advance()
    return logged("infer", results)
