"""A model folder: what was saved comes back, and what is damaged is refused by name."""

import json

import pytest
import torch

from tasks.model import KeepLargest, Model, Plan, SliceOrder, Window
from tasks.model.folder import load_networks, read_model, save_model
from tasks.scan.errors import CheckpointMismatch, ModelNotFound
from unet import UNet, UNetConfig

PLAN = Plan(
    network=UNetConfig(dimensions=3, out_channels=3, features=(2, 4), poolings=((2, 2, 1),), normalisation="batch"),
    spacing_mm=(1.0, 1.0, 3.5),
    patch=(16, 16, 8),
    batch_size=2,
    window=Window(lower=-100.0, upper=300.0, mean=50.0, sd=80.0),
)
ORDER = SliceOrder(axis=1, labels=(2, 1), evidence={"cases": 7})
KEPT = KeepLargest(labels=(1,), evidence={"cases": 7})


@pytest.fixture
def folder(tmp_path):
    model = Model(
        plan=PLAN,
        labels={1: "head", 2: "body"},
        weights_sha256="",
        slice_order=ORDER,
        keep_largest=KEPT,
        training={"seed": 3},
    )
    torch.manual_seed(0)
    save_model(model, [UNet(PLAN.network).eval()], tmp_path)
    return tmp_path


def test_a_model_comes_back_as_it_was_saved(folder):
    model = read_model(folder)
    assert model.plan == PLAN
    assert model.labels == {1: "head", 2: "body"}
    assert model.slice_order == ORDER
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
        ("format", 1, "not a model of this version: format: it is 1, this one reads 2; use the version that wrote it"),
        ("format", 3, "not a model of this version: format: it is 3, this one reads 2; use the version that wrote it"),
        ("plan.rotated", True, "not a model of this version: plan.rotated: "),
        ("plan.network.attention", True, "not a model of this version: plan.network.attention: "),
        ("plan.augment.blur", 1, "not a model of this version: plan.augment.blur: "),
        ("plan.window.log", True, "not a model of this version: plan.window.log: "),
        ("slice_order.angle", 3, "not a model of this version: slice_order.angle: "),
        ("slice_order.axis", 3, "slice_order.axis must be from 0 to 2"),
        ("slice_order.labels", [1], "slice_order.labels must be all labels, each once"),
        ("slice_order.labels", [1, 2, 2], "slice_order.labels must be all labels, each once"),
        ("keep_largest.smooth", True, "not a model of this version: keep_largest.smooth: "),
        ("labels", {"1": "head"}, "3 output maps has background and 2 labels, but 1 are named"),
        ("labels", {"1": "head", "2": "body", "3": "tail"}, "2 labels, but 3 are named"),
        ("labels", {"1": "head", "70000": "body"}, "labels must have values from 1 to 65535"),
        ("labels", {"0": "head", "2": "body"}, "labels must have values from 1 to 65535"),
        ("labels", {"1": "he\nad", "2": "body"}, "labels must have names of 1 to 200 characters that can be printed"),
        ("labels", {"1": "\x1b[31mhead", "2": "body"}, "labels must have names of 1 to 200 characters"),
        ("labels", {"1": "", "2": "body"}, "labels must have names of 1 to 200 characters"),
        ("labels", {"1": "x" * 201, "2": "body"}, "labels must have names of 1 to 200 characters"),
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


def test_a_model_of_format_1_is_refused_as_that_though_all_else_is_otherwise_too(tmp_path):
    old = """{"plan": {"network": {"dimensions": 3, "in_channels": 1, "out_channels": 2, "features": [2, 4]},
      "spacing_mm": [1, 1, 1], "patch": [8, 8, 8], "batch_size": 2, "window": null}, "labels": {"1": "head"},
      "weights_sha256": "0", "mirror_axes": [0], "keep_largest": [1], "fingerprint": {}, "training": {}, "format": 1}"""
    (tmp_path / "model.json").write_text(old)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointMismatch, match="format: it is 1, this one reads 2"):
        read_model(tmp_path)


def test_a_model_of_before_several_channels_and_slices_and_their_order_is_what_it_was(folder):
    content = json.loads((folder / "model.json").read_text())
    for later in ("further_windows", "slice_axis", "nnunet"):
        del content["plan"][later]
    del content["slice_order"]
    (folder / "model.json").write_text(json.dumps(content))
    assert read_model(folder).plan == PLAN
    assert read_model(folder).slice_order == SliceOrder()


def test_labels_need_not_be_consecutive(folder):
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(
        json.dumps({**content, "labels": {"1": "head", "65535": "body"}, "slice_order": {}})
    )
    assert read_model(folder).labels == {1: "head", 65535: "body"}
