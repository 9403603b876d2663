"""The formulas of the two steps: what `em` offers on whole stacks and `loop` iterates batch by batch.

E-step: `infer` the posterior, `summarise` it in sums over the images. M-step: `maximise` what they say. The
`log_density` tells what both have reached. Derivations: ``docs/method.md``, *E-step*, *M-step* and *ELBO*.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

from jaxem import compensated
from jaxem.batches import one_by_one, over_batches
from jaxem.compensated import Pair, pair
from jaxem.model import Params, Positions, Terms, log_odds, log_prior, squares_at, terms
from jaxem.stack import Stack, Totals, Transforms, sum_over_images
from jaxem.windows import Shape, gather, paste, positions_shape


class Sums(NamedTuple):
    """What a posterior and the images say together: sums over images, to be added up over batches.

    ==============  =====================  ===================  ===========================================
    field           formula                shape                meaning
    ==============  =====================  ===================  ===========================================
    counts          n = sum_k q_k          (H-h+1, W-w+1)       expected number of templates at each corner
    backprojection  sum_k q_k corr R_k     `Stack.backproject`  residuals under the template
    covered_sum     V = sum_k c_k R_k      (H, W)               residuals where the template covers
    ==============  =====================  ===================  ===========================================
    """

    counts: jax.Array
    backprojection: jax.Array
    covered_sum: jax.Array


class Statistics(NamedTuple):
    """All that an M-step needs to know of a posterior.

    ============  ==========================  ==============  ===========================================
    field         formula                     shape           meaning
    ============  ==========================  ==============  ===========================================
    counts        n                           (H-h+1, W-w+1)  expected number of templates at each corner
    covered       c = coverage of n           (H, W)          expected number of templates over each pixel
    template_sum  T = sum_k q_k corr R_k      (h, w)          images under the template, less the offset
                  + n corr B0
    covered_sum   V                           (H, W)          residuals where the template covers
    ============  ==========================  ==============  ===========================================
    """

    counts: jax.Array
    covered: jax.Array
    template_sum: jax.Array
    covered_sum: jax.Array


class Evidence(NamedTuple):
    """What the E-step learns about each image besides its posterior.

    ========  ========  ======================================================================================
    field     shape     meaning
    ========  ========  ======================================================================================
    corners   (K, 2)    the best corner
    log_odds  (K,)      there, nats
    log_mass  (K,)      ln sum_d exp(log_odds(d) - log_odds at the best corner), zero in hard EM, nats
    ========  ========  ======================================================================================

    The last two add up to ln p(X_k) - ln N(X_k; B, s^2), in hard EM to ln p(X_k, d_k) - ln N(X_k; B, s^2).
    """

    corners: jax.Array
    log_odds: jax.Array
    log_mass: jax.Array


class Unnormalised(NamedTuple):
    """A `Posterior` before its normalisation, which sums over images can make in passing: probs = shares * masses.

    ======  ======================  =====================================
    field   shape                   meaning
    ======  ======================  =====================================
    masses  (K, H-h+1, W-w+1)       proportional to the probabilities
    shares  (K,)                    one over the sum of an image's masses
    ======  ======================  =====================================
    """

    masses: jax.Array
    shares: jax.Array


class LogRatio(NamedTuple):
    """What `Evidence` adds up to over the images: log_prior + log_mass - squares / (2 s^2).

    =========  ======  ======================================================================================
    field      shape   meaning
    =========  ======  ======================================================================================
    squares    `Pair`  what the template at the best corners adds to the squared residuals
    log_prior  `Pair`  ln A there
    log_mass   `Pair`  -ln q there: the log mass of all corners relative to the best
    =========  ======  ======================================================================================

    The squares come from the windows themselves: of numbers as large as these, transforms lose hundredths of nats.
    """

    squares: Pair
    log_prior: Pair
    log_mass: Pair


def infer(
    stack: Stack, terms: Terms, template_shape: Shape, *, hard: bool
) -> tuple[Positions | Unnormalised, Evidence]:
    """The posterior over corners, and what else the log odds of the images say."""
    odds = log_odds(stack, terms, template_shape)
    corners, highest = _highest(odds)
    if hard:
        return Positions(corners), Evidence(corners, highest, jnp.zeros_like(highest))
    flat = odds.reshape(len(odds), -1)
    # Not exp(odds - log evidence): where the odds are 1e5, its rounding alone would change every probability by 1 %.
    masses = jnp.exp(flat - jnp.where(jnp.isfinite(highest), highest, 0)[:, None])
    total = jnp.sum(masses, axis=1)
    return Unnormalised(masses.reshape(odds.shape), 1 / total), Evidence(corners, highest, jnp.log(total))


def _highest(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Corner and value of each map's first maximum, (K, P, Q) -> (K, 2) int32, (K,); by rows, twice as fast."""
    row = jnp.argmax(jnp.max(maps, axis=2), axis=1)
    values = jnp.take_along_axis(maps, row[:, None, None], axis=1)[:, 0]
    column = jnp.argmax(values, axis=1)
    corners = jnp.stack([row, column], axis=-1).astype(jnp.int32)
    return corners, jnp.take_along_axis(values, column[:, None], axis=1)[:, 0]


