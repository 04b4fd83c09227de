"""Weights on disk: the same numbers back, or a named refusal."""

import pytest
import torch

from unet import UNet, UNetConfig, load_weights, save_weights

CONFIG = UNetConfig(dimensions=3, features=(2, 4), normalisation="batch")


def test_weights_come_back_as_they_were(tmp_path):
    network = UNet(CONFIG).eval()
    checksum = save_weights([network], tmp_path / "w.safetensors")
    image = torch.rand(1, 1, 8, 8, 8)
    (loaded,) = load_weights(CONFIG, tmp_path / "w.safetensors", checksum)
    assert torch.equal(loaded(image), network(image))
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_the_members_of_an_ensemble_keep_their_order(tmp_path):
    networks = [UNet(CONFIG) for _ in range(11)]
    checksum = save_weights(networks, tmp_path / "w.safetensors")
    loaded = load_weights(CONFIG, tmp_path / "w.safetensors", checksum)
    assert [torch.equal(a.head.weight, b.head.weight) for a, b in zip(networks, loaded, strict=True)] == [True] * 11


def test_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    checksum = save_weights([UNet(CONFIG)], path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="its model.json says"):
        load_weights(CONFIG, path, checksum)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    checksum = save_weights([UNet(CONFIG)], path)
    with pytest.raises(ValueError, match="does not hold the weights of the network"):
        load_weights(UNetConfig(dimensions=3, features=(2, 8)), path, checksum)
