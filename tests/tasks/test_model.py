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


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("colour", "red", "not a model of this version: colour: .*; copy the folder again"),
        ("format", 1, "not a model of this version: format: "),
        ("labels", {"1": "head"}, "3 output maps has background and 2 labels, but 1 are named"),
        ("labels", {"1": "head", "2": "body", "3": "tail"}, "2 labels, but 3 are named"),
        ("labels", {"1": "head", "70000": "body"}, "labels must have values from 1 to 65535"),
        ("labels", {"0": "head", "2": "body"}, "labels must have values from 1 to 65535"),
        ("labels", {}, "labels must have values from 1 to 65535"),
        ("plan.patch", [16, 0, 8], "plan: .*patch and batch_size must be above 0"),
        ("plan.spacing_mm", [1, 1, 0], "plan: .*spacing_mm, patch and batch_size must be above 0"),
        ("plan.spacing_mm", [1, 1, float("nan")], "spacing_mm, patch and batch_size must be above 0"),
        ("plan.batch_size", 0, "batch_size must be above 0"),
        ("plan.network.dimensions", 2, "network"),
        ("plan.network.in_channels", 2, "a network of 2 input channels needs 1 further_windows, but 0 are there"),
        ("plan.augment.mirror_axes", [3], "mirror_axes must be from 0 to 2"),
        ("keep_largest.labels", [1, 3], "keep_largest.labels must be among labels"),
    ],
)
def test_a_description_that_was_edited_is_refused(folder, place, value, message):
    content = json.loads((folder / "model.json").read_text())
    *above, last = place.split(".")
    record = content
    for key in above:
        record = record[key]
    record[last] = value
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointMismatch, match=message):
        read_model(folder)


def test_labels_need_not_be_consecutive(folder):
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, "labels": {"1": "head", "65535": "body"}}))
    assert read_model(folder).labels == {1: "head", 65535: "body"}
