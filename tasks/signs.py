"""What can be said of a segmentation that nobody has drawn a reference for: signs of doubt by label, and flags.

The limits are this project's own, and wide: a flag on every third scan is one that nobody reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from tasks.scan.planes import let_go, planes
from tasks.scan.records import Signs

Labels = NDArray[np.unsignedinteger[Any]]
CONNECTIVITY: Literal[26] = 26
"""Voxels that share a face, an edge or a corner are of one piece, as in `metrics.csv`."""
DISAGREEMENT = 0.7
"""Networks, or the answers to flipped images, disagree when the mean Dice of their pairs is below this."""
UNSURE = 0.75
"""The network is unsure of a label when it expects a Dice below this of itself."""
MARGIN = 4
SLAB_NUMBERS = 2**23
"""Of the logits, so many are looked at at a time: all of a large scan may be more than memory holds."""
REMOVED = 0.1
"""Keeping the largest piece is for specks: if it takes away more of a label than this, the label was in pieces."""
RELABELLED = 0.1
"""Putting labels in order is for a ragged border: if it takes more of a label than this, the label was out of order."""
ROOM = 0.25
"""A volume is unlike the training data when it is this fraction of their range (1st to 99th percentile) beyond it."""


def read_signs(labels: Labels, values: Iterable[int], doubts: Mapping[str, Mapping[int, float]]) -> dict[int, Signs]:
    """The signs of each of `values` in the label map `labels` (X, Y, Z) on the scan's own grid.

    `doubts` are those that the map does not hold, by name and value: `boundary_entropy`, `dice_expected`, `agreement`,
    `relabelled`, `removed`.
    """
    pieces, at_border = count_pieces(labels), count_at_border(labels)
    return {
        value: Signs(
            components=pieces.get(value, 0),
            border_voxels=at_border.get(value, 0),
            **{name: of_value.get(value, math.nan) for name, of_value in doubts.items()},
        )
        for value in sorted(values)
    }


def count_pieces(labels: Labels) -> dict[int, int]:
    """How many pieces each label has that is there."""
    pieces, count = cc3d.connected_components(np.ascontiguousarray(labels), connectivity=CONNECTIVITY, return_N=True)
    owner = np.zeros(count + 1, labels.dtype)
    for part in planes(labels):
        owner[pieces[part].ravel()] = labels[part].ravel()
    found, numbers = np.unique(owner[1:], return_counts=True)
    return dict(zip(found.tolist(), numbers.tolist(), strict=True))


def count_at_border(labels: Labels) -> dict[int, int]:
    """How many voxels of each label lie in the outermost layer of the image: it may go on where the image ends.

    An axis of a single voxel has no outside to speak of.
    """
    outermost = np.zeros(labels.shape, bool)
    for axis, length in enumerate(labels.shape):
        if length > 1:
            outermost[(slice(None),) * axis + ([0, -1],)] = True
    found, numbers = np.unique(labels[outermost & (labels > 0)], return_counts=True)
    return dict(zip(found.tolist(), numbers.tolist(), strict=True))


def boundary_entropy(logits: NDArray[np.float32], classes: NDArray[Any]) -> dict[int, float]:
    """By class, from 1: the mean entropy of the softmax of `logits` (K, X, Y, Z) over the class's boundary voxels.

    Those are the voxels of the class with a face neighbour of another class. −Σ p ln p / ln K: 0 is certain, 1 is a
    guess. Inside a structure a network is always certain; what it is unsure of shows at the boundary.
    `classes` (X, Y, Z) is the argmax of `logits`.
    """
    boundary = has_other_neighbour(classes) & (classes > 0)
    sums, counts = np.zeros(len(logits)), np.zeros(len(logits), np.int64)
    for slab in slabs(logits):
        log_p = log_softmax(logits[:, slab][:, boundary[slab]].astype(np.float64), axis=0)
        entropy = -(np.exp(log_p) * log_p).sum(axis=0) / math.log(len(logits))
        owner = classes[slab][boundary[slab]]
        sums += np.bincount(owner, entropy, len(logits))
        counts += np.bincount(owner, minlength=len(logits))
    return {int(value): float(sums[value] / counts[value]) for value in np.flatnonzero(counts)}


def expected_dice(logits: NDArray[np.float32], classes: NDArray[Any]) -> dict[int, float]:
    """By class, from 1: the Dice that the network expects of its own answer, by its probabilities p.

    2 Σ p over the voxels of the class / (Σ p over all voxels + their number): what Dice would be, if every voxel were
    of the class as often as the network says. Probabilities count in the box around all that was found, and `MARGIN`
    voxels more. Networks are mostly too sure of themselves: it orders cases, it does not predict their Dice. `classes`
    (X, Y, Z) is the argmax of `logits`.
    """
    if not classes.any():
        return {}
    box = tuple(
        slice(max(0, int(used[0]) - MARGIN), int(used[-1]) + 1 + MARGIN)
        for axis in range(3)
        for used in [np.flatnonzero(classes.any(axis=tuple({0, 1, 2} - {axis})))]
    )
    logits, classes = logits[(slice(None), *box)], classes[box]
    values = np.unique(classes[classes > 0]).tolist()
    sums = {value: np.zeros(3) for value in values}  # Σ p over its voxels, Σ p over all, and how many are its own
    for slab in slabs(logits):
        near = logits[:, slab].astype(np.float32)
        total = logsumexp(near, axis=0)
        for value in values:
            p = np.exp(near[value] - total)
            own = classes[slab] == value
            sums[value] += (p[own].sum(dtype=np.float64), p.sum(dtype=np.float64), own.sum())
    return {value: float(2 * of_own / (of_all + count)) for value, (of_own, of_all, count) in sums.items()}


def classes_of(logits: NDArray[np.float32]) -> Labels:
    """The argmax (X, Y, Z) of `logits` (K, X, Y, Z), which may be a file mapped to memory, as small numbers."""
    classes = np.empty(logits.shape[1:], np.uint8 if len(logits) <= 256 else np.uint16)
    for slab in slabs(logits):
        classes[slab] = logits[:, slab].argmax(axis=0)
    return classes


def slabs(logits: NDArray[np.float32]) -> Iterator[slice]:
    """Slices of the first spatial axis of `logits` (K, X, Y, Z) that each hold about `SLAB_NUMBERS`."""
    for slab in planes(logits[0], SLAB_NUMBERS // len(logits)):
        yield slab
        let_go(logits)


def has_other_neighbour(classes: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a voxel, or a pixel, of `classes` (any number of axes) has a face neighbour of another class."""
    other = np.zeros(classes.shape, bool)
    for axis in range(classes.ndim):
        around = (slice(None),) * axis
        low, high = (*around, slice(None, -1)), (*around, slice(1, None))
        differ = classes[low] != classes[high]
        other[low] |= differ
        other[high] |= differ
    return other


