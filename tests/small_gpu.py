"""A GPU that this machine need not have: tensors said to be on it are kept in ordinary memory, so much and no more.

While it is there, `device="cuda"` and `.to("cuda")` put a tensor on it, what is computed from such a tensor is on it
too, tensors here and there cannot be mixed, and an allocation beyond what it has left raises torch.OutOfMemoryError, as
CUDA's allocator does. What a layer needs within itself is not counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

GPU, CPU = torch.device("cuda"), torch.device("cpu")
MAKERS = (torch.zeros, torch.empty, torch.ones)


class SmallGpu(TorchFunctionMode):
    """Has `megabytes` of memory."""

    def __init__(self, megabytes: float) -> None:
        super().__init__()
        self.bytes = megabytes * 2**20
        self.held: list[tuple[int, int, Callable[[], Tensor | None]]] = []
        """Place and size of the memory of each tensor that is on it, and whether that still lives."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        there = [is_there(value) for value in tensors_in((*args, *kwargs.values()))]
        if func == Tensor.device.__get__ and there == [True]:
            return GPU
        wanted = next((value for value in (*args[1:], *kwargs.values()) if isinstance(value, torch.device)), None)
        if func in (Tensor.to, Tensor.cpu) and (wanted or func is Tensor.cpu):
            return self.moved(func, args, kwargs, wanted or CPU)
        if func in MAKERS and wanted == GPU:
            return self.put(func(*args, **(kwargs | {"device": CPU})))
        if any(there) and not all(there) and func is not Tensor.__setitem__:
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices")
        result = func(*args, **kwargs)
        return self.put_all(result) if any(there) else result

    def moved(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], wanted: torch.device) -> Any:
        """The first of `args` on the device that is `wanted`."""
        kwargs = {name: CPU if name == "device" else value for name, value in kwargs.items()}
        tensor = func(*(CPU if isinstance(value, torch.device) else value for value in args), **kwargs)
        if is_there(tensor) == (wanted == GPU):
            return tensor
        other = tensor.clone() if tensor is args[0] else tensor
        return self.put(other) if wanted == GPU else other

    def put_all(self, result: Any) -> Any:
        """Every tensor of `result`, on this GPU."""
        if isinstance(result, tuple) and result and isinstance(result[0], Tensor):
            return tuple(self.put(part) for part in result)
        if hasattr(result, "__next__"):
            return iter([self.put(part) for part in result])
        return self.put(result) if isinstance(result, Tensor) else result

    def put(self, tensor: Tensor) -> Tensor:
        """`tensor`, on this GPU. Raises torch.OutOfMemoryError."""
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
            place, size = storage.data_ptr(), storage.nbytes()
        self.held = [entry for entry in self.held if entry[2]() is not None]
        if sum({place: size, **{place: size for place, size, _ in self.held}}.values()) > self.bytes:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes")
        self.held.append((place, size, weakref.ref(tensor)))
        tensor.is_on_small_gpu = True  # type: ignore[attr-defined]
        return tensor


def tensors_in(values: Sequence[Any]) -> list[Tensor]:
    """The tensors in `values`, but for a network's own numbers, and single numbers, which may be anywhere."""
    found = []
    for value in values:
        if isinstance(value, tuple | list):
            found += tensors_in(value)
        elif isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            with torch._C.DisableTorchFunction():
                found += [value] if value.ndim else []
    return found


def is_there(tensor: Tensor) -> bool:
    return getattr(tensor, "is_on_small_gpu", False)
