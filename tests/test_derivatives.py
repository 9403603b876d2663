"""Fits have derivatives in forward mode, and say what to do instead of reverse mode."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import random_problem

import jaxem

IMAGES, START = random_problem(np.random.default_rng(41), (5, 6, 7), (2, 3))
DIRECTION = np.random.default_rng(42).normal(size=IMAGES.shape)
EXACTLY = {"max_iterations": 3, "tolerance": -np.inf}

RUNS = {
    "fit": lambda images: jaxem.fit(images, START, **EXACTLY),
    "hard": lambda images: jaxem.fit(images, START, hard=True, **EXACTLY),
    "scheduled": lambda images: jaxem.fit(images, START, schedule=jaxem.annealing(2, prior_steps=1), **EXACTLY),
    "restarts": lambda images: (
        jaxem.fit_restarts(jax.random.key(0), images, (2, 3), search=None, num_restarts=2, **EXACTLY).best
    ),
}


def numbers(found):
    return jnp.stack([found.elbo, jnp.sum(found.params.template), found.params.noise_scale, found.entropy])


@pytest.mark.parametrize("name", RUNS)
def test_forward_mode_goes_through_all_iterations(name):
    if not jax.config.jax_enable_x64:
        pytest.skip("differences need float64")

    @jax.jit
    def along(step):
        return numbers(RUNS[name](IMAGES + step * DIRECTION))

    step = 1e-6
    expected = (along(step) - along(-step)) / (2 * step)
    _, tangent = jax.jvp(along, (0.0,), (1.0,))
    np.testing.assert_allclose(tangent, expected, rtol=1e-4, atol=1e-7)
    assert np.abs(tangent[:3]).min() > 1e-3


def scaled(scale):
    return numbers(jaxem.fit(IMAGES, START._replace(noise_scale=scale), **EXACTLY))[0]


def test_jacobians_and_maps_are_forward_mode_too():
    expected = jax.jvp(scaled, (0.6,), (1.0,))[1]
    np.testing.assert_allclose(jax.jacfwd(scaled)(0.6), expected, rtol=1e-6)
    scales = jnp.array([0.6, 0.9])
    _, tangents = jax.jvp(jax.vmap(scaled), (scales,), (jnp.ones_like(scales),))
    np.testing.assert_allclose(tangents[0], expected, rtol=1e-4)


SENTENCE = r"^jaxem.{} has no derivative in reverse mode .*jaxem.log_likelihood or jaxem.elbo.*jax.jvp, jax.jacfwd"


@pytest.mark.parametrize("backwards", [jax.grad, jax.jacrev, lambda function: jax.grad(jax.jit(function))])
def test_reverse_mode_says_what_to_do_instead(backwards):
    with pytest.raises(TypeError, match=SENTENCE.format("fit")) as caught:
        backwards(scaled)(0.6)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_so_does_that_of_a_search_and_of_many_fits():
    with pytest.raises(TypeError, match=SENTENCE.format("fit_restarts")):
        jax.grad(lambda shift: RUNS["restarts"](IMAGES + shift).elbo)(0.0)
    with pytest.raises(TypeError, match=SENTENCE.format("fit")):
        jax.grad(lambda scales: jnp.sum(jax.vmap(scaled)(scales)))(jnp.array([0.6, 0.9]))


def test_what_is_said_instead_works():
    def likelihood(shift):
        found = jax.lax.stop_gradient(jaxem.fit(IMAGES, START, **EXACTLY).params)
        return jnp.sum(jaxem.log_likelihood(IMAGES + shift, found))

    assert np.isfinite(jax.grad(likelihood)(0.0))