def sign_flags(
    signs: Mapping[int, Signs],
    volumes_ml: Mapping[int, float],
    names: Mapping[int, str],
    fingerprint: Mapping[str, Any],
) -> list[str]:
    """What should be looked at, by label; beside the model's `fingerprint` only where that knows volumes and pieces."""
    flags = []
    for value, sign in sorted(signs.items()):
        name = names[value]
        if sign.border_voxels:
            flags.append(f"cut by the image border: {name}, {sign.border_voxels} voxels lie in the outermost layer")
        if sign.dice_expected < UNSURE:
            flags.append(f"the network is unsure: {name}, it expects a Dice of {sign.dice_expected:.2f} of itself")
        if sign.agreement < DISAGREEMENT:
            flags.append(f"networks disagree: {name}, mean Dice between their answers {sign.agreement:.2f}")
        if sign.relabelled > RELABELLED:
            flags.append(
                f"out of order: {name}, {sign.relabelled:.0%} of what was found lay in the slices of other labels"
            )
        if sign.removed > REMOVED:
            flags.append(
                f"in pieces: {name}, {sign.removed:.0%} of what was found was taken away beside the largest piece"
            )
        most = fingerprint.get("components", {}).get(str(value))
        if most is not None and sign.components > most:
            flags.append(f"in pieces: {name}, {sign.components}, in the training data at most {most}")
        flags += _volume_flags(name, volumes_ml.get(value, 0.0), fingerprint.get("volume_ml", {}).get(str(value)))
    return flags


def _volume_flags(name: str, volume_ml: float, known: Mapping[str, float] | None) -> list[str]:
    if known is None:
        return []
    there = f"{known['p1']:.3g} to {known['p99']:.3g} mL in the training data"
    if volume_ml == 0:
        return [f"not found: {name}, {there}"] if known["p1"] > 0 else []
    room = ROOM * (known["p99"] - known["p1"])
    if known["p1"] - room <= volume_ml <= known["p99"] + room:
        return []
    return [f"volume unlike the training data: {name}, {volume_ml:.3g} mL, {there}"]
