"""Single precision against double on large images of pixels 0..255, where plain float32 loses whole nats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import cast, sample

import jaxem
from jaxem.cli.demo import TEMPLATE_SHAPE, demo_frames
from jaxem.model import likelihood, objective
from jaxem.model import workspace as model_workspace
from jaxem.model.appearances import geometry_of
from jaxem.model.expectation import expectation
from jaxem.model.frames import Frames
from jaxem.model.params import to_internal_units

SIZE, HEIGHT, NUM_IMAGES = 320, 48, 6


def smooth(rng, size):
    """A picture of a few waves, 0 to 255."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    waves = sum(np.sin(rng.uniform(0, 25, 3) @ (rows.ravel(), columns.ravel(), 1 + 0 * rows.ravel())) for _ in range(6))
    return (255 * (waves - waves.min()) / np.ptp(waves)).reshape(size, size)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(20)
    positions = SIZE - HEIGHT + 1
    prior = np.full((positions, positions), 1 / positions**2)
    truth = jaxem.Params(smooth(rng, HEIGHT), smooth(rng, SIZE), np.array(25.0), prior)
    images, _ = sample(rng, truth, NUM_IMAGES)
    guess = truth._replace(template=truth.template + 5 * rng.normal(size=truth.template.shape))
    return np.float32(images), cast(guess, np.float32)


def log_odds_and_bound(images, params):
    """As a fit computes them."""
    workspace = model_workspace.make_workspace(Frames(images), NUM_IMAGES)
    scaled = to_internal_units(params, workspace.images)
    whole = workspace.images.spectra
    at_once = workspace.images._replace(spectra=whole._replace(pairs=whole.pairs[0]))
    odds = likelihood.log_odds(at_once, likelihood.shared_terms(at_once, scaled), geometry_of(scaled))
    ratio = expectation(workspace, scaled, hard=False).ratio
    return odds, objective.log_density(workspace.images, workspace.totals, scaled, ratio)


def test_log_odds_and_bound_to_hundredths_of_a_nat(problem):
    if not jax.config.jax_enable_x64:
        pytest.skip("float64 is switched off")
    images, params = problem
    compute = jax.jit(log_odds_and_bound)
    odds, bound = compute(jnp.asarray(images), jax.tree.map(jnp.asarray, params))
    assert odds.dtype == bound.high.dtype == np.float32
    odds64, bound64 = compute(jnp.asarray(images, "float64"), cast(params, "float64"))

    odds, odds64 = np.asarray(odds, "float64").reshape(NUM_IMAGES, -1), np.asarray(odds64).reshape(NUM_IMAGES, -1)
    best = odds64.argmax(axis=1)[:, None]
    relative, relative64 = (each - np.take_along_axis(each, best, axis=1) for each in (odds, odds64))
    assert np.ptp(odds64) > 1e3  # nats: large numbers
    assert np.abs(relative - relative64).max() < 0.02
    total, total64 = (float(each.high) + float(each.low) for each in (bound, bound64))
    assert abs(total64) > 2e6  # float32 holds only quarters of a nat there
    assert abs(total - total64) / NUM_IMAGES < 0.01


def test_the_evidence_of_an_image_cancels_nothing(problem):
    """With little noise the template explains nearly all of the squares about the background."""
    if not jax.config.jax_enable_x64:
        pytest.skip("float64 is switched off")
    images, params = problem
    params = params._replace(noise_scale=np.float32(2.0))
    single = np.asarray(jaxem.log_likelihood(images, params), np.float64)
    double = np.asarray(jaxem.log_likelihood(images.astype("float64"), cast(params, "float64")))
    assert np.abs(single / double - 1).max() < 2e-7


@pytest.mark.slow
def test_both_precisions_stop_together():
    """Convergence is seen in gains of thousandths of a nat an image, of totals near -8e6."""
    if not jax.config.jax_enable_x64:
        pytest.skip("float64 is switched off")
    frames = demo_frames(0).frames.astype("float32")
    key = jax.random.split(jax.random.key(0), 5)[1]
    start = jaxem.random_params(key, frames, TEMPLATE_SHAPE)
    single = jaxem.fit(frames, start)
    double = jaxem.fit(frames.astype("float64"), cast(start, "float64"))
    assert jaxem.Status(int(single.status)) == jaxem.Status(int(double.status)) == jaxem.Status.CONVERGED
    assert abs(int(single.num_iterations) - int(double.num_iterations)) <= 2
    assert abs(float(single.elbo) - float(double.elbo)) < 0.01 * len(frames)
