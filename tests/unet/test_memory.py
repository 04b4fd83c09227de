"""What a case will need, in numbers that can be multiplied by hand."""

from unet import UNetConfig
from unet.memory import (
    OPENVINO_BFLOAT16,
    OPENVINO_FLOAT32,
    TORCH_FLOAT32,
    Appetite,
    choose_way,
    count_weights,
    most_voxels,
    pass_bytes,
    smallest_way,
)

CONFIG = UNetConfig(dimensions=3, out_channels=3, features=(32, 64))
GIGABYTE = 2**30


def test_a_pass_needs_five_volumes_of_the_first_maps_and_its_classes():
    assert in_thousand_voxels(CONFIG, OPENVINO_BFLOAT16) == 1000 * (5 * 2 * 32 + 10 * 3 + 12)
    assert in_thousand_voxels(CONFIG, OPENVINO_FLOAT32) == 1000 * (19 * 32 + 11 * 3 + 12)


def in_thousand_voxels(config: UNetConfig, appetite: Appetite) -> int:
    return pass_bytes(config, 1000, appetite) - pass_bytes(config, 0, appetite)


def test_openvino_compiles_the_weights_once_more():
    one = UNetConfig(dimensions=3, out_channels=1, features=(1,))
    assert count_weights(one) == (27 + 1) + (27 + 1) + (1 + 1)
    assert pass_bytes(one, 0, OPENVINO_FLOAT32) == 4 * 58


def test_through_torch_the_block_is_gone_when_the_classes_come():
    assert in_thousand_voxels(CONFIG, TORCH_FLOAT32) == 1000 * (4 * 4 * 32 + 12)
    many = UNetConfig(dimensions=3, out_channels=200, features=(32, 64))
    assert in_thousand_voxels(many, TORCH_FLOAT32) == 1000 * (4 * 200 + 4 * 32 + 12)


def test_how_much_passes_at_once_depends_on_the_network_alone():
    assert most_voxels(CONFIG) == 3 * 2**29 // (5 * 2 * 32 + 10 * 3 + 12)


def test_a_small_scan_is_one_pass():
    way = choose_way(CONFIG, (100, 100, 100), (40, 40, 40), OPENVINO_BFLOAT16, 8 * GIGABYTE)
    assert way is not None
    assert (way.tile, way.on_disk, str(way)) == (None, False, "whole")


def test_a_large_scan_is_tiled():
    way = choose_way(CONFIG, (300, 300, 300), (40, 40, 40), OPENVINO_BFLOAT16, 8 * GIGABYTE)
    assert way is not None
    assert (way.tile, way.on_disk) == ((300, 40, 300), False)


def test_many_classes_of_a_large_scan_are_summed_on_disk():
    many = UNetConfig(dimensions=3, out_channels=25, features=(32, 64))
    way = choose_way(many, (300, 300, 300), (40, 40, 40), OPENVINO_BFLOAT16, 8 * GIGABYTE)
    assert way is not None
    assert str(way) == "tiles of 200 × 40 × 300, sums on disk"
    assert way.needed_bytes < 2 * GIGABYTE


def test_little_memory_takes_the_tiles_of_the_training():
    way = choose_way(CONFIG, (200, 200, 200), (40, 40, 40), OPENVINO_BFLOAT16, GIGABYTE)
    assert way is not None
    assert way.tile == (40, 40, 40)


def test_a_network_that_only_knows_its_patch_is_shown_no_more_of_a_small_scan():
    way = choose_way(CONFIG, (100, 100, 100), (40, 40, 40), OPENVINO_BFLOAT16, 8 * GIGABYTE, fixed=True)
    assert way is not None
    assert way.tile == (40, 40, 40)


def test_what_does_not_fit_at_all_has_no_way_but_a_number():
    assert choose_way(CONFIG, (600, 600, 600), (40, 40, 40), OPENVINO_BFLOAT16, GIGABYTE // 2) is None
    assert smallest_way(CONFIG, (600, 600, 600), (40, 40, 40), OPENVINO_BFLOAT16).needed_bytes > GIGABYTE // 2
