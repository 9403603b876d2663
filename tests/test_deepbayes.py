"""A worked example published by others: the practical session on EM of the Deep|Bayes summer school 2018.

``day1_em/task_em.ipynb`` of https://github.com/bayesgroup/deepbayes-2018 poses this model for a template as high as the
image and asks the reader to fill in the functions; it states the numbers a right implementation gives, and checks
them with ``np.allclose``. The inputs and the expected numbers below are the notebook's; only the order of the axes
differs, images last there and first here.
"""

import numpy as np
import pytest

import jaxem

IMAGES = np.moveaxis(np.arange(12).reshape(2, 3, 2), -1, 0)
PARAMS = jaxem.Params(np.arange(2).reshape(2, 1), np.arange(6).reshape(2, 3), 0.1, np.array([[1, 2, 3]]) / 6)
PROBS = np.arange(1, 7).reshape(3, 2)
PROBS = (PROBS / PROBS.sum(axis=0)).T[:, None]


@pytest.fixture
def images(dtype):
    return IMAGES.astype(dtype)


def test_log_probability(images):
    expected = [
        [-3541.69812064, -5541.69812064],
        [-4541.69812064, -6741.69812064],
        [-6141.69812064, -8541.69812064],
    ]
    for column in range(3):
        certain = PARAMS._replace(prior=np.eye(3)[column][None])
        assert np.allclose(jaxem.log_likelihood(images, certain), expected[column])


def test_lower_bound(images):
    assert np.allclose(jaxem.elbo(images, PARAMS, jaxem.Posterior(PROBS)), -12761.1875)


def test_e_step(images):
    expected = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    assert np.allclose(jaxem.e_step(images, PARAMS).probs[:, 0], expected.T)
    assert (jaxem.e_step(images, PARAMS, hard=True).corners == 0).all()


def test_m_step(images):
    found = jaxem.m_step(images, jaxem.Posterior(PROBS), (2, 1))
    assert np.allclose(found.template, [[3.27777778], [9.27777778]])
    assert np.allclose(found.background, [[0.48387097, 2.5, 4.52941176], [6.48387097, 8.5, 10.52941176]])
    assert np.allclose(found.noise_scale, 0.94868)
    assert np.allclose(found.prior, [[0.13888889, 0.33333333, 0.52777778]])


def test_the_bound_rises(dtype):
    """The notebook's last check: three iterations from a random start, each of which must gain."""
    images = IMAGES.astype(dtype)
    rng = np.random.default_rng(1)
    start = jaxem.Params(
        rng.integers(0, 255, (2, 1)), rng.integers(0, 255, (2, 3)), 64.0**2 * rng.random(), np.ones((1, 3)) / 3
    )
    history = jaxem.fit(images, start, max_iterations=3, tolerance=-np.inf).history
    assert (np.diff(history) > 0).all()
