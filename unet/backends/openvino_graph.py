"""A torch network as a graph of OpenVINO: torch.fx follows it once, and each layer it meets has an entry here."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from unet.backends.silent_openvino import openvino, ops
from unet.model import Join, UNet

Output = Any
"""What OpenVINO's operations take, `openvino.Output`; its bindings have no types."""


def graph_of(network: UNet, channels: int, dimensions: int) -> openvino.Model:
    """The graph of `network`: any batch, any sides.

    Raises TypeError when the network has a layer that has no entry in `_LAYERS` or `_FUNCTIONS`.
    """
    image = ops.parameter(openvino.PartialShape([-1, channels, *[-1] * dimensions]), openvino.Type.f32)
    values: dict[fx.Node, Output] = {}
    traced = _Tracer().trace(network)
    for node in traced.nodes:
        if node.op == "placeholder":
            values[node] = image.output(0)
        elif node.op == "call_module":
            layer = network.get_submodule(str(node.target))
            values[node] = _entry(_LAYERS, type(layer))(layer, *(values[used] for used in node.all_input_nodes))
        elif node.op == "call_function":
            values[node] = _entry(_FUNCTIONS, node.target)(
                *fx.node.map_arg(node.args, values.__getitem__), **node.kwargs
            )
        elif node.op == "output":
            (logits,) = node.all_input_nodes
            return openvino.Model([ops.result(values[logits])], [image], "unet")
        else:
            raise TypeError(f"'{node.target}' ({node.op}) cannot be run by OpenVINO; use --backend torch")
    raise TypeError("a network that returns nothing cannot be run")


class _Tracer(fx.Tracer):
    """Does not look into `Join`, which asks for sizes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Join) or super().is_leaf_module(m, module_qualified_name)


def _entry(table: dict[Any, Callable[..., Output]], key: Any) -> Callable[..., Output]:
    if key not in table:
        raise TypeError(f"{getattr(key, '__name__', key)} cannot be run by OpenVINO; use --backend torch")
    return table[key]


def _axes(image: Output) -> list[int]:
    """The numbers of the spatial axes of `image` (B, C, X, Y, Z): 2, 3, 4."""
    return list(range(2, image.get_partial_shape().rank.get_length()))


def _sizes(value: Any, image: Output) -> list[int]:
    """One number per spatial axis; torch lets one stand for all."""
    return list(value) if isinstance(value, tuple) else [value] * len(_axes(image))


def _constant(values: Tensor) -> Output:
    return ops.constant(values.detach().cpu().float().numpy())


def _per_map(values: Tensor, image: Output) -> Output:
    """One number a map, in a shape (1, maps, 1, 1, 1) that spreads over the voxels."""
    return _constant(values.reshape(1, -1, *[1] * len(_axes(image))))


def _with_bias(layer: Any, image: Output) -> Output:
    return image if layer.bias is None else ops.add(image, _per_map(layer.bias, image)).output(0)


def _convolution(layer: nn.Conv3d, image: Output) -> Output:
    padding, weights = list(layer.padding), _constant(layer.weight)
    result = ops.convolution(image, weights, list(layer.stride), padding, padding, list(layer.dilation))
    return _with_bias(layer, result.output(0))


def _transposed(layer: nn.ConvTranspose3d, image: Output) -> Output:
    result = ops.convolution_backprop_data(image, _constant(layer.weight), list(layer.stride))
    return _with_bias(layer, result.output(0))


def _instance_norm(layer: nn.InstanceNorm3d, image: Output) -> Output:
    axes = ops.constant(np.array(_axes(image)))
    result = ops.mvn(image, axes, normalize_variance=True, eps=layer.eps, eps_mode="inside_sqrt")
    if layer.weight is None:
        return result.output(0)
    return _with_bias(layer, ops.multiply(result, _per_map(layer.weight, image)).output(0))


def _rectified(_: nn.ReLU, image: Output) -> Output:
    return ops.relu(image).output(0)


def _leaky(layer: nn.LeakyReLU, image: Output) -> Output:
    return ops.prelu(image, ops.constant(np.array([layer.negative_slope], np.float32))).output(0)


def _same(_: nn.Identity, image: Output) -> Output:
    return image


def _pooling(layer: nn.MaxPool3d, image: Output) -> Output:
    size, none, beyond = _window(layer.kernel_size, image)
    return ops.max_pool(image, size, [1] * len(size), none, beyond, size).output(0)


def _average(layer: nn.AvgPool3d, image: Output) -> Output:
    size, none, beyond = _window(layer.kernel_size, image)
    return ops.avg_pool(image, size, none, beyond, size, exclude_pad=True).output(0)


def _window(kernel: Any, image: Output) -> tuple[list[int], list[int], list[int]]:
    """Sides of a pooling's window, and what it pads at both ends of each axis: so much that sides are rounded up.

    What is padded counts for nothing. Rounding as such (`ceil`) is not for sides shorter than the window: it fails, and
    so do images after that one, or what they get is garbage.
    """
    size = _sizes(kernel, image)
    return size, [0] * len(size), [side - 1 for side in size]


def _upsampling(layer: nn.Upsample, image: Output) -> Output:
    axes = ops.constant(np.array(_axes(image)))
    factors = ops.constant(np.array(_sizes(layer.scale_factor, image), np.float32))
    if layer.mode == "nearest":
        mode, coordinates = "nearest", "asymmetric"
    else:
        mode, coordinates = "linear_onnx", "half_pixel"
    result = ops.interpolate(
        image, factors, mode, "scales", axes=axes, coordinate_transformation_mode=coordinates, nearest_mode="floor"
    )
    return result.output(0)


def _joined(_: Join, below: Output, beside: Output) -> Output:
    spatial = np.array(_axes(beside))
    axes = ops.constant(spatial)
    sizes = ops.gather(ops.shape_of(beside), axes, ops.constant(0))
    cut = ops.slice(below, ops.constant(0 * spatial), sizes, ops.constant(0 * spatial + 1), axes)
    return ops.concat([cut.output(0), beside], axis=1).output(0)


def _sum(one: Output, other: Output) -> Output:
    return ops.add(one, other).output(0)


_LAYERS: dict[Any, Callable[..., Output]] = {
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.ConvTranspose1d: _transposed,
    nn.ConvTranspose2d: _transposed,
    nn.ConvTranspose3d: _transposed,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm3d: _instance_norm,
    nn.ReLU: _rectified,
    nn.LeakyReLU: _leaky,
    nn.Identity: _same,
    nn.AvgPool1d: _average,
    nn.AvgPool2d: _average,
    nn.AvgPool3d: _average,
    nn.MaxPool1d: _pooling,
    nn.MaxPool2d: _pooling,
    nn.MaxPool3d: _pooling,
    nn.Upsample: _upsampling,
    Join: _joined,
}
_FUNCTIONS: dict[Any, Callable[..., Output]] = {operator.add: _sum}
