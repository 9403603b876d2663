"""Gradient ascent and EM end at the same maximum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import cast, random_problem

import jaxem
from jaxem import gradient


@pytest.fixture(autouse=True)
def standard_promotion():
    """Optax's line search mixes integers of two sizes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def problem(dtype=np.float64):
    images, params = random_problem(np.random.default_rng(70), (20, 8, 9), (3, 4))
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return images.astype(dtype), cast(params, dtype)


@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="float64 is switched off")
def test_lbfgs_ends_where_em_ends():
    images, params = problem()
    by_em = jaxem.fit(images, params, prior_smoothing=3.0, max_iterations=3000, tolerance=1e-12)
    optimizer = optax.lbfgs()
    found = gradient.fit(images, params, optimizer, prior_smoothing=3.0, max_iterations=2000, tolerance=1e-12)
    np.testing.assert_allclose(found.history[0], by_em.history[0], rtol=1e-12)
    np.testing.assert_allclose(found.elbo, by_em.elbo, rtol=1e-6)
    np.testing.assert_allclose(found.params.template, by_em.params.template, atol=1e-2)
    assert found.history[found.num_iterations] == found.elbo
    assert jaxem.Status(int(found.status)) == jaxem.Status.CONVERGED


@pytest.mark.slow
def test_adam_by_minibatches_climbs_and_reports_all_images():
    images, params = problem(np.float32)
    optimizer = optax.adam(0.01)
    found = gradient.fit(images, params, optimizer, key=jax.random.key(0), minibatch_size=6, max_iterations=30)
    assert found.elbo > found.history[0] + 5
    np.testing.assert_allclose(found.elbo, jaxem.log_likelihood(images, found.params).sum(), rtol=1e-5)
    np.testing.assert_allclose(found.params.prior.sum(), 1, rtol=1e-5)


@pytest.mark.slow
def test_a_penalty_pulls():
    images, params = problem(np.float32)
    optimizer = optax.adam(0.05)

    def flat(params):
        return 1e4 * jnp.sum((params.template - 1) ** 2)

    found = gradient.fit(images, params, optimizer, penalty=flat, max_iterations=300)
    assert np.abs(found.params.template - 1).max() < 0.1
    expected = jaxem.log_likelihood(images, found.params).sum() - flat(found.params)
    np.testing.assert_allclose(found.elbo, expected, rtol=1e-4)


def test_bad_pixels_and_bad_arguments():
    images, params = problem(np.float32)
    images[1, 2, 3] = np.nan
    optimizer = optax.sgd(0.1)
    found = jax.jit(lambda images: gradient.fit(images, params, optimizer, max_iterations=2))(images)
    assert jaxem.Status(int(found.status)) == jaxem.Status.NONFINITE
    np.testing.assert_array_equal(found.params.template, params.template)
    with pytest.raises(ValueError, match="NaN or infinity in 1 pixel"):
        gradient.fit(images, params, optimizer)
    images[1, 2, 3] = 0
    with pytest.raises(TypeError, match="optimizer must be"):
        gradient.fit(images, params, 0.1)
    with pytest.raises(ValueError, match="key is needed"):
        gradient.fit(images, params, optimizer, minibatch_size=5)
    with pytest.raises(ValueError, match="minibatch_size"):
        gradient.fit(images, params, optimizer, key=jax.random.key(0), minibatch_size=50)
