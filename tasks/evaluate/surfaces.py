"""Where the surfaces of all labels of a map are: in one pass, as surface voxels and as surface elements (surfels).

A surface voxel is a voxel with a face neighbour outside of its label. A surfel sits on a corner that eight voxels
share, of which some, not all, hold the label; it has the area that marching cubes gives to the surface between them.
What lies beyond the array is background. Source of the surfels and their areas: Nikolov et al., arXiv:1809.04430.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from tasks.scan.records import Spacing

Compact = NDArray[np.uint8 | np.uint16]
Places = NDArray[np.int64]

TRIANGLES: dict[int, tuple[tuple[int, int, int], ...]] = {
    0b00000001: ((1, 1, 1),),
    0b00000011: ((2, 2, 0), (2, 2, 0)),
    0b00000110: ((1, 1, 1), (1, 1, 1)),
    0b00000111: ((1, 1, 1), (2, 2, 2), (4, 0, 0)),
    0b00001111: ((4, 0, 0), (4, 0, 0)),
    0b00010110: ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    0b00010111: ((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2)),
    0b00011000: ((1, 1, 1), (1, 1, 1)),
    0b00011001: ((0, 2, 2), (0, 2, 2), (1, 1, 1)),
    0b00011011: ((0, 2, 2), (1, 1, 1), (2, 0, 2), (3, 3, 3)),
    0b00011110: ((1, 1, 1), (1, 1, 1), (2, 2, 2), (4, 0, 0)),
    0b00111100: ((2, 2, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0)),
    0b01101001: ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
}
"""The triangles of marching cubes for every way to fill the eight voxels around a corner, but for turns, mirror images
and the exchange of inside and outside. Bit 4x + 2y + z is voxel (x, y, z). A triangle is given by the absolute
components of its normal, whose length is the area, in eighths of a voxel's face."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """Places (N, 3) of surface voxels or surfels, sorted by label: label i has those from start[i] to start[i + 1]."""

    places: Places
    start: NDArray[np.int64]
    areas_mm2: NDArray[np.float64]
    """Areas (N,) of surfels; empty for surface voxels."""

    def of(self, index: int) -> Places:
        """The places (n, 3) of a label."""
        return self.places[self.start[index] : self.start[index + 1]]

    def areas_of(self, index: int) -> NDArray[np.float64]:
        """The areas (n,) of a label's surfels."""
        return self.areas_mm2[self.start[index] : self.start[index + 1]]


def surface_voxels(labels: Compact, count: int) -> Surface:
    """The surface voxels of the labels 1 … `count` of a map (X, Y, Z)."""
    padded = np.pad(labels, 1)
    flat = padded.ravel()
    surface = np.zeros(flat.size, bool)
    for step in _steps(padded.shape):  # a step past the end of a row leads from padding to padding
        differs = flat[step:] != flat[:-step]
        surface[step:] |= differs
        surface[:-step] |= differs
    surface &= flat != 0
    found = np.flatnonzero(surface)
    order, start = _by_label(flat[found], count)
    return Surface(places=_places(found[order], padded.shape), start=start, areas_mm2=np.empty(0))


def surfels(labels: Compact, count: int, spacing_mm: Spacing) -> Surface:
    """The surfels of the labels 1 … `count` of a map (X, Y, Z); a surfel is at the first voxel of its corner."""
    padded = np.pad(labels, 1)
    flat = padded.ravel()
    corners = _mixed_corners(flat, padded.shape)
    x, y, z = _steps(padded.shape)
    around = [flat[corners + (i * x + j * y + k * z)] for i, j, k in product((0, 1), repeat=3)]
    found, values, codes = [], [], []
    for bit, own in enumerate(around):
        code = np.zeros(len(corners), np.uint8)
        for other_bit, other in enumerate(around):
            code |= (other == own).view(np.uint8) << np.uint8(other_bit)
        first = np.flatnonzero((own != 0) & (code & np.uint8((1 << bit) - 1) == 0))  # a label counts once a corner
        found.append(corners[first])
        values.append(own[first])
        codes.append(code[first])
    order, start = _by_label(np.concatenate(values), count)
    areas_mm2 = surfel_areas_mm2(spacing_mm)[np.concatenate(codes)[order]]
    return Surface(places=_places(np.concatenate(found)[order], padded.shape), start=start, areas_mm2=areas_mm2)


@lru_cache(maxsize=64)
def surfel_areas_mm2(spacing_mm: Spacing) -> NDArray[np.float64]:
    """The area of a surfel by its neighbour code (256,), for voxels of `spacing_mm`."""
    faces = np.prod(spacing_mm) / np.array(spacing_mm)
    areas = np.zeros(256)
    for code, normals in TRIANGLES.items():
        corners = np.array([code >> bit & 1 for bit in range(8)]).reshape(2, 2, 2)
        for axes in permutations(range(3)):
            area = np.linalg.norm(np.array(normals)[:, axes] * faces, axis=1).sum() / 8
            for ends in product((1, -1), repeat=3):
                turned = corners.transpose(axes)[:: ends[0], :: ends[1], :: ends[2]]
                image = int((turned.ravel() << np.arange(8)).sum())
                areas[[image, 255 - image]] = area
    areas.flags.writeable = False  # it is handed out again for the next case of this spacing
    return areas


def _mixed_corners(flat: Compact, shape: tuple[int, ...]) -> Places:
    """Flat indices of the first of the eight voxels around each corner whose voxels are not all alike."""
    lowest, highest = flat, flat
    for step in _steps(shape):
        lowest = np.minimum(lowest[:-step], lowest[step:])
        highest = np.maximum(highest[:-step], highest[step:])
    return np.flatnonzero(lowest != highest)


def _steps(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """How far apart neighbours along x, y and z are in a flat array."""
    return shape[1] * shape[2], shape[2], 1


def _by_label(values: Compact, count: int) -> tuple[Places, NDArray[np.int64]]:
    """The order that sorts by label index, and where each of the indices 0 … `count` starts in it, and ends."""
    start = np.concatenate(([0], np.cumsum(np.bincount(values, minlength=count + 1))))
    return np.argsort(values, kind="stable"), start


def _places(found: Places, shape: tuple[int, ...]) -> Places:
    """Indices (N, 3) in an array of `shape` from flat indices (N,)."""
    return np.array(np.unravel_index(found, shape)).T
