"""Nothing phones home: OpenVINO brings a package that would, so a process of its own is watched while it runs."""

import os
import subprocess
import sys
from pathlib import Path

WATCHED = """
import sys, time
calls = []
sys.addaudithook(lambda event, _: calls.append(event) if event.startswith(("socket.", "subprocess.")) else None)
import torch
from unet import UNet, UNetConfig
from unet.backends import ready
run = ready(UNet(UNetConfig(features=(4, 8))), "openvino", torch.device("cpu"), torch.float32)
run(torch.zeros(1, 1, 8, 8))
time.sleep(1)
print([name for name in sys.modules if name.startswith("openvino_telemetry.")])
print(sorted({call for call in calls if call != "socket.__new__"}))
"""


def test_a_network_in_openvino_opens_no_connection_and_leaves_no_file(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HOME": str(home)},
        check=True,
    )
    assert done.stdout.splitlines() == ["[]", "[]"]
    assert [path.relative_to(home) for path in home.rglob("*")] == []
