"""The formulas of the two steps: what `em` offers on whole stacks and `loop` iterates batch by batch.

E-step: `infer` the posterior, `summarise` it in sums over the images. M-step: `maximise` what they say. The `bound`
tells what both have reached. Derivations: ``docs/method.md``, *E-step*, *M-step* and *ELBO*.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from jaxem import compensated
from jaxem.batches import over_batches
from jaxem.compensated import Pair, pair
from jaxem.model import Params, Positions, Posterior, Terms, log_odds, log_prior, terms
from jaxem.stack import Stack, Totals, Transforms
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
    finite = jnp.maximum(below, jnp.finfo(below.dtype).min)  # 0 ln 0 = 0, where minus infinity would give NaN
    entropy = jnp.log(total) - jnp.sum(weights * finite, axis=1) / total
    return Posterior(probs.reshape(odds.shape)), Evidence(highest + jnp.log(total), entropy)


def summarise(
    stack: Stack,
    posterior: Posterior | Positions,
    entropy: jax.Array,
    weights: jax.Array,
    template_shape: Shape,
) -> Sums:
    """The posterior's sums over the images, each with its weight (K,), zero or one.

    Hard positions gather windows where soft ones need transforms.
    """
    entropy = jnp.sum(entropy * weights)
    if isinstance(posterior, Positions):
        corners = posterior.corners
        windows = gather(stack.residuals, corners, template_shape) * weights[:, None, None]
        counts = jnp.zeros(positions_shape(stack.image_shape, template_shape), windows.dtype)
        counts = counts.at[corners[:, 0], corners[:, 1]].add(weights)
        return Sums(counts, jnp.sum(windows, axis=0), paste(windows, corners, stack.image_shape), entropy)
    probs = posterior.probs * weights[:, None, None]
    counts = jnp.sum(probs, axis=0)
    return Sums(counts, stack.backproject(probs), stack.covered_sum(probs, template_shape), entropy)


def complete(stack: Stack, sums: Sums, template_shape: Shape, *, hard: bool) -> Statistics:
    """The statistics of the whole stack."""
    counts, backprojection, covered_sum, entropy = sums
    own = backprojection if hard else stack.template_of(backprojection, template_shape)
    template_sum = own + stack.template_of(stack.backproject_reference(counts), template_shape)
    return Statistics(counts, stack.coverage(counts, template_shape), template_sum, covered_sum, entropy)


def expectation(stack: Stack, params: Params, *, hard: bool) -> Statistics:
    """E-step of a prepared stack, batch by batch: the statistics of its posterior."""
    shared, template_shape = terms(stack, params), params.template.shape
    transforms = cast(Transforms, stack.transforms)
    batch_size = min(2 * transforms.pairs.shape[1], len(stack.images))

    def one_batch(images: jax.Array, weights: jax.Array, pairs: jax.Array) -> tuple[Sums, None]:
        batch = stack._replace(images=images, transforms=transforms._replace(pairs=pairs))
        posterior, evidence = infer(batch, shared, template_shape, hard=hard)
        return summarise(batch, posterior, evidence.entropy, weights, template_shape), None

    sums, _ = over_batches(one_batch, stack.images, batch_size, along=transforms.pairs)
    return complete(stack, sums, template_shape, hard=hard)


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

    -KHW/2 ln(2 pi s^2) - C / (2 s^2) + sum_d n(d) ln A(d) + entropy, the first s in pixel values
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
