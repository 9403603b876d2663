"""The public functions against enumeration, in both precisions, over awkward shapes."""

import jax
import numpy as np
import pytest
from conftest import close
from problems import CASES, cast, random_problem, random_probs

import jaxem
from jaxem.assess import reference as oracle

cases = pytest.mark.parametrize(("stack_shape", "template_shape", "dtype"), CASES, indirect=["dtype"])


@cases
def test_e_step_elbo_and_log_likelihood(stack_shape, template_shape, dtype):
    rng = np.random.default_rng(4)
    images, params = random_problem(rng, stack_shape, template_shape)
    probs = random_probs(rng, len(images), params.prior.shape)
    corners = rng.integers(0, params.prior.shape, size=(len(images), 2)).astype("int32")

    @jax.jit  # together, since compiling is what takes the time
    def everything(x, theta, probs, corners):
        return (
            jaxem.e_step(x, theta),
            jaxem.e_step(x, theta, hard=True),
            jaxem.log_likelihood(x, theta),
            jaxem.elbo(x, theta, jaxem.Posterior(probs)),
            jaxem.elbo(x, theta, jaxem.Positions(corners)),
        )

    soft, hard, evidence, soft_bound, hard_bound = everything(
        images.astype(dtype), cast(params, dtype), probs.astype(dtype), corners
    )
    expected = oracle.log_likelihood(images, params)
    close(soft.probs, oracle.posterior(images, params), dtype)
    close(soft.log_evidence, expected, dtype)
    close(evidence, expected, dtype)
    assert hard.corners.dtype == np.int32
    np.testing.assert_array_equal(hard.corners, oracle.best_corners(images, params))
    close(hard.log_joint, oracle.log_joint(images, params).max(axis=(1, 2)), dtype)
    close(soft_bound, oracle.elbo(images, params, probs), dtype)
    close(hard_bound, oracle.elbo(images, params, oracle.one_hot(corners, params.prior.shape)), dtype)


@cases
def test_m_step(stack_shape, template_shape, dtype):
    rng = np.random.default_rng(6)
    images, params = random_problem(rng, stack_shape, template_shape)
    shape = params.prior.shape
    probs = random_probs(rng, len(images), shape)
    corners = rng.integers(0, shape, size=(len(images), 2)).astype("int32")

    @jax.jit
    def both(x, probs, corners, prior_smoothing):
        return [
            jaxem.m_step(x, posterior, template_shape, prior_smoothing=prior_smoothing)
            for posterior in (jaxem.Posterior(probs), jaxem.Positions(corners))
        ]

    for prior_smoothing in (0.0, 2.5):
        found = both(images.astype(dtype), probs.astype(dtype), corners, prior_smoothing)
        for one, weights in zip(found, (probs, oracle.one_hot(corners, shape)), strict=True):
            expected = oracle.m_step(images, weights, params, prior_smoothing)
            close(one.template, expected.template, dtype)
            close(one.background, expected.background, dtype)
            close(one.noise_scale**2, expected.variance[0], dtype)
            close(one.prior, expected.prior, dtype)


@pytest.mark.parametrize("prior_smoothing", [0.0, 3.0])
@pytest.mark.parametrize("hard", [False, True])
def test_three_iterations_of_fit_are_three_enumerated_ones(hard, prior_smoothing, dtype):
    images, params = random_problem(np.random.default_rng(7), (11, 6, 7), (3, 2))
    options = {"hard": hard, "prior_smoothing": prior_smoothing, "tolerance": -np.inf, "batch_size": 4}
    found = jaxem.fit(images.astype(dtype), cast(params, dtype), max_iterations=3, **options)

    history = []
    for step in range(4):
        joint = oracle.log_joint(images, params)
        objective = joint.max(axis=(1, 2)).sum() if hard else oracle.log_likelihood(images, params).sum()
        if prior_smoothing:
            objective += prior_smoothing * np.log(params.prior).mean()
        history.append(objective)
        if step == 3:
            break
        corners = oracle.best_corners(images, params)
        probs = oracle.one_hot(corners, params.prior.shape) if hard else oracle.posterior(images, params)
        found_next = oracle.m_step(images, probs, params, prior_smoothing)
        params = jaxem.Params(
            found_next.template, found_next.background, np.sqrt(found_next.variance[0]), found_next.prior
        )
    close(found.history, history, dtype)
    close(found.elbo, history[-1], dtype)
    for actual, expected in zip(found.params[:4], params[:4], strict=True):
        close(actual, expected, dtype)


def test_integers_and_half_precision_are_promoted_once_at_the_door():
    images, params = random_problem(np.random.default_rng(8), (3, 5, 8), (2, 3))
    wide = np.clip(40 * images, 0, 255).round()
    theta = params._replace(template=40 * params.template, background=40 * params.background, noise_scale=24.0)
    default = np.dtype("float64" if jax.config.jax_enable_x64 else "float32")
    for given, becomes in [("uint8", default), ("int16", default), ("float16", np.dtype("float32"))]:
        evidence = jaxem.log_likelihood(wide.astype(given), theta)
        close(evidence, oracle.log_likelihood(wide, theta), becomes)