def log_ratio(stack: Stack, params: Params, evidence: Evidence, weights: jax.Array) -> LogRatio:
    """The evidence summed over the images, each with its weight (K,), zero or one."""
    squares = sum_over_images(squares_at(stack, params, evidence.corners), weights)
    at_best = log_prior(params.prior)[evidence.corners[:, 0], evidence.corners[:, 1]]
    at_best = jnp.where(jnp.isnan(evidence.log_odds), jnp.nan, at_best)  # of a window elsewhere nothing is seen
    counted = (jnp.where(weights > 0, values, 0) for values in (at_best, evidence.log_mass))
    return LogRatio(compensated.total(jnp.sum(squares, axis=1)), *map(compensated.total, counted))


def summarise(stack: Stack, posterior: Positions | Unnormalised, weights: jax.Array, template_shape: Shape) -> Sums:
    """The posterior's sums over the images, each with its weight (K,), zero or one.

    Hard positions gather windows where soft ones need transforms.
    """
    if isinstance(posterior, Positions):
        corners = posterior.corners
        windows = gather(stack.residuals, corners, template_shape) * weights[:, None, None]
        counts = jnp.zeros(positions_shape(stack.image_shape, template_shape), windows.dtype)
        counts = counts.at[corners[:, 0], corners[:, 1]].add(weights)
        return Sums(counts, jnp.sum(windows, axis=0), paste(windows, corners, stack.image_shape))
    masses, shares = posterior.masses, posterior.shares * weights
    counts = sum_over_images(masses, shares)
    backprojection = stack.backproject(masses * shares[:, None, None])
    return Sums(counts, backprojection, stack.covered_sum(masses, shares, template_shape))


def complete(stack: Stack, sums: Sums, template_shape: Shape, *, hard: bool) -> Statistics:
    """The statistics of the whole stack."""
    counts, backprojection, covered_sum = sums
    own = backprojection if hard else stack.template_of(backprojection, template_shape)
    template_sum = own + stack.template_of(stack.backproject_reference(counts), template_shape)
    return Statistics(counts, stack.coverage(counts, template_shape), template_sum, covered_sum)


class Expectation(NamedTuple):
    """What an E-step of a prepared stack gives.

    ==========  ============  ============================================
    field       shape         meaning
    ==========  ============  ============================================
    statistics  `Statistics`  of the posterior
    ratio       `LogRatio`    of the evidence
    corners     (K, 2) int32  the best corner of each image
    ==========  ============  ============================================
    """

    statistics: Statistics
    ratio: LogRatio
    corners: jax.Array


def expectation(stack: Stack, params: Params, *, hard: bool) -> Expectation:
    """E-step of a prepared stack, batch by batch."""
    shared, template_shape = terms(stack, params), params.template.shape
    transforms = cast(Transforms, stack.transforms)
    batch_size = min(2 * transforms.pairs.shape[1], len(stack.images))

    def one_batch(images: jax.Array, weights: jax.Array, pairs: jax.Array) -> tuple[tuple[Sums, LogRatio], jax.Array]:
        batch = stack._replace(images=images, transforms=transforms._replace(pairs=pairs))
        posterior, evidence = infer(batch, shared, template_shape, hard=hard)
        sums = summarise(batch, posterior, weights, template_shape)
        return (sums, log_ratio(batch, params, evidence, weights)), evidence.corners

    (sums, ratio), corners = over_batches(one_batch, stack.images, batch_size, along=transforms.pairs)
    statistics = complete(stack, sums, template_shape, hard=hard)
    return Expectation(statistics, ratio, one_by_one(corners, len(stack.images)))


