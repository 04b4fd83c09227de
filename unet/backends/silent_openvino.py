"""OpenVINO, without what it reports: its import alone sends an event to its makers, by the package openvino_telemetry.

Where that package cannot be imported, OpenVINO takes a stub of its own; so it must not be, and everything here imports
OpenVINO from this module. `tests/unet/test_offline.py` watches.
"""

from __future__ import annotations

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # `import` now raises ImportError, by its rules

import openvino  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

__all__ = ["openvino", "ops"]
