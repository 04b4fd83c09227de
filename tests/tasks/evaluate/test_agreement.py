"""Every metric against other people's code: on real anatomy, and on masks as odd as they come."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

from tasks.demo.template import load_template
from tasks.evaluate.metrics import measure
from tasks.evaluate.surfaces import surfel_areas_mm2, surfels
from tasks.scan.geometry import as_affine, canonical_spacing_mm
from tasks.scan.records import Geometry
from tests.phantoms import oblique_affine
from tests.tasks.evaluate import peers

HIPPOCAMPUS = Path(__file__).parents[3] / "../shared/data/hippocampus/labelsTr"
SPACINGS = [(1.0, 1.0, 1.0), (0.7, 1.3, 4.0), (0.9765625, 0.9765625, 5.0), (0.4, 0.4, 6.5)]
OBLIQUE = canonical_spacing_mm(Geometry(shape=(9, 9, 9), affine=as_affine(oblique_affine((0.7, 1.4, 2.1), 27))))
SHAPE = (12, 10, 8)


def check_agreement(reference: np.ndarray, prediction: np.ndarray, spacing_mm, tolerance_mm: float) -> None:
    """Every label that both maps hold is measured as the peers measure it."""
    values = sorted(set(np.unique(reference)) & set(np.unique(prediction)) - {0})
    assert values
    measured = measure(reference, prediction, spacing_mm, dict.fromkeys(values, tolerance_mm))
    areas = [surfels(labels, max(values), spacing_mm) for labels in (reference, prediction)]
    for value in values:
        ours, masks = measured[value], (reference == value, prediction == value)
        nsd, *areas_mm2 = peers.deepmind(*masks, spacing_mm, tolerance_mm)
        assert (ours.overlap.dice, ours.overlap.jaccard) == pytest.approx(peers.itk_overlap(*masks), abs=1e-12)
        assert ours.surface.hd95_mm == pytest.approx(peers.monai_hd95_mm(*masks, spacing_mm), abs=1e-9)
        assert ours.surface.nsd == pytest.approx(nsd, abs=1e-9)
        assert [one.areas_of(value).sum() for one in areas] == pytest.approx(areas_mm2, rel=1e-9)
        components = ours.components_reference, ours.components_prediction
        assert components == tuple(peers.count_components(mask) for mask in masks)


def bent(labels: np.ndarray, voxels: float, seed: int) -> np.ndarray:
    """`labels` with every place moved smoothly by about that many voxels, and a few specks that do not belong there."""
    random = np.random.default_rng(seed)
    moves = [ndimage.gaussian_filter(random.normal(size=labels.shape), 4) for _ in range(3)]
    places = np.indices(labels.shape) + np.array([voxels * move / move.std() for move in moves])
    moved = ndimage.map_coordinates(labels, places, order=0)
    moved[random.random(labels.shape) < 1e-4] = labels.max()
    return moved


@pytest.mark.parametrize("spacing_mm", [*SPACINGS, OBLIQUE])
def test_grey_and_white_matter_agree_with_the_peers(spacing_mm):
    brain = load_template()
    labels = np.where(brain.grey > 127, 1, np.where(brain.white > 127, 2, 0)).astype(np.uint16)[::3, ::3, ::3]
    check_agreement(labels, bent(labels, 1.5, seed=1), spacing_mm, tolerance_mm=1.4)


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="the hippocampus data set is not beside this repository")
@pytest.mark.parametrize("number", range(12))
def test_the_hippocampus_agrees_with_the_peers(number):
    path = sorted(HIPPOCAMPUS.glob("*.nii.gz"))[number * 16]
    labels = np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj).astype(np.uint16)
    spacing_mm = [*SPACINGS, OBLIQUE][number % 5]
    check_agreement(labels, bent(labels, 0.5 + number / 2, seed=number), spacing_mm, tolerance_mm=0.7 + number % 5)


def odd(name: str) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint16)
    places = {
        "one voxel": (5, 4, 3),
        "a corner of the array": (0, 0, 0),
        "a far corner": (-1, -1, -1),
        "a side of the array": (slice(None), slice(None), slice(0, 2)),
        "a block": (slice(3, 8), slice(2, 7), slice(2, 6)),
        "everything": slice(None),
    }
    mask[places[name]] = 1
    return mask


ODD = ("one voxel", "a corner of the array", "a far corner", "a side of the array", "a block", "everything")


@pytest.mark.parametrize("spacing_mm", [*SPACINGS, OBLIQUE])
@pytest.mark.parametrize("prediction", ODD)
@pytest.mark.parametrize("reference", ODD)
def test_odd_masks_agree_with_the_peers(reference, prediction, spacing_mm):
    check_agreement(odd(reference), odd(prediction), spacing_mm, tolerance_mm=2.1)


@pytest.mark.parametrize("tolerance_mm", [0.01, 0.7, 2.1, 2.8, 30.0])
def test_distances_equal_to_the_tolerance_count_as_the_peers_count_them(tolerance_mm):
    block = odd("a block")
    check_agreement(block, np.roll(block, (3, -1, 1), (0, 1, 2)), (0.7, 0.7, 0.7), tolerance_mm)


def test_noise_has_every_neighbourhood_and_agrees_with_the_peers():
    random = np.random.default_rng(3)
    first, second = random.integers(0, 4, (2, *SHAPE)).astype(np.uint16)
    check_agreement(first, second, (0.7, 1.3, 4.0), tolerance_mm=0.5)


@pytest.mark.parametrize("spacing_mm", [*SPACINGS, OBLIQUE])
def test_the_areas_of_surfels_are_deepminds(spacing_mm):
    theirs = create_table_neighbour_code_to_surface_area(spacing_mm)
    assert surfel_areas_mm2(spacing_mm) == pytest.approx(theirs, rel=1e-12)
