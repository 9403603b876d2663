"""Restarts on several cores are the library's restarts, and what is said of them is true."""

import jax
import numpy as np
import oracle
import pytest
from problems import random_params, sample

import jaxem
from jaxem import report, runner


@pytest.fixture
def problem():
    rng = np.random.default_rng(61)
    truth = random_params(rng, (10, 12), (3, 4), noise_scale=0.4)
    images, _ = sample(rng, truth, 30)
    return images.astype("float32"), truth


def test_the_runs_are_those_of_fit_restarts_in_their_order(problem):
    images, _ = problem
    ended, key, options = [], jax.random.key(5), {"num_restarts": 4, "max_iterations": 4}
    found = jaxem.fit_restarts_parallel(
        key, images, (3, 4), **options, num_threads=3, report=lambda number, fit: ended.append(number)
    )
    expected = jaxem.fit_restarts(key, images, (3, 4), **options)
    assert sorted(ended) == [0, 1, 2, 3]
    np.testing.assert_allclose(found.runs.elbo, expected.runs.elbo, rtol=1e-4)
    np.testing.assert_allclose(found.best.elbo, expected.best.elbo, rtol=1e-4)
    assert len(set(np.round(found.runs.elbo, 2))) > 1


def test_locating_in_batches(problem, monkeypatch):
    images, params = problem
    params = jax.tree.map(lambda leaf: np.asarray(leaf, "float32"), params)
    whole = runner.locate(images, params)
    np.testing.assert_array_equal(whole, jaxem.e_step(images, params, hard=True).corners)
    monkeypatch.setattr(runner, "LOCATE_PIXELS", 7 * 120)
    np.testing.assert_array_equal(runner.locate(images, params), whole)


@pytest.mark.parametrize("prior_smoothing", [0.0, 9.0])
def test_what_was_seen_of_the_background(problem, prior_smoothing):
    images, _ = problem
    corners = np.random.default_rng(62).integers(0, [2, 9], size=(30, 2))
    params = jaxem.m_step(images, jaxem.Positions(corners), (3, 4), prior_smoothing=prior_smoothing)
    seen = np.full((10, 12), 30.0)
    for corner in corners:
        seen[oracle.window(corner, (3, 4))] -= 1
    np.testing.assert_allclose(report.visible(params, 30, prior_smoothing), seen, atol=1e-3)
