"""What must hold whatever the numbers: the bound, its rise, Fisher's identity, the symmetries, the limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import random_params, random_problem, random_probs, sample

import jaxem
from jaxem.assess import reference as oracle

pytestmark = pytest.mark.slow  # together; and what is true does not hang on versions

VARIANTS = [(False, 0.0), (True, 0.0), (False, 2.0), (True, 2.0)]
variants = pytest.mark.parametrize(("hard", "prior_smoothing"), VARIANTS)


@pytest.fixture
def problem():
    if not jax.config.jax_enable_x64:
        pytest.skip("float64 is switched off")
    return random_problem(np.random.default_rng(11), (12, 7, 9), (3, 4))


def test_the_bound_is_tight_at_the_posterior_and_below_elsewhere(problem):
    images, params = problem
    posterior = jaxem.e_step(images, params)
    evidence = jaxem.log_likelihood(images, params).sum()
    np.testing.assert_allclose(jaxem.elbo(images, params, posterior), evidence, rtol=1e-12)
    rng = np.random.default_rng(12)
    for step in (1e-3, 0.1, 1.0):
        other = random_probs(rng, len(images), params.prior.shape)
        mixed = (1 - step) * posterior.probs + step * other
        divergence = (mixed * jnp.log(mixed / posterior.probs)).sum()
        bound = jaxem.elbo(images, params, jaxem.Posterior(mixed))
        assert divergence > 1e-6
        np.testing.assert_allclose(evidence - bound, divergence, rtol=1e-7)
    hard = jaxem.e_step(images, params, hard=True)
    np.testing.assert_allclose(jaxem.elbo(images, params, hard), hard.log_joint.sum(), rtol=1e-12)
    assert hard.log_joint.sum() < evidence


def many_problems(num_problems, stack_shape, template_shape, dtype):
    """Stacked problems: images drawn from one set of parameters, a start from another."""
    rng = np.random.default_rng(13)
    images, starts = [], []
    for _ in range(num_problems):
        truth = random_params(rng, stack_shape[1:], template_shape, noise_scale=rng.uniform(0.05, 2))
        images.append(sample(rng, truth, stack_shape[0])[0])
        starts.append(random_params(rng, stack_shape[1:], template_shape, noise_scale=rng.uniform(0.3, 3)))
    stacked = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves), dtype), *starts)
    return jnp.asarray(np.stack(images), dtype), stacked


@pytest.mark.parametrize("prior_smoothing", [0.0, 2.0])
@pytest.mark.parametrize(
    ("stack_shape", "template_shape", "hard"), [((20, 6, 7), (3, 2), False), ((5, 9, 4), (4, 4), True)]
)
def test_the_objective_never_falls(stack_shape, template_shape, hard, prior_smoothing, dtype):
    images, starts = many_problems(100, stack_shape, template_shape, dtype)
    run = functools.partial(
        jaxem.fit, hard=hard, prior_smoothing=prior_smoothing, max_iterations=25, tolerance=-jnp.inf
    )
    fits = jax.vmap(run)(images, starts)
    assert set(fits.status.tolist()) == {jaxem.Status.MAX_ITERATIONS}
    history = np.asarray(fits.history, "float64")
    assert (history[:, -1] > history[:, 0]).all()
    # Rounding alone: of the objective itself, and of the sums of squares it is a difference of.
    spread = ((images - images.mean(axis=(1, 2, 3), keepdims=True)) ** 2).sum(axis=(1, 2, 3))
    size = np.abs(history).max(axis=1) + np.asarray(spread / (2 * fits.params.noise_scale**2))
    fall = -np.diff(history, axis=1).min(axis=1)
    assert (fall / size).max() <= 4 * np.finfo(dtype).eps


def test_probabilities_sum_to_one_however_large_the_odds():
    """A background far off raises the odds of all positions alike, so that the posterior stays spread."""
    images = 1e-3 * np.random.default_rng(15).normal(size=(5, 90, 100)).astype("float32")
    flat = jaxem.Params(np.zeros((70, 60)), np.full((90, 100), 2.0), 0.2, np.full((21, 41), 1 / 861))
    probs = np.asarray(jaxem.e_step(images, jax.tree.map(np.float32, flat)).probs, "float64")
    assert probs.max() < 0.99
    np.testing.assert_allclose(probs.sum(axis=(1, 2)), 1, atol=1e-6)


def test_fishers_identity(problem):
    """The M-step's sums are the gradient of the log likelihood, which autodiff gives without them."""
    images, params = problem
    gradient = jax.grad(lambda theta: jaxem.log_likelihood(images, theta).sum())(jax.tree.map(jnp.asarray, params))
    posterior = jaxem.e_step(images, params)
    new = jaxem.m_step(images, posterior, params.template.shape)
    num_images, variance = len(images), params.noise_scale**2
    hidden = sum(
        np.pad(np.full(params.template.shape, q), [(i, 7 - 3 - i), (j, 9 - 4 - j)])
        for (i, j), q in np.ndenumerate(posterior.probs.sum(axis=0))
    )
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    close(gradient.template, num_images * (new.template - params.template) / variance)
    close(gradient.background, (num_images - hidden) * (new.background - params.background) / variance)
    close(gradient.prior, num_images * new.prior / params.prior)
    # For s the sum of squares is about the old F and B: the new one plus what moving the means gained.
    squares = images.size * new.noise_scale**2 + num_images * ((new.template - params.template) ** 2).sum()
    squares += ((num_images - hidden) * (new.background - params.background) ** 2).sum()
    close(gradient.noise_scale, squares / params.noise_scale**3 - images.size / params.noise_scale)


