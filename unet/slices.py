"""A 2-D network on a volume: slice by slice, many at once, for the slices are to it what images of a batch are."""

from __future__ import annotations

from torch import Tensor

from unet.backends import Network


def by_slice(network: Network, axis: int) -> Network:
    """The network that gives logits (1, K, X, Y, Z) for a volume (1, C, X, Y, Z), from a 2-D one.

    `axis`, 0 to 2, is the one along which its slices follow one another; in each of them, the other axes keep their
    order.
    """

    def run(volume: Tensor) -> Tensor:
        slices = volume[0].movedim(axis + 1, 0)  # (n, C, …)
        return network(slices.contiguous()).movedim(0, axis + 1)[None]

    return run
