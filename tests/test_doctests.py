"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import jax
import pytest

import jaxem

MODULES = sorted(module.name for module in pkgutil.iter_modules(jaxem.__path__) if module.name != "__main__")


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    promotion = "standard" if name == "gradient" else "strict"  # optax adds int32 to int64
    with jax.numpy_dtype_promotion(promotion):
        failed, _ = doctest.testmod(importlib.import_module(f"jaxem.{name}"))
    assert failed == 0


def test_every_public_function_has_an_example():
    for name in jaxem.__all__:
        function = getattr(jaxem, name)
        if not isinstance(function, type):
            assert ">>> " in function.__doc__, name
            for part in ("Args:", "Returns:", "Raises:", "Source:"):
                assert part in function.__doc__, (name, part)
