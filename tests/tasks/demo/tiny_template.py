"""A head so small that a cohort takes seconds: a white ball in a grey one, with a bump that tells its sides apart."""

import numpy as np

from tasks.demo.template import Template, crop
from tests.phantoms import sphere

SHAPE = (40, 44, 36)


def tiny_template() -> Template:
    """Template of 1 mm voxels, its middle near 0 mm. Grey matter reaches furthest to the right, at the top."""
    white = sphere(SHAPE, (19, 21, 17), 8)
    head = sphere(SHAPE, (19, 21, 17), 14) | sphere(SHAPE, (30, 24, 26), 5)
    grey = head - white
    affine = np.eye(4)
    affine[:3, 3] = -20
    return crop(Template(t1=120 * grey + 200 * white, grey=255 * grey, white=255 * white, affine=affine))
