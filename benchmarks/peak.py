"""Seconds of a call, and how much larger the process was meanwhile than before, by the system's own account (Linux)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def measured(work: Callable[..., Any], *arguments: Any) -> tuple[float, float, Any]:
    """Seconds, megabytes of the largest resident set above that before, and what `work(*arguments)` returns."""
    before, start = forget_peak(), time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, peak_mb() - before, result


def forget_peak() -> float:
    """The resident set now, in megabytes; a peak is the largest from here on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status_mb("VmRSS")


def peak_mb() -> float:
    """The largest resident set so far, in megabytes."""
    return _status_mb("VmHWM")


def _status_mb(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
