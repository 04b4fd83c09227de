"""A case that kills or hangs the process of the network costs itself, and no other.

The poison is a pipe in the place of the prepared image: who reads it hangs, and while it hangs the process can be
killed, as the kernel does with one that takes too much memory.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from prefect.logging import disable_run_logger

from tasks.infer import InferenceConfig, Opened, Weights, there
from tasks.infer import infer as stage
from tasks.infer.config import Job, cores
from tasks.infer.infer import infer, open_network
from tasks.infer.machine import resolve
from tasks.model import Model, Plan
from tasks.model.folder import save_model
from tasks.named import Named
from tasks.scan.errors import ServiceUnavailable
from tasks.scan.records import Outcome, Prediction, Prepared
from tests.prepared import prepared_from
from unet import UNet, UNetConfig

SIDE = 12
NETWORK = UNetConfig(dimensions=3, out_channels=2, features=(2, 4))
CPU = InferenceConfig(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Iterator[tuple[Opened, Weights]]:
    folder = tmp_path_factory.mktemp("model")
    plan = Plan(network=NETWORK, spacing_mm=(1, 1, 1), patch=(8, 8, 8), batch_size=1)
    torch.manual_seed(0)
    save_model(Model(plan=plan, labels={1: "a"}, weights_sha256=""), [UNet(NETWORK).eval()], folder)
    before = set(psutil.Process().children(recursive=True))
    with open_network(Weights(folder=folder), CPU) as opened:
        yield opened, Weights(folder=folder)
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [one for one in left if "forkserver" in " ".join(one.cmdline()) and one.parent().pid != os.getpid()]


@pytest.fixture(autouse=True)
def _no_case_hangs_for_long(monkeypatch):
    monkeypatch.setattr(stage, "CASE_SECONDS", 60.0)


def prepared(folder: Path, name: str, side: int = SIDE) -> Outcome[Prepared]:
    """A case whose image is `side`³ voxels of noise, or, where it is called poison, never comes."""
    voxels = folder / f"{name}.image.npy"
    if name.startswith("poison"):
        os.mkfifo(voxels)
    else:
        np.save(voxels, np.random.default_rng(0).normal(size=(1, side, side, side)).astype(np.float32))
    value = prepared_from(voxels, name, (side, side, side))
    return Outcome(name=name, case=value.case, value=value)


def fail(_image: torch.Tensor) -> torch.Tensor:
    """A network in which another image has left something."""
    raise RuntimeError("data shape after padding")


@pytest.mark.parametrize(
    ("poison", "end", "seconds"), [("die", "ended with code 139", 60.0), ("hang", "never answered", 3.0)]
)
def test_a_process_that_ends_while_it_opens_the_model_ends_the_run_by_name(poison, end, seconds, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "OPEN", Named("tests.poison", poison))
    monkeypatch.setattr(stage, "CASE_SECONDS", seconds)
    with (
        pytest.raises(ServiceUnavailable, match=f"the network's process {end} while it opened the model '{tmp_path}'"),
        open_network(Weights(folder=tmp_path), CPU),
    ):
        pass


@pytest.mark.parametrize("setting", [{}, {"OMP_NUM_THREADS": "1"}, {"MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "2"}])
def test_the_network_has_as_many_cores_as_torch_would_take(setting, monkeypatch):
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in setting.items():
        monkeypatch.setenv(variable, value)
    asked = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    assert cores() == int(subprocess.run(asked, capture_output=True, check=True).stdout)


def test_a_case_that_fails_without_a_name_is_tried_again_with_a_new_network(model, tmp_path, monkeypatch):
    job = Job(model=model[0].model, weights=model[1], config=CPU, work=tmp_path)
    broken = {(model[1], model[0].model.weights_sha256, resolve(CPU)): [fail]}
    monkeypatch.setattr(there, "_kept", broken)
    outcome = there.infer_there(prepared(tmp_path, "innocent"), job, 1)
    assert (outcome.problem, [cost.stage for cost in outcome.costs]) == (None, ["infer"])
    assert outcome.value.logits.is_file()


def kill_who_reads(pipe: Path, times: int) -> threading.Thread:
    """Kills the process that opens `pipe`, which is there, as soon as one does, so many times."""

    def kill() -> None:
        for _ in range(times):
            writing = os.open(pipe, os.O_WRONLY)  # returns when somebody reads
            while not (readers := [one for one in psutil.Process().children(recursive=True) if has_open(one, pipe)]):
                time.sleep(0.01)  # the one that opens it has no number for it yet
            for reader in readers:
                reader.kill()
                reader.wait(10)
            os.close(writing)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    return killer


def has_open(process: psutil.Process, path: Path) -> bool:
    numbers = Path(f"/proc/{process.pid}/fd")
    with suppress(OSError):  # the process has ended meanwhile
        for number in numbers.iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if number.readlink() == path:
                    return True
    return False


def inferred(
    cases: list[Outcome[Prepared]], model: tuple[Opened, Weights], work: Path, config: InferenceConfig = CPU
) -> dict[str, Outcome[Prediction]]:
    with disable_run_logger():
        return {one.name: one for one in infer.fn(cases, *model, config, work)}


def test_a_case_that_kills_the_network_s_process_each_time_costs_itself_alone(model, tmp_path):
    cases = [prepared(tmp_path, name) for name in ("a", "poison", "b", "c", "d")]
    killer = kill_who_reads(tmp_path / "poison.image.npy", times=2)
    outcomes = inferred(cases, model, tmp_path)
    killer.join(60)
    assert {name: bool(one.value) for name, one in outcomes.items()} == {
        "a": True, "poison": False, "b": True, "c": True, "d": True
    }  # fmt: skip
    problem = outcomes["poison"].problem
    assert (problem.stage, problem.status, problem.reason) == ("infer", "quarantined", "worker_died")
    assert "the network's process was ended by SIGKILL each time it was tried" in problem.message


def test_a_case_that_hangs_in_the_network_costs_itself_alone(model, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "CASE_SECONDS", 3.0)
    outcomes = inferred([prepared(tmp_path, name) for name in ("a", "poison", "b")], model, tmp_path)
    assert [bool(outcomes[name].value) for name in ("a", "poison", "b")] == [True, False, True]
    problem = outcomes["poison"].problem
    assert (problem.status, problem.reason) == ("quarantined", "case_timed_out")
    assert "stage infer took more than 5 s" in problem.message


def test_a_case_that_was_beside_one_that_kills_is_tried_again_and_has_the_logits_it_would_have(model, tmp_path):
    alone = inferred([prepared(tmp_path, "alone")], model, tmp_path)["alone"]
    cases = [prepared(tmp_path, name) for name in ("poison", "a")]
    killer = kill_who_reads(tmp_path / "poison.image.npy", times=2)
    beside = inferred(cases, model, tmp_path)["a"]
    killer.join(60)
    assert np.array_equal(np.load(beside.value.logits), np.load(alone.value.logits))


def test_with_torch_too_the_next_cases_are_read_while_one_does_not_come(model, tmp_path, monkeypatch):
    """Its reading hangs beside the network, which goes on with the others."""
    monkeypatch.setattr(stage, "CASE_SECONDS", 6.0)
    cases = [prepared(tmp_path, name) for name in ("poison", "a", "b")]
    torch_there = replace(CPU, backend="torch")
    through = list(inferred(cases, model, tmp_path, torch_there))
    assert through == ["a", "b", "poison"]


def test_what_a_large_case_needed_is_given_back_when_the_shard_is_through(model, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "KEPT_BYTES", 1e12)
    inferred([prepared(tmp_path, "a", side=96)], model, tmp_path)
    kept = bytes_of_the_network_s_process()
    monkeypatch.setattr(stage, "KEPT_BYTES", 0)
    inferred([prepared(tmp_path, "a", side=96)], model, tmp_path)
    assert bytes_of_the_network_s_process() < kept - 50e6


def bytes_of_the_network_s_process() -> int:
    (life,) = stage._network.life
    return int(psutil.Process(life.process.pid).memory_full_info().uss)


def test_the_image_of_a_case_that_is_through_is_no_longer_on_disk(model, tmp_path):
    inferred([prepared(tmp_path, "a")], model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.logits.npy"]
