from importlib.util import find_spec

import numpy as np
import pytest

from tasks.demo.fields import draw_deformation
from tasks.demo.person import dice
from tasks.demo.scanner import Protocol, extent_mm, label_tissue, place_grid, see
from tasks.demo.template import AIR, Template, crop, load_template
from tasks.scan.errors import DemoUnavailable

needs_nilearn = pytest.mark.skipif(find_spec("nilearn") is None, reason="nilearn, which ships it, is not installed")


def test_without_the_package_the_message_says_what_to_install():
    with pytest.raises(DemoUnavailable, match=r"pip install 'segment-cohort\[demo\]'"):
        load_template("no_such_package")


def test_a_package_without_the_files_is_named():
    with pytest.raises(DemoUnavailable, match="'numpy' has lost its brain template"):
        load_template("numpy")


def test_cropping_leaves_each_voxel_at_its_place():
    maps = np.zeros((20, 21, 22), np.uint8)
    maps[5:7, 6, 8] = 9
    cropped = crop(Template(t1=maps, grey=maps, white=maps, affine=np.diag([2.0, 2, 2, 1])))
    assert cropped.t1.shape == (2 + 2 * AIR, 1 + 2 * AIR, 1 + 2 * AIR)
    assert cropped.t1[AIR : AIR + 2, AIR, AIR].tolist() == [9, 9]
    assert (cropped.affine @ [AIR, AIR, AIR, 1]).tolist() == [10, 12, 16, 1]


@needs_nilearn
def test_the_undeformed_template_overlaps_a_person_by_about_six_tenths():
    template, random = load_template(), np.random.default_rng(0)
    geometry = place_grid(template, Protocol(axes="LPS", spacing_mm=(4, 4, 4)), random)
    deformation = draw_deformation(extent_mm(geometry), random)
    tissues = (template.grey, template.white)
    person, average = (label_tissue(*see(tissues, template.affine, geometry, one)) for one in (deformation, None))
    assert 0.8 < (average == 1).sum() * 0.064 / 1080 < 1.2  # millilitres of grey matter
    assert 0.8 < (average == 2).sum() * 0.064 / 620 < 1.2
    assert 0.5 < dice(person == 1, average == 1) < 0.75
    assert 0.5 < dice(person == 2, average == 2) < 0.75
