"""The number type follows from what the CPU is, never from how busy it is."""

import pytest
import torch

from unet import choose_precision, devices

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "vendor", "chosen"),
    [
        ({"avx512_bf16": True}, "AuthenticAMD", torch.bfloat16),
        ({"avx512_bf16": True}, "GenuineIntel", torch.float32),
        ({"avx512_bf16": True, "amx_bf16": True}, "GenuineIntel", torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": False}, "AuthenticAMD", torch.float32),
        ({}, None, torch.float32),
    ],
)
def test_bfloat16_is_chosen_where_it_is_faster(capabilities, vendor, chosen, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    if vendor:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    assert choose_precision("auto", CPU) == chosen
    assert choose_precision("bfloat16", CPU) == torch.bfloat16
    assert choose_precision("float32", CPU) == torch.float32
