"""OpenVINO on the CPU: about twice as fast as torch there (`benchmarks/inference.py` prints by how much).

The graph is built layer by layer rather than by OpenVINO's own converter, which would report each conversion to its
makers. All sides are dynamic: one compilation of about 0.1 s serves every shape, and is no slower than a fixed one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unet.backends import Network
from unet.backends.folding import folded, split_image, with_split_image
from unet.backends.openvino_graph import graph_of
from unet.backends.silent_openvino import openvino
from unet.model import UNet, pad_to_multiple


def ready(network: UNet, device: torch.device, precision: torch.dtype) -> Network:
    """`network`, compiled. Raises TypeError when it has a layer that is not in `openvino_graph`."""
    config, narrow = network.config, precision == torch.bfloat16
    copy = with_split_image(folded(network)) if narrow else folded(network)
    compiled = openvino.Core().compile_model(
        graph_of(copy, config.in_channels * (3 if narrow else 1), config.dimensions),
        device.type.upper(),
        {
            "INFERENCE_PRECISION_HINT": "bf16" if narrow else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    request = compiled.create_infer_request()

    def run(image: Tensor) -> Tensor:
        padded = pad_to_multiple(image.float(), config.divisor)
        padded = (split_image(padded) if narrow else padded).contiguous()
        logits = torch.empty((len(padded), config.out_channels, *padded.shape[2:]))
        request.set_input_tensor(openvino.Tensor(padded.numpy(), shared_memory=True))
        request.set_output_tensor(openvino.Tensor(logits.numpy(), shared_memory=True))
        request.infer()
        return logits[(slice(None), slice(None), *(slice(length) for length in image.shape[2:]))]

    return run
