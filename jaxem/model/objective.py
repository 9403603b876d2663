"""What EM raises, from sums over images alone: no image is looked at here.

Derivations: ``docs/model.md``, *ELBO*; ``docs/numerics.md``, *Log likelihood*.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxem.model.images import CenteredImages, ImageTotals
from jaxem.model.likelihood import log_prior
from jaxem.model.params import Params
from jaxem.model.statistics import Expectation, LogLikelihoodRatio, SufficientStatistics
from jaxem.ops import double_word
from jaxem.ops.double_word import DoubleWord


def expected_sse(
    images: CenteredImages,
    totals: ImageTotals,
    statistics: SufficientStatistics,
    template: jax.Array,
    background: jax.Array,
) -> jax.Array:
    """C = sum_k sum_d q_k(d) |X_k - scene with the template at d|^2, over all pixels."""
    everywhere = background_sse(images, totals, background).high
    return everywhere + template_sse_change(images, totals, statistics, template, background)


def template_sse_change(
    images: CenteredImages,
    totals: ImageTotals,
    statistics: SufficientStatistics,
    template: jax.Array,
    background: jax.Array,
) -> jax.Array:
    """What the template adds to C: sum_k sum_d q_k(d) times the sum over its window of (X_k - F)^2 - (X_k - B)^2."""
    _, covered, template_sum, covered_sum = statistics
    behind = background * (2 * covered_sum + covered * (2 * images.mean_image - background))
    in_front = template * (totals.num_images * template - 2 * template_sum)
    return jnp.sum(behind) + jnp.sum(in_front)


def background_sse(images: CenteredImages, totals: ImageTotals, background: jax.Array) -> DoubleWord:
    """sum_k |X_k - B|^2, over all pixels.

    Sums along rows average their rounding out; the total of the rows is kept in twice the precision, since a thousandth
    of a nat is 1e-10 of it for large images.
    """
    num_images, residual_sum, square_sum = totals
    shift = background - images.mean_image
    rows = jnp.sum(shift * (num_images * shift - 2 * residual_sum), axis=1)
    return double_word.add(double_word.total(rows), square_sum)


def log_density(images: CenteredImages, totals: ImageTotals, params: Params, ratio: LogLikelihoodRatio) -> DoubleWord:
    """The log likelihood of the whole stack, in hard EM the log joint of the images and their best corners, nats.

    -KHW/2 ln(2 pi s^2) - [sum_k |X_k - B|^2 + sse_change] / (2 s^2) + log_prior + log_mass, the first s in pixel values
    """
    noise_scale = params.noise_scale
    sse = double_word.add(background_sse(images, totals, params.background), ratio.sse_change)
    noise = double_word.double_word(noise_scale)
    variance = double_word.multiply(noise, noise)

    size = jnp.full_like(noise_scale, params.background.size)
    num_pixels = double_word.multiply(double_word.double_word(totals.num_images), double_word.double_word(size))
    log_scale = double_word.scale(double_word.log(noise_scale * images.scale), 2)
    log_pixel = double_word.add(log_scale, double_word.constant(double_word.LN_2_PI, noise_scale.dtype))
    twice = double_word.add(double_word.multiply(num_pixels, log_pixel), double_word.divide(sse, variance))
    return double_word.add(double_word.scale(twice, -0.5), double_word.add(ratio.log_prior, ratio.log_mass))


def penalized(density: DoubleWord, penalty: jax.Array) -> DoubleWord:
    """Their sum; double words cannot carry the minus infinity that a penalty may be."""
    finite = jnp.isfinite(penalty)
    total = double_word.add(density, double_word.double_word(jnp.where(finite, penalty, 0)))
    return total._replace(high=jnp.where(finite, total.high, penalty))


def log_smoothing(prior: jax.Array, prior_smoothing: jax.Array) -> jax.Array:
    """(alpha / PQ) sum_d ln A(d), what prior smoothing adds to the objective; zero at alpha = 0, whatever A is."""
    return jnp.where(prior_smoothing > 0, prior_smoothing * jnp.mean(log_prior(prior)), 0)


def mean_entropy(images: CenteredImages, totals: ImageTotals, params: Params, expected: Expectation) -> jax.Array:
    """Entropy of the posteriors, nats an image: log evidence less expected log joint, both relative to N(X; B, s^2)."""
    statistics, ratio, _ = expected
    sse_change = ratio.sse_change.high - template_sse_change(
        images, totals, statistics, params.template, params.background
    )
    used = statistics.counts > 0
    expected_log_prior = jnp.sum(jnp.where(used, statistics.counts * log_prior(params.prior), 0))
    log_weight = ratio.log_prior.high + ratio.log_mass.high - expected_log_prior
    return jnp.maximum(log_weight - sse_change / (2 * params.noise_scale**2), 0) / totals.num_images


def visible_counts(covered: jax.Array, num_images: jax.Array) -> jax.Array:
    """Expected number of images that show the background at each pixel; zero where only rounding is left of it."""
    visible = num_images - covered
    return jnp.where(visible > 32 * jnp.finfo(covered.dtype).eps * num_images, visible, 0)