def maximise(stack: Stack, totals: Totals, statistics: Statistics, prior_smoothing: jax.Array) -> Params:
    """The parameters that maximise the expected log joint (and the smoothed prior's) given its statistics."""
    num_images, residual_sum, _ = totals
    counts, covered, template_sum, covered_sum = statistics

    prior = (counts + prior_smoothing / counts.size) / (num_images + prior_smoothing)
    template = template_sum / num_images
    visible = visible_counts(covered, num_images)
    shift = jnp.where(visible > 0, (residual_sum - covered_sum) / jnp.where(visible > 0, visible, 1), 0)
    background = stack.reference + shift

    squares = expected_squares(stack, totals, statistics, template, background)
    variance = squares / (num_images * background.size)
    return Params(template, background, jnp.sqrt(jnp.maximum(variance, stack.variance_floor)), prior)


def expected_squares(
    stack: Stack, totals: Totals, statistics: Statistics, template: jax.Array, background: jax.Array
) -> jax.Array:
    """C = sum_k sum_d q_k(d) |X_k - scene with the template at d|^2, over all pixels."""
    return squares_about(stack, totals, background).high + squares_added(
        stack, totals, statistics, template, background
    )


def squares_added(
    stack: Stack, totals: Totals, statistics: Statistics, template: jax.Array, background: jax.Array
) -> jax.Array:
    """What the template adds to C: sum_k sum_d q_k(d) times the sum over its window of (X_k - F)^2 - (X_k - B)^2."""
    _, covered, template_sum, covered_sum = statistics
    behind = background * (2 * covered_sum + covered * (2 * stack.reference - background))
    in_front = template * (totals.num_images * template - 2 * template_sum)
    return jnp.sum(behind) + jnp.sum(in_front)


def squares_about(stack: Stack, totals: Totals, background: jax.Array) -> Pair:
    """sum_k |X_k - B|^2, over all pixels.

    Sums along rows average their rounding out; the total of the rows is kept in twice the precision, since a thousandth
    of a nat is 1e-10 of it for large images.
    """
    num_images, residual_sum, square_sum = totals
    shift = background - stack.reference
    rows = jnp.sum(shift * (num_images * shift - 2 * residual_sum), axis=1)
    return compensated.add(compensated.total(rows), square_sum)


def log_density(stack: Stack, totals: Totals, params: Params, ratio: LogRatio) -> Pair:
    """The log likelihood of the whole stack, in hard EM the log joint of the images and their best corners, nats.

    -KHW/2 ln(2 pi s^2) - [sum_k |X_k - B|^2 + squares] / (2 s^2) + log_prior + log_mass, the first s in pixel values
    """
    noise_scale = params.noise_scale
    squares = compensated.add(squares_about(stack, totals, params.background), ratio.squares)
    variance = compensated.multiply(pair(noise_scale), pair(noise_scale))

    size = jnp.full_like(noise_scale, params.background.size)
    num_pixels = compensated.multiply(pair(totals.num_images), pair(size))
    log_scale = compensated.scale(compensated.log(noise_scale * stack.scale), 2)
    log_pixel = compensated.add(log_scale, compensated.constant(compensated.LN_2_PI, noise_scale.dtype))
    twice = compensated.add(compensated.multiply(num_pixels, log_pixel), compensated.divide(squares, variance))
    return compensated.add(compensated.scale(twice, -0.5), compensated.add(ratio.log_prior, ratio.log_mass))


def mean_entropy(stack: Stack, totals: Totals, params: Params, expected: Expectation) -> jax.Array:
    """Entropy of the posteriors, nats an image: log evidence less expected log joint, both relative to N(X; B, s^2)."""
    statistics, ratio, _ = expected
    squares = ratio.squares.high - squares_added(stack, totals, statistics, params.template, params.background)
    used = statistics.counts > 0
    expected_log_prior = jnp.sum(jnp.where(used, statistics.counts * log_prior(params.prior), 0))
    log_weight = ratio.log_prior.high + ratio.log_mass.high - expected_log_prior
    return jnp.maximum(log_weight - squares / (2 * params.noise_scale**2), 0) / totals.num_images


def visible_counts(covered: jax.Array, num_images: jax.Array) -> jax.Array:
    """Expected number of images that show the background at each pixel; zero where only rounding is left of it."""
    visible = num_images - covered
    return jnp.where(visible > 32 * jnp.finfo(covered.dtype).eps * num_images, visible, 0)


def log_smoothing(prior: jax.Array, prior_smoothing: jax.Array) -> jax.Array:
    """(alpha / PQ) sum_d ln A(d), what prior smoothing adds to the objective; zero at alpha = 0, whatever A is."""
    return jnp.where(prior_smoothing > 0, prior_smoothing * jnp.mean(log_prior(prior)), 0)
