"""Frames of one pixel are samples of a Gaussian mixture: the same fits by plain NumPy and by scikit-learn.

Templates are the components' means, the prior their weights, and the noise the standard deviation that all share. Where
a frame may show no template, the background is one component more. Channels are features, each with a variance of its
own or all with one. Hard EM with a fixed prior is Lloyd's algorithm, k-means.
"""

import jax
import numpy as np
import pytest

import jaxem

NUM_SAMPLES, TOLERANCE = 400, 1e-6


@pytest.fixture(autouse=True)
def double_precision():
    if not jax.config.jax_enable_x64:
        pytest.skip("float64 is switched off")


def samples(rng, num_components, num_features):
    """Samples of components that overlap, and means to start from."""
    apart = 4 / np.sqrt(num_features) * np.arange(num_components)[:, None]
    means = 1.5 + apart + 0.2 * rng.normal(size=(num_components, num_features))
    shares = rng.dirichlet(np.full(num_components, 5.0))
    spread = rng.uniform(0.6, 1.2, num_features)
    which = rng.choice(num_components, NUM_SAMPLES, p=shares)
    data = means[which] + spread * rng.normal(size=(NUM_SAMPLES, num_features))
    return data, means + rng.normal(size=means.shape)


def as_frames(data, means, has_absent, scale=1.0):
    """Samples as images of one pixel, and parameters of equal shares: the last component may be the background."""
    count, features = means.shape
    channels = () if features == 1 else (features,)
    templates = means[: count - has_absent]
    params = jaxem.Params(
        templates.reshape(-1, 1, 1, *channels),
        (means[-1] if has_absent else np.zeros(features)).reshape(1, 1, *channels),
        np.full(channels, scale) if np.ndim(scale) else np.array(scale),
        np.full((len(templates), 1, 1), 1 / count),
        np.array(1 / count) if has_absent else None,
    )
    return data.reshape(-1, 1, 1, *channels), params


def mixture_of(params):
    """Weights and means of the components."""
    weights, means = params.prior.ravel(), params.template.reshape(len(params.template), -1)
    if params.absent is not None:
        weights, means = np.append(weights, params.absent), np.vstack([means, params.background.reshape(1, -1)])
    return weights, means


def log_densities(data, weights, means, variance):
    """ln of weight times density of each sample under each component."""
    squares = (data[:, None] - means) ** 2 / variance + np.log(2 * np.pi * variance)
    return np.log(weights) - squares.sum(axis=2) / 2


def mixture_em(data, weights, means, variance, counts, num_iterations):
    """A Gaussian mixture whose components share one variance, or one a feature, from the textbook."""
    for _ in range(num_iterations):
        joint = log_densities(data, weights, means, variance)
        probs = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)) * counts[:, None]
        shares = probs.sum(axis=0)
        weights, means = shares / counts.sum(), probs.T @ data / shares[:, None]
        errors = (probs[:, :, None] * (data[:, None] - means) ** 2).sum(axis=(0, 1)) / counts.sum()
        variance = errors if variance.ndim else errors.mean()
    evidence = np.logaddexp.reduce(log_densities(data, weights, means, variance), axis=1)
    return weights, means, variance, counts @ evidence


@pytest.mark.parametrize(
    ("num_features", "own_noise", "has_absent", "weighted"),
    [(1, False, False, False), (1, False, True, True), (3, False, False, True), (3, True, True, False)],
)
def test_frames_of_one_pixel_are_a_mixture(num_features, own_noise, has_absent, weighted):
    rng = np.random.default_rng(num_features)
    data, start = samples(rng, 3, num_features)
    images, params = as_frames(data, start, has_absent, np.ones(num_features) if own_noise else 1.0)
    counts = rng.integers(0, 4, NUM_SAMPLES).astype(float) if weighted else np.ones(NUM_SAMPLES)
    frame_weights = counts if weighted else None
    found = jaxem.fit(images, params, frame_weights=frame_weights, max_iterations=2000, tolerance=1e-12)
    steps = int(found.num_iterations)
    variance = params.noise_scale**2
    weights, means, variance, evidence = mixture_em(data, np.full(3, 1 / 3), start, variance, counts, steps)
    assert jaxem.Status(int(found.status)) == jaxem.Status.CONVERGED
    for actual, expected in zip(mixture_of(found.params), (weights, means), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=TOLERANCE)
    np.testing.assert_allclose(found.params.noise_scale**2, variance, rtol=TOLERANCE)
    np.testing.assert_allclose(found.elbo, evidence, rtol=TOLERANCE)


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")  # it makes as many steps
@pytest.mark.parametrize("has_absent", [False, True])
def test_scikit_learn_finds_the_same_mixture(has_absent):
    mixture = pytest.importorskip("sklearn.mixture")
    data, start = samples(np.random.default_rng(5), 3, 1)
    images, params = as_frames(data, start, has_absent)
    found = jaxem.fit(images, params, max_iterations=2000, tolerance=1e-12)
    assert jaxem.Status(int(found.status)) == jaxem.Status.CONVERGED
    given = {"weights_init": np.full(3, 1 / 3), "means_init": start, "precisions_init": np.eye(1)}
    options = {"covariance_type": "tied", "reg_covar": 0, "tol": 0, "max_iter": int(found.num_iterations)}
    tied = mixture.GaussianMixture(3, **options, **given).fit(data)
    for actual, expected in zip(mixture_of(found.params), (tied.weights_, tied.means_), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=TOLERANCE)
    np.testing.assert_allclose(found.params.noise_scale**2, tied.covariances_[0, 0], rtol=TOLERANCE)
    np.testing.assert_allclose(jaxem.log_likelihood(images, found.params), tied.score_samples(data), rtol=TOLERANCE)


def test_hard_em_with_a_fixed_prior_is_k_means():
    cluster = pytest.importorskip("sklearn.cluster")
    data, start = samples(np.random.default_rng(6), 4, 3)
    images, params = as_frames(data, start, False)
    found = jaxem.fit(images, params, hard=True, fixed="prior", max_iterations=500, tolerance=0)
    clusters = cluster.KMeans(4, init=start, n_init=1, tol=0, max_iter=500, algorithm="lloyd").fit(data)
    np.testing.assert_array_equal(found.best_template, clusters.labels_)
    np.testing.assert_allclose(mixture_of(found.params)[1], clusters.cluster_centers_, rtol=TOLERANCE)
    np.testing.assert_allclose(found.params.noise_scale**2, clusters.inertia_ / data.size, rtol=TOLERANCE)
