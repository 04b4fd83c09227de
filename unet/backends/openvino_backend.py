"""OpenVINO on the CPU: about twice as fast as torch there (`benchmarks/inference.py` prints by how much).

The graph is built layer by layer rather than by OpenVINO's own converter, which would report each conversion to its
makers. All sides are dynamic: one compilation of about 0.1 s serves every shape, and is no slower than a fixed one.

A small image is computed by one core, and as many as there are cores may be computed at once: cores that share one wait
for each other after each layer. A large one is computed by all cores.
"""

from __future__ import annotations

from functools import cache
from math import prod
from queue import Queue
from typing import Any

import torch
from torch import Tensor

from unet.backends import Network
from unet.backends.folding import folded, split_image, with_split_image
from unet.backends.openvino_graph import graph_of
from unet.backends.silent_openvino import openvino
from unet.config import SMALL_VOXELS
from unet.model import UNet


def ready(network: UNet, device: torch.device, precision: torch.dtype) -> Network:
    """`network`, compiled, for any number of threads. Raises TypeError for a layer that is not in `openvino_graph`."""
    config, narrow = network.config, precision == torch.bfloat16
    copy = with_split_image(folded(network)) if narrow else folded(network)
    graph = graph_of(copy, config.in_channels * (3 if narrow else 1), config.dimensions)
    cores = torch.get_num_threads()

    @cache
    def requests(streams: int) -> Queue[Any]:
        """As many requests as `streams` that share the cores."""
        compiled = openvino.Core().compile_model(
            graph,
            device.type.upper(),
            {
                "INFERENCE_PRECISION_HINT": "bf16" if narrow else "f32",
                "INFERENCE_NUM_THREADS": cores,
                "NUM_STREAMS": streams,
            },
        )
        idle: Queue[Any] = Queue()
        for _ in range(streams):
            idle.put(compiled.create_infer_request())
        return idle

    def run(image: Tensor) -> Tensor:
        whole = image.float()
        parts = (split_image(whole) if narrow else whole).contiguous()
        logits = torch.empty((len(parts), config.out_channels, *parts.shape[2:]))
        idle = requests(cores if prod(image.shape[2:]) <= SMALL_VOXELS else 1)
        request = idle.get()
        try:
            request.set_input_tensor(openvino.Tensor(parts.numpy(), shared_memory=True))
            request.set_output_tensor(openvino.Tensor(logits.numpy(), shared_memory=True))
            request.infer(share_outputs=True)  # else what it returns is a copy, which nobody looks at
        finally:
            idle.put(request)
        return logits

    requests(cores)
    return run
