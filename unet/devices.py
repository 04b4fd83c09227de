"""Where and how exactly the network computes: the device, and the width of its numbers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from unet.config import DeviceName, Precision

CPUINFO = Path("/proc/cpuinfo")


def choose_device(name: DeviceName) -> torch.device:
    """The device that `name` stands for; `auto` is CUDA where there is one.

    Raises RuntimeError when CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device 'cuda' was asked for, but torch finds no CUDA device; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def choose_precision(name: Precision, device: torch.device) -> torch.dtype:
    """The number type of the convolutions; `auto` is bfloat16 where the hardware is faster in it, else float32.

    A CPU is asked what it has, not timed: that would be another answer, and other masks, from night to night.
    """
    if name == "auto":
        name = "bfloat16" if _is_fast_in_bfloat16(device) else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _is_fast_in_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 faster than float32.

    A CPU with AMX does. With AVX512_BF16 alone AMD's takes half as long (Zen 5), and Intel's 1.7 times as long (a Xeon
    of the fifth generation whose AMX is off, as in some virtual machines), which was measured.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and _is_amd(CPUINFO)))


@cache
def _is_amd(cpuinfo: Path) -> bool:
    """Whether Linux says so; elsewhere no CPU is known that has AVX512_BF16 and no AMX."""
    try:
        return "AuthenticAMD" in cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def channels_last(dimensions: int) -> torch.memory_format:
    """The memory layout in which convolutions are fastest on both CPUs and GPUs (no such layout in 1-D)."""
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    return formats.get(dimensions, torch.contiguous_format)
