"""Expectation maximisation for the model: the E-step, the M-step and the bound they raise, side by side.

Everything the M-step needs of the images is a handful of sums over them (`Statistics`). `m_step` maximises the sums
that one posterior gives; a fit adds the same sums up batch by batch. Derivations: ``docs/method.md``, *E-step*,
*M-step* and *ELBO*.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple, cast, overload

import jax
import jax.numpy as jnp
from jax import lax

from jaxem import checks, compensated
from jaxem.compensated import Pair, pair
from jaxem.model import (
    Params,
    Positions,
    Posterior,
    Terms,
    from_stack,
    log_background,
    log_odds,
    log_odds_at,
    log_prior,
    terms,
    to_stack,
)
from jaxem.stack import Stack, Totals, add_up, centre
from jaxem.windows import Shape, gather, paste, positions_shape


class Sums(NamedTuple):
    """What a posterior and the images say together: sums over images, to be added up over batches.

    ==============  =========================  ==================  ===========================================
    field           formula                    shape               meaning
    ==============  =========================  ==================  ===========================================
    counts          n = sum_k q_k              (H-h+1, W-w+1)      expected number of templates at each corner
    backprojection  sum_k q_k corr R_k         `Stack.backproject`  residuals under the template
    covered_sum     V = sum_k c_k R_k          (H, W)              residuals where the template covers
    entropy         - sum_k sum_d q_k ln q_k   ()                  of the posteriors, nats; zero if hard
    ==============  =========================  ==================  ===========================================
    """

    counts: jax.Array
    backprojection: jax.Array
    covered_sum: jax.Array
    entropy: jax.Array


class Statistics(NamedTuple):
    """All that an M-step and the ELBO need to know of a posterior.

    ============  ==========================  ==============  ===========================================
    field         formula                     shape           meaning
    ============  ==========================  ==============  ===========================================
    counts        n                           (H-h+1, W-w+1)  expected number of templates at each corner
    covered       c = coverage of n           (H, W)          expected number of templates over each pixel
    template_sum  T = sum_k q_k corr R_k      (h, w)          images under the template, less the offset
                  + n corr B0
    covered_sum   V                           (H, W)          residuals where the template covers
    entropy       - sum_k sum_d q_k ln q_k    ()              of the posteriors, nats; zero if hard
    ============  ==========================  ==============  ===========================================
    """

    counts: jax.Array
    covered: jax.Array
    template_sum: jax.Array
    covered_sum: jax.Array
    entropy: jax.Array


class Evidence(NamedTuple):
    """What the E-step learns about each image besides its posterior.

    =========  ==============================================================  =====  =====
    field      formula                                                         shape  unit
    =========  ==============================================================  =====  =====
    log_ratio  ln p(X_k) - ln N(X_k; B, s^2), or ln p(X_k, d_k) - ... if hard  (K,)   nats
    entropy    - sum_d q_k(d) ln q_k(d), zero if hard                          (K,)   nats
    =========  ==============================================================  =====  =====
    """

    log_ratio: jax.Array
    entropy: jax.Array


def infer(stack: Stack, terms: Terms, template_shape: Shape, *, hard: bool) -> tuple[Posterior | Positions, Evidence]:
    """The posterior over corners, and what else the log odds of the images say."""
    odds = log_odds(stack, terms, template_shape)
    flat = odds.reshape(len(odds), -1)
    if hard:
        best = jnp.argmax(flat, axis=1)
        corners = jnp.stack(jnp.unravel_index(best, odds.shape[1:]), axis=-1).astype(jnp.int32)
        # Not jnp.max, which XLA lets ignore NaN on a CPU; argmax finds it.
        highest = jnp.take_along_axis(flat, best[:, None], axis=1)[:, 0]
        return Positions(corners), Evidence(highest, jnp.zeros_like(highest))
    highest = lax.stop_gradient(jnp.max(flat, axis=1))
    highest = jnp.where(jnp.isfinite(highest), highest, 0)
    below = flat - highest[:, None]
    weights = jnp.exp(below)
    total = jnp.sum(weights, axis=1)
    # Not exp(odds - log evidence): where the odds are 1e5, its rounding alone would change every probability by 1 %.
    probs = weights / total[:, None]
    entropy = jnp.log(total) - jnp.sum(probs * jnp.where(probs > 0, below, 0), axis=1)
    return Posterior(probs.reshape(odds.shape)), Evidence(highest + jnp.log(total), entropy)


def summarise(
    stack: Stack,
    posterior: Posterior | Positions,
    entropy: jax.Array,
    template_shape: Shape,
    weights: jax.Array | None = None,
) -> Sums:
    """The posterior's sums over the images, each with a weight (K,) if weights are given.

    Hard positions gather windows where soft ones need transforms.
    """
    entropy = jnp.sum(entropy if weights is None else entropy * weights)
    if isinstance(posterior, Positions):
        corners = posterior.corners
        windows = gather(stack.residuals, corners, template_shape)
        ones = jnp.ones(len(windows), windows.dtype) if weights is None else weights
        windows = windows * ones[:, None, None]
        counts = jnp.zeros(positions_shape(stack.image_shape, template_shape), windows.dtype)
        counts = counts.at[corners[:, 0], corners[:, 1]].add(ones)
        return Sums(counts, jnp.sum(windows, axis=0), paste(windows, corners, stack.image_shape), entropy)
    probs = posterior.probs if weights is None else posterior.probs * weights[:, None, None]
    counts = jnp.sum(probs, axis=0)
    return Sums(counts, stack.backproject(probs), stack.covered_sum(probs, template_shape), entropy)


def complete(stack: Stack, sums: Sums, template_shape: Shape, *, hard: bool) -> Statistics:
    """The statistics of the whole stack."""
    counts, backprojection, covered_sum, entropy = sums
    # Transformed back apart: the reference is large, and rounds away what the residuals say if it is added before.
    own = backprojection if hard else stack.template_of(backprojection, template_shape)
    template_sum = own + stack.template_of(stack.backproject_reference(counts), template_shape)
    return Statistics(counts, stack.coverage(counts, template_shape), template_sum, covered_sum, entropy)


def maximise(stack: Stack, totals: Totals, statistics: Statistics, prior_smoothing: jax.Array) -> Params:
    """The parameters that maximise the expected log joint (and the smoothed prior's) given its statistics."""
    num_images, residual_sum, _ = totals
    counts, covered, template_sum, covered_sum, _ = statistics

    prior = (counts + prior_smoothing / counts.size) / (num_images + prior_smoothing)
    template = template_sum / num_images
    visible = visible_counts(covered, num_images)
    shift = jnp.where(visible > 0, (residual_sum - covered_sum) / jnp.where(visible > 0, visible, 1), 0)
    background = stack.reference + shift

    squares = expected_squares(stack, totals, statistics, template, background).high
    variance = squares / (num_images * background.size)
    return Params(template, background, jnp.sqrt(jnp.maximum(variance, stack.variance_floor)), prior)


def expected_squares(
    stack: Stack, totals: Totals, statistics: Statistics, template: jax.Array, background: jax.Array
) -> Pair:
    """C = sum_k sum_d q_k(d) |X_k - scene with the template at d|^2, over all pixels.

    Sums over pixels and rows average their rounding out; the total of the rows is kept in twice the precision, since a
    thousandth of a nat is 1e-10 of it for large images.
    """
    num_images, residual_sum, square_sum = totals
    _, covered, template_sum, covered_sum, _ = statistics
    shift = background - stack.reference
    everywhere = shift * (num_images * shift - 2 * residual_sum)
    behind = background * (2 * covered_sum + covered * (2 * stack.reference - background))
    template_rows = jnp.sum(template * (num_images * template - 2 * template_sum), axis=1)
    rows = jnp.concatenate([jnp.sum(everywhere + behind, axis=1), template_rows, jnp.stack(square_sum)])
    return compensated.total(rows)


def bound(stack: Stack, totals: Totals, params: Params, statistics: Statistics) -> Pair:
    """The ELBO of the whole stack, nats, at the posterior of the statistics.

    -KHW/2 ln(2 pi s^2) - C / (2 s^2) + sum_d n(d) ln A(d) + entropy, and KHW ln(scale) less
    """
    template, background, noise_scale, prior = params
    counts, entropy = statistics.counts, statistics.entropy
    squares = expected_squares(stack, totals, statistics, template, background)
    variance = compensated.multiply(pair(noise_scale), pair(noise_scale))

    num_pixels = compensated.multiply(pair(totals.num_images), pair(jnp.full_like(noise_scale, background.size)))
    log_scale = compensated.scale(compensated.log(noise_scale * stack.scale), 2)
    log_pixel = compensated.add(log_scale, compensated.constant(compensated.LN_2_PI, noise_scale.dtype))
    twice = compensated.add(compensated.multiply(num_pixels, log_pixel), compensated.divide(squares, variance))
    at_positions = jnp.sum(jnp.where(counts > 0, counts * log_prior(prior), 0))
    return compensated.add(compensated.scale(twice, -0.5), pair(at_positions + entropy))


def visible_counts(covered: jax.Array, num_images: jax.Array) -> jax.Array:
    """Expected number of images that show the background at each pixel; zero where only rounding is left of it."""
    visible = num_images - covered
    return jnp.where(visible > 32 * jnp.finfo(covered.dtype).eps * num_images, visible, 0)


def log_smoothing(prior: jax.Array, prior_smoothing: jax.Array) -> jax.Array:
    """(alpha / PQ) sum_d ln A(d), what prior smoothing adds to the objective; zero at alpha = 0, whatever A is."""
    return jnp.where(prior_smoothing > 0, prior_smoothing * jnp.mean(log_prior(prior)), 0)


@overload
def e_step(images: Any, params: Params, *, hard: Literal[False] = False) -> Posterior: ...
@overload
def e_step(images: Any, params: Params, *, hard: Literal[True]) -> Positions: ...
@overload
def e_step(images: Any, params: Params, *, hard: bool) -> Posterior | Positions: ...
def e_step(images: Any, params: Params, *, hard: bool = False) -> Posterior | Positions:
    """Where the template sits in each image, given the parameters.

        q_k(d) = softmax over d of  ln A(d) - 1/(2 s^2) sum over the window at d of (X_k - F)^2 - (X_k - B)^2

    Hard EM keeps only the corner of the maximum, found before any normalisation.

    Args:
        images: (K, H, W), pixel values; integers are promoted.
        params: the parameters; a noise scale below what the images' numbers resolve counts as that limit.
        hard: return one corner an image instead of probabilities (static).

    Returns:
        `Posterior` with probabilities (K, H-h+1, W-w+1) and log evidence (K,), nats; or, if hard, `Positions` with
        corners (K, 2) int32 and log joint (K,), nats.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit each other.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, corners = jaxem.simulate(jax.random.key(0), truth, 10)
        >>> bool((jaxem.e_step(images, truth, hard=True).corners == corners).all())
        True

    Source: ``docs/method.md``, *E-step*.
    """
    images = checks.as_images(images)
    return _e_step(images, checks.as_params(params, images.shape[1:], images.dtype), hard=bool(hard))


@partial(jax.jit, static_argnames="hard")
def _e_step(images: jax.Array, params: Params, hard: bool) -> Posterior | Positions:
    stack = centre(images)
    params = to_stack(params, stack)
    posterior, evidence = infer(stack, terms(stack, params), params.template.shape, hard=hard)
    log_density = log_background(stack, params) + evidence.log_ratio
    if isinstance(posterior, Positions):
        return posterior._replace(log_joint=log_density)
    return posterior._replace(log_evidence=log_density)


def m_step(
    images: Any, posterior: Posterior | Positions, template_shape: Shape, *, prior_smoothing: Any = 0.0
) -> Params:
    """The parameters that maximise the ELBO at a given posterior.

        A(d) = (sum_k q_k(d) + alpha/PQ) / (K + alpha),   F = the windows' mean,   B = the mean where not covered,
        s^2 = the mean squared residual under the new F and B

    A background pixel that the template covers in every image (`visible_counts` zero) is unknown; it gets the mean
    image's value. The noise scale never falls below what the images' numbers resolve, about sqrt(eps) times the spread
    of the pixels.

    Args:
        images: (K, H, W), pixel values; integers are promoted.
        posterior: `Posterior` for soft EM or `Positions` for hard EM; only probabilities or corners are used.
        template_shape: (h, w) (static).
        prior_smoothing: alpha >= 0, pseudo-counts spread evenly over all corners (traced).

    Returns:
        `Params`, in the dtype of the images.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxem
        >>> images = jnp.arange(24.0).reshape(2, 3, 4)
        >>> jaxem.m_step(images, jaxem.Positions(jnp.array([[0, 0], [1, 2]])), (2, 2)).template.tolist()
        [[9.0, 10.0], [13.0, 14.0]]

    Source: ``docs/method.md``, *M-step*.
    """
    images, template_shape, posterior = _with_posterior(images, posterior, template_shape)
    prior_smoothing = checks.as_number("prior_smoothing", prior_smoothing, images.dtype, at_least=0)
    return _m_step(images, posterior, prior_smoothing, template_shape=template_shape)


@partial(jax.jit, static_argnames="template_shape")
def _m_step(
    images: jax.Array, posterior: Posterior | Positions, prior_smoothing: jax.Array, template_shape: Shape
) -> Params:
    stack = centre(images)
    hard = isinstance(posterior, Positions)
    sums = summarise(stack, posterior, jnp.zeros(len(images), images.dtype), template_shape)
    statistics = complete(stack, sums, template_shape, hard=hard)
    return from_stack(maximise(stack, add_up(stack), statistics, prior_smoothing), stack)


def elbo(images: Any, params: Params, posterior: Posterior | Positions) -> jax.Array:
    """The evidence lower bound, which both steps raise.

        sum_k sum_d q_k(d) [ ln p(X_k, d) - ln q_k(d) ],   0 ln 0 = 0

    At the exact posterior it equals the log likelihood. For hard positions the entropy is zero and the sum of the log
    joints at the corners is left.

    Args:
        images: (K, H, W), pixel values.
        params: the parameters.
        posterior: `Posterior` or `Positions`; only probabilities or corners are used.

    Returns:
        Scalar, nats.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit each other.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> images = jax.random.normal(jax.random.key(0), (3, 4, 5))
        >>> params = jaxem.random_params(jax.random.key(1), images, (2, 2))
        >>> bound = jaxem.elbo(images, params, jaxem.e_step(images, params))
        >>> bool(jnp.allclose(bound, jaxem.log_likelihood(images, params).sum()))
        True

    Source: ``docs/method.md``, *ELBO*.
    """
    images = checks.as_images(images)
    params = checks.as_params(params, images.shape[1:], images.dtype)
    images, _, posterior = _with_posterior(images, posterior, params.template.shape)
    return _elbo(images, params, posterior)


@jax.jit
def _elbo(images: jax.Array, params: Params, posterior: Posterior | Positions) -> jax.Array:
    stack = centre(images)
    params = to_stack(params, stack)
    if isinstance(posterior, Positions):
        return jnp.sum(log_background(stack, params) + log_odds_at(stack, params, posterior.corners))
    probs = posterior.probs
    possible = probs > 0
    odds = jnp.where(possible, log_odds(stack, terms(stack, params), params.template.shape), 0)
    gain = probs * (odds - jnp.log(jnp.where(possible, probs, 1)))
    return jnp.sum(log_background(stack, params) + jnp.sum(gain, axis=(1, 2)))


def log_likelihood(images: Any, params: Params) -> jax.Array:
    """Log density of each image under the model, every position summed: ln p(X_k) = ln sum_d A(d) p(X_k | d).

    Args:
        images: (K, H, W), pixel values.
        params: the parameters.

    Returns:
        (K,), nats.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit each other.

    Example:
        >>> import jax.numpy as jnp, jaxem
        >>> flat = jaxem.Params(jnp.zeros((1, 1)), jnp.zeros((2, 2)), jnp.array(1.0), jnp.full((2, 2), 0.25))
        >>> float(jaxem.log_likelihood(jnp.zeros((1, 2, 2)), flat)[0]).__round__(4)  # -2 ln(2 pi)
        -3.6758

    Source: ``docs/method.md``, *E-step*.
    """
    images = checks.as_images(images)
    return _log_likelihood(images, checks.as_params(params, images.shape[1:], images.dtype))


@jax.jit
def _log_likelihood(images: jax.Array, params: Params) -> jax.Array:
    return cast(jax.Array, cast(Posterior, _e_step(images, params, hard=False)).log_evidence)


def _with_posterior(images: Any, posterior: Any, template_shape: Any) -> tuple[jax.Array, Shape, Posterior | Positions]:
    """Check a posterior against images and template shape; keep of it what the formulas use."""
    images = checks.as_images(images)
    template_shape = checks.as_template_shape(template_shape, images.shape[1:])
    if isinstance(posterior, Posterior):
        return images, template_shape, Posterior(checks.as_probs(posterior.probs, images, template_shape))
    if isinstance(posterior, Positions):
        return images, template_shape, Positions(checks.as_corners(posterior.corners, images, template_shape))
    raise TypeError(f"posterior must be a jaxem.Posterior or jaxem.Positions, but is {type(posterior).__name__}.")
