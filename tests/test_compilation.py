"""Programs compiled in half the time: where the choice is ours, and only there."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxem.runtime import compilation


@pytest.fixture
def fresh_options():
    compilation._quick_options.cache_clear()
    yield
    compilation._quick_options.cache_clear()


@pytest.fixture
def compiled(monkeypatch):
    """The options of every `jax.jit` made by `compilation.jit`, None for one without."""
    seen, jit = [], jax.jit

    def spy(function, **options):
        seen.append(options.get("compiler_options"))
        return jit(function, **options)

    monkeypatch.setattr(compilation, "_quick_options", lambda is_small: QUICK)
    monkeypatch.setattr(compilation.jax, "jit", spy)
    return seen


QUICK = {"xla_backend_optimization_level": 1}  # every version of XLA knows it


def double(x, times=1):
    return 2.0 * times * x


def test_a_program_of_its_own_is_compiled_with_them(compiled):
    quick = compilation.jit(double, static_argnames=("times",))
    assert compiled == [None]
    assert quick(np.float32(3), times=2) == 12
    assert quick(np.float32(4), times=2) == 16
    assert compiled == [None, QUICK]


def test_a_part_of_another_program_is_compiled_as_that_is(compiled):
    quick = compilation.jit(double)
    constant = np.float32(3)
    assert jax.jit(lambda x: quick(x) + 1)(constant) == 7
    assert jax.jit(lambda x: x + quick(constant))(constant) == 9  # even where it is handed nothing but constants
    assert jax.vmap(quick)(jnp.ones(2)).tolist() == [2, 2]
    assert jax.grad(quick)(1.0) == 2
    assert QUICK not in compiled


@pytest.mark.usefixtures("fresh_options")
def test_what_the_user_chose_is_left_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
    assert compilation._quick_options(is_small=False) == compilation._quick_options(is_small=True) == {}


@pytest.mark.usefixtures("fresh_options")
def test_options_that_xla_does_not_know_are_left_out(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setitem(compilation.QUICK, "xla_no_such_option", True)
    assert "xla_no_such_option" not in compilation._quick_options(is_small=False)
    assert compilation._quick_options(is_small=True)["xla_backend_optimization_level"] == 0
    assert compilation.jit(double)(np.float32(3)) == 6


def test_this_version_of_xla_knows_them():
    """From jax 0.12 on there are no other emitters to choose from, and one option is left."""
    code = "from jaxem.runtime import compilation; print(*compilation._quick_options(False))"
    alone = {"PATH": "", "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run([sys.executable, "-c", code], env=alone, capture_output=True, text=True, check=True)
    emitters = ["xla_cpu_use_fusion_emitters"] if jax.version.__version_info__ < (0, 11) else []
    assert set(ended.stdout.split()) >= {*emitters, "xla_backend_optimization_level"}
