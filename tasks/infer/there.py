"""What the process apart does: it opens a model, keeps its networks ready, and asks them of case after case."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import psutil
import torch

from tasks.attempt import attempt
from tasks.infer.case import infer_case
from tasks.infer.config import InferenceConfig, Job, Opened, Weights
from tasks.infer.machine import appetite_of, make_ready, resolve
from tasks.model import Model
from tasks.model.folder import load_networks, read_model
from tasks.scan.records import Outcome, Prediction, Prepared
from unet.backends import Network
from unet.memory import pass_bytes

_kept: dict[Any, list[Network]] = {}
"""The networks that are ready."""
_keeping = threading.Lock()


def open_model(weights: Weights, config: InferenceConfig) -> Opened:
    """The model of `weights`, and what it will run on.

    Raises ModelNotFound, CheckpointMismatch, UnsupportedModel, or UnknownSetting where there is no such device.
    """
    model = read_model(weights.folder)
    load_networks(model, weights.folder)
    machine = resolve(config)
    network_bytes, with_a_voxel = (pass_bytes(model.plan.network, voxels, appetite_of(machine)) for voxels in (0, 1))
    return Opened(model=model, machine=machine, network_bytes=network_bytes, voxel_bytes=with_a_voxel - network_bytes)


def warm_up(weights: Weights, model: Model, config: InferenceConfig, threads: int) -> None:
    """The networks are ready when this has returned."""
    ready_networks(weights, model, config, threads)


def infer_there(case: Outcome[Prepared], job: Job, threads: int) -> Outcome[Prediction]:
    """What becomes of `case`. One that fails without a name is tried again with new networks, for what failed may be
    what another case left in them."""
    outcome = _tried(case, job, threads)
    if outcome.problem and outcome.problem.status == "failed":
        with _keeping:
            _kept.clear()
        outcome = _tried(case, job, threads)
    return _in_network(outcome)


def give_back(most: float) -> None:
    """The networks, which keep what their largest case needed, are let go of if the process has more than `most` bytes
    to itself: the cases are with other stages now, which need memory, too."""
    if psutil.Process().memory_full_info().uss > most:
        with _keeping:
            _kept.clear()


def _tried(case: Outcome[Prepared], job: Job, threads: int) -> Outcome[Prediction]:
    def on_cpu() -> list[Network]:
        there = replace(job.config, device="cpu", backend="auto")
        return ready_networks(job.weights, job.model, there, threads)

    networks = ready_networks(job.weights, job.model, job.config, threads)
    return attempt("infer", infer_case, case, networks, job.model, job.config, job.work, on_cpu)


def _in_network(outcome: Outcome[Prediction]) -> Outcome[Prediction]:
    """`outcome`, whose cost is what the network took: reading, writing and waiting for its turn are beside others."""
    if outcome.value is None:
        return outcome
    *before, cost = outcome.costs
    return replace(outcome, costs=(*before, replace(cost, began=outcome.value.began, seconds=outcome.value.seconds)))


def ready_networks(weights: Weights, model: Model, config: InferenceConfig, threads: int) -> list[Network]:
    """The networks of `weights`, ready for so many `threads`, kept for the next who asks. Raises CheckpointMismatch.

    Beside OpenVINO's threads, torch has one: while its others wait, they keep cores from them.
    """
    machine = resolve(config)
    key = (weights, model.weights_sha256, machine)
    with _keeping:
        if key not in _kept:
            if len(_kept) > 1:  # those of a GPU, and of the CPU that helps it out
                _kept.clear()
            torch.set_num_threads(threads)
            _kept[key] = make_ready(weights, model, machine)
            torch.set_num_threads(1 if machine.backend == "openvino" else threads)
        return _kept[key]
