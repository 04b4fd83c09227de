"""The layer table is the one on the lecture's slides."""

from unet import UNet, UNetConfig, summary
from unet.layer_table import layers


def test_the_reference_network_has_the_parameters_of_the_lecture_layer_by_layer():
    table = {layer.name: layer for layer in layers(UNet(UNetConfig()), (256, 256)) if layer.parameters}
    assert [table[f"encoder.0.{index}"].parameters for index in (0, 2)] == [320, 9_248]
    assert [table[f"encoder.1.{index}"].parameters for index in (0, 2)] == [18_496, 36_928]
    assert [table[f"decoder.0.{index}"].parameters for index in (0, 2)] == [1_769_728, 590_080]
    assert sum(layer.parameters for layer in table.values()) == 7_846_081


def test_each_level_has_half_the_size_and_twice_the_maps():
    rows = {layer.name: layer for layer in layers(UNet(UNetConfig()), (256, 192))}
    assert [(rows[f"encoder.{level}.0"].maps, rows[f"encoder.{level}.0"].size) for level in range(5)] == [
        (32, (256, 192)),
        (64, (128, 96)),
        (128, (64, 48)),
        (256, (32, 24)),
        (512, (16, 12)),
    ]
    assert (rows["head"].maps, rows["head"].size) == (1, (256, 192))


def test_the_table_ends_with_the_sum():
    text = summary(UNet(UNetConfig(normalisation="batch")), (181, 217))
    assert text.splitlines()[-1].split() == ["total", "7,851,969"]
    assert "encoder.0.0       Conv2d                32  181 × 217              320" in text
    assert "join              Join                  96  181 × 217                0" in text
