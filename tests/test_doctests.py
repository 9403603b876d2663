"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import jax
import pytest

import jaxem

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(jaxem.__path__, "jaxem.")
    if not module.ispkg and module.name != "jaxem.__main__"
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    promotion = "standard" if name.endswith("gradient") else "strict"  # optax adds int32 to int64
    with jax.numpy_dtype_promotion(promotion):
        failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_every_public_function_has_an_example():
    for name in jaxem.__all__:
        function = getattr(jaxem, name)
        if callable(function) and not isinstance(function, type):
            assert ">>> " in function.__doc__, name
            for part in ("Args:", "Returns:", "Raises:", "Source:"):
                assert part in function.__doc__, (name, part)
