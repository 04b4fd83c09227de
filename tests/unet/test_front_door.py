"""What `from unet import …` gives, though nothing is imported before it is asked for."""

import pytest

import unet


@pytest.mark.parametrize("name", unet.__all__)
def test_every_name_is_a_class_or_function_of_one_of_its_modules(name):
    found = getattr(unet, name)
    assert callable(found)
    assert (found.__name__, found.__module__.split(".")[0]) == (name, "unet")


def test_what_it_does_not_have_is_named():
    with pytest.raises(AttributeError, match="module 'unet' has no attribute 'Unet'"):
        _ = unet.Unet
