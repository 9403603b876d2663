"""The noise check: sure where there is a template, and fair where there is none."""

import jax
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem.assess.significance import log_likelihood_without_template

QUICK = {"search": jaxem.Search(annealing_steps=3, num_recentrings=0, prior_annealing_steps=0), "max_iterations": 3}


def test_the_likelihood_without_a_template(dtype):
    rng = np.random.default_rng(81)
    images = rng.normal(size=(5, 6, 7)).astype(dtype)
    residuals = images - images.mean(axis=0)
    variance = residuals.var()
    expected = (-0.5 * np.log(2 * np.pi * variance) - residuals**2 / (2 * variance)).sum()
    np.testing.assert_allclose(log_likelihood_without_template(images), expected, rtol=1e-5)


def test_a_template_is_told_from_noise():
    rng = np.random.default_rng(82)
    truth = random_params(rng, (10, 12), (4, 5), noise_scale=0.5)._replace(prior=np.full((7, 8), 1 / 56))
    planted = sample(rng, truth, 60)[0].astype(np.float32)
    alone = (truth.background + 0.5 * rng.normal(size=planted.shape)).astype(np.float32)
    check = jaxem.noise_check(jax.random.key(0), planted, (4, 5), **QUICK)
    np.testing.assert_allclose(check.p_value, 1 / 20, rtol=1e-6)
    assert check.gain > check.noise_gains.max() + 100
    assert check.noise_gains.shape == (19,)
    check = jaxem.noise_check(jax.random.key(0), alone, (4, 5), **QUICK)
    assert check.p_value > 0.1
    np.testing.assert_allclose(check.p_value, (1 + (check.noise_gains >= check.gain).sum()) / 20, rtol=1e-6)


def test_a_fit_that_fails_proves_nothing():
    images = np.random.default_rng(83).normal(size=(6, 10, 12)).astype(np.float32)
    images[2, 3, 4] = np.nan
    assert jaxem.noise_check(jax.random.key(0), images, (4, 5), num_refits=3, **QUICK).p_value == 1


def test_what_cannot_be_checked_is_refused():
    images = np.zeros((4, 10, 12), np.float32)
    with pytest.raises(ValueError, match="two at least"):
        jaxem.noise_check(jax.random.key(0), images[:1], (4, 5))
    with pytest.raises(ValueError, match="num_refits must be at least 1"):
        jaxem.noise_check(jax.random.key(0), images, (4, 5), num_refits=0)
    with pytest.raises(TypeError, match="search must be"):
        jaxem.noise_check(jax.random.key(0), images, (4, 5), search=True)
