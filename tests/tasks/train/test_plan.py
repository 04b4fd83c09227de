"""The rules of the plan, computed by hand."""

import numpy as np
import pytest
import torch

from tasks.scan.records import Case, Geometry, Source
from tasks.train.config import PlanConfig
from tasks.train.fingerprint import Fingerprint
from tasks.train.plan import fit_patch, intensity_window, make_plan, target_spacing_mm, topology

CPU = torch.device("cpu")


def fingerprint(spacing_mm=(1.0, 1.0, 1.0), shape=(64, 64, 64), samples=(1.0, 2.0), *, quantitative=False):
    identity = tuple(tuple(row) for row in np.eye(4).tolist())
    case = Case(name="C", image=Source(format="nifti", files=("x",)), geometry=Geometry(shape=shape, affine=identity))
    return Fingerprint(
        case=case,
        spacing_mm=spacing_mm,
        shape=shape,
        samples=(samples,),
        labels=(1,),
        volumes_ml={1: 1.0},
        components={1: 1},
        orderings=(),
        quantitative=(quantitative,),
    )


def target(*cases):
    prints = [fingerprint(spacing_mm, shape) for spacing_mm, shape in cases]
    return target_spacing_mm([one.spacing_mm for one in prints], prints)


def test_the_target_spacing_is_the_median_of_each_axis():
    cases = [((1.0, 1.0, length), (64, 64, 64)) for length in (1.0, 2.0, 2.5)]
    assert target(*cases) == (1.0, 1.0, 2.0)


def test_a_very_coarse_axis_with_few_voxels_takes_the_tenth_percentile():
    cases = [((10.0, 1.5, 1.5), (20, 320, 320)), ((10.0, 1.5, 1.5), (20, 320, 320)), ((5.0, 1.5, 1.5), (40, 320, 320))]
    assert target(*cases) == (6.0, 1.5, 1.5)


def test_the_tenth_percentile_is_never_finer_than_the_next_axis():
    cases = [((10.0, 1.5, 1.5), (20, 320, 320))] * 5 + [((0.5, 1.5, 1.5), (400, 320, 320))] * 2
    assert target(*cases) == (1.5, 1.5, 1.5)


def test_a_coarse_axis_with_many_voxels_keeps_the_median():
    cases = [
        ((10.0, 1.5, 1.5), (200, 320, 320)),
        ((10.0, 1.5, 1.5), (200, 320, 320)),
        ((5.0, 1.5, 1.5), (200, 320, 320)),
    ]
    assert target(*cases) == (10.0, 1.5, 1.5)


def test_isotropic_axes_are_pooled_while_they_have_eight_voxels():
    poolings, kernels = topology((40, 56, 40), (1.0, 1.0, 1.0))
    assert poolings == ((2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert kernels == ((3, 3, 3),) * 4


def test_thick_slices_are_pooled_when_the_others_have_caught_up():
    poolings, kernels = topology((256, 256, 16), (1.0, 1.0, 4.0))
    assert poolings[:3] == ((2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert kernels[:3] == ((3, 3, 1), (3, 3, 1), (3, 3, 3))


def test_a_patch_that_fits_is_the_median_rounded_up_to_the_poolings():
    assert fit_patch((35, 50, 36), (1.0, 1.0, 1.0), 200_000) == (40, 56, 40)


def test_a_patch_that_does_not_fit_shrinks_along_its_longest_axis():
    patch = fit_patch((512, 512, 128), (1.0, 1.0, 1.0), 1_000_000)
    assert np.prod(patch) <= 1_000_000
    assert patch[0] == pytest.approx(patch[1], rel=0.2)
    assert 2 <= patch[0] / patch[2] <= 6


def test_quantitative_images_share_a_window():
    window = intensity_window([fingerprint(samples=tuple(range(101)), quantitative=True)])
    assert (window.lower, window.upper, window.mean) == (0.5, 99.5, 50.0)
    assert window.sd == pytest.approx(29.1548, abs=1e-4)


def test_other_images_have_no_window():
    assert intensity_window([fingerprint(), fingerprint(quantitative=True)]) is None


def test_what_is_set_by_hand_wins():
    config = PlanConfig(spacing_mm=(2.0, 2.0, 2.0), patch=(32, 32, 16), batch_size=3, maps=8)
    plan = make_plan([fingerprint()], 3, config, CPU)
    assert (plan.spacing_mm, plan.patch, plan.batch_size) == ((2.0, 2.0, 2.0), (32, 32, 16), 3)
    assert plan.network.features[0] == 8
    assert plan.network.out_channels == 3


def test_the_hippocampus_gets_the_network_that_is_known_to_learn_it():
    prints = [fingerprint(shape=shape) for shape in [(34, 47, 40), (35, 50, 36), (36, 52, 34)]]
    plan = make_plan(prints, 3, PlanConfig(), CPU)
    assert plan.patch == (40, 56, 40)
    assert plan.network.features == (16, 32, 64, 128)
    assert plan.batch_size == 4
