"""A model folder: what was saved comes back, and what is damaged is refused by name."""

import json

import pytest
import torch

from tasks.model import KeepLargest, Model, Plan, Window, load_networks, read_model, save_model
from tasks.scan.errors import CheckpointMismatch, ModelNotFound
from unet import UNet, UNetConfig

PLAN = Plan(
    network=UNetConfig(dimensions=3, out_channels=3, features=(2, 4), poolings=((2, 2, 1),), normalisation="batch"),
    spacing_mm=(1.0, 1.0, 3.5),
    patch=(16, 16, 8),
    batch_size=2,
    window=Window(lower=-100.0, upper=300.0, mean=50.0, sd=80.0),
)
KEPT = KeepLargest(labels=(1,), evidence={"cases": 7})


@pytest.fixture
def folder(tmp_path):
    model = Model(plan=PLAN, labels={1: "head", 2: "body"}, weights_sha256="", keep_largest=KEPT, training={"seed": 3})
    torch.manual_seed(0)
    save_model(model, [UNet(PLAN.network).eval()], tmp_path)
    return tmp_path


def test_a_model_comes_back_as_it_was_saved(folder):
    model = read_model(folder)
    assert model.plan == PLAN
    assert model.labels == {1: "head", 2: "body"}
    assert model.keep_largest == KEPT
    assert model.training == {"seed": 3}
    assert [type(network) for network in load_networks(model, folder)] == [UNet]


def test_an_empty_folder_holds_no_model(tmp_path):
    with pytest.raises(ModelNotFound, match="needs model.json and model.safetensors; train one"):
        read_model(tmp_path)


def test_weights_that_do_not_belong_to_the_description_are_refused(folder):
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointMismatch, match="copy the whole folder again"):
        load_networks(read_model(folder), folder)


def test_a_description_with_an_unknown_key_is_refused(folder):
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, "colour": "red"}))
    with pytest.raises(CheckpointMismatch, match="not a model of this version: colour"):
        read_model(folder)