@variants
def test_symmetries(problem, hard, prior_smoothing):
    images, params = problem
    run = functools.partial(jaxem.fit, hard=hard, prior_smoothing=prior_smoothing, max_iterations=4, tolerance=-np.inf)
    found = run(images, params)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-8)

    def compare(other, undo, elbo_shift=0.0):
        for actual, expected in zip(*map(jax.tree.leaves, (undo(other.params), found.params)), strict=True):
            close(actual, expected)
        close(other.history - elbo_shift, found.history)

    shifted = run(images + 100, params._replace(template=params.template + 100, background=params.background + 100))
    compare(shifted, lambda p: p._replace(template=p.template - 100, background=p.background - 100))

    scale = jaxem.Params(255.0, 255.0, 255.0, 1.0)
    scaled = run(255 * images, jax.tree.map(lambda a, b: a * b, params, scale))
    compare(
        scaled,
        lambda p: jax.tree.map(lambda a, b: a / b, p, scale),
        -images.size * np.log(255),
    )

    def mapped(p, turn):
        return jaxem.Params(turn(p.template), turn(p.background), p.noise_scale, turn(p.prior))

    for turn in (np.flipud, np.fliplr, np.transpose):
        turned = run(np.stack([turn(image) for image in images]), mapped(params, turn))
        compare(turned, lambda p, turn=turn: mapped(p, turn))

    compare(run(images[::-1], params), lambda p: p)


def test_soft_tends_to_hard_as_the_noise_vanishes(problem):
    images, params = problem
    gaps = []
    for noise_scale in (5.0, 1.0, 0.02):
        theta = params._replace(noise_scale=np.array(noise_scale))
        soft, hard = jaxem.e_step(images, theta), jaxem.e_step(images, theta, hard=True)
        one_hot = oracle.one_hot(np.asarray(hard.corners), params.prior.shape)
        gaps.append(np.abs(soft.probs - one_hot).max())
        assert (soft.log_evidence >= hard.log_joint).all()
    assert gaps[0] > 1e-3
    assert gaps[2] < 1e-12
    np.testing.assert_allclose(soft.log_evidence, hard.log_joint, rtol=1e-12)
    from_soft, from_hard = (jaxem.m_step(images, q, params.template.shape) for q in (soft, hard))
    for a, b in zip(*map(jax.tree.leaves, (from_soft, from_hard)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_hard_em_is_stuck_on_zeros_of_the_prior_unless_smoothed():
    rng = np.random.default_rng(14)
    truth = random_params(rng, (9, 11), (3, 4), noise_scale=0.2)
    images, corners = sample(rng, truth._replace(prior=np.full((7, 8), 1 / 56)), 200)
    closed = np.zeros((7, 8))
    closed[:3] = 1 / 24  # the lower four rows of corners are impossible at the start
    start = truth._replace(prior=closed)
    stuck = jaxem.fit(images, start, hard=True)
    assert (stuck.params.prior[3:] == 0).all()
    free = jaxem.fit(images, start, hard=True, prior_smoothing=20.0)
    assert free.history[0] == -np.inf  # the smoothed objective of an impossible prior
    assert free.status == jaxem.Status.CONVERGED
    assert (free.params.prior > 0).all()
    found = jaxem.e_step(images, free.params, hard=True).corners
    assert (np.asarray(found) == corners).all(axis=1).mean() > 0.99
