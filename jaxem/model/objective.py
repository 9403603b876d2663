"""What EM raises, from sums over images alone: no image is looked at here.

Derivations: ``docs/model.md``, *ELBO*; ``docs/numerics.md``, *Log likelihood*.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import log_prior
from jaxem.model.params import Params, pseudo_counts
from jaxem.model.statistics import LogLikelihoodRatio, SufficientStatistics
from jaxem.model.workspace import ImageTotals
from jaxem.ops import double_word
from jaxem.ops.double_word import DoubleWord


def expected_sse(
    images: CenteredImages,
    totals: ImageTotals,
    statistics: SufficientStatistics,
    template: jax.Array,
    background: jax.Array,
    opacity: jax.Array | None,
) -> jax.Array:
    """C = sum_k sum_d q_k(d) sum_r rho_k(r) |X_k - scene with the template at d|^2, of each channel, (C,)."""
    everywhere = background_sse(images, totals, background).high
    return everywhere + template_sse_change(images, totals, statistics, template, background, opacity)


def template_sse_change(
    images: CenteredImages,
    totals: ImageTotals,
    statistics: SufficientStatistics,
    template: jax.Array,
    background: jax.Array,
    opacity: jax.Array | None,
) -> jax.Array:
    """What templates add to that: sum_k sum_d q_k(d) times the sum of rho ((X_k - F)^2 - (X_k - B)^2) over a window."""
    _, _, template_weight, template_sum, covered_weight, covered_sum = statistics
    weight = totals.num_images if template_weight is None else template_weight[:, None]
    behind = background * (2 * covered_sum + covered_weight[None] * (2 * images.mean_image - background))
    in_front = template * (weight * template - 2 * template_sum)
    in_front = in_front if opacity is None else opacity * in_front
    return jnp.sum(behind, axis=(1, 2)) + jnp.sum(in_front, axis=(0, 2, 3))


def background_sse(images: CenteredImages, totals: ImageTotals, background: jax.Array) -> DoubleWord:
    """sum_k rho_k |X_k - B|^2, over all pixels of each channel, (C,).

    Sums along rows average their rounding out; the total of the rows is kept in twice the precision, since a thousandth
    of a nat is 1e-10 of it for large images.
    """
    shift = background - images.mean_image
    # Two products, since XLA would add up a single one in one long chain.
    rows = jnp.sum(totals.total_weight * shift**2 - 2 * shift * totals.residual_sum, axis=2)
    return double_word.add(double_word.total(rows), totals.square_sum)


def log_density(images: CenteredImages, totals: ImageTotals, params: Params, ratio: LogLikelihoodRatio) -> DoubleWord:
    """The log likelihood of the whole stack, in hard EM the log joint of the images and their best hypotheses, nats.

    -KHW/2 ln(2 pi s^2) - [sum_k |X_k - B|^2 + sse_change] / (2 s^2) + log_prior + log_mass, the first s in pixel values
    """
    noise_scale = jnp.broadcast_to(params.noise_scale, params.background.shape[:1])
    sse = double_word.add(background_sse(images, totals, params.background), ratio.sse_change)
    noise = double_word.double_word(noise_scale)
    variance = double_word.multiply(noise, noise)

    num_pixels = jax.tree.map(lambda part: jnp.broadcast_to(part, noise_scale.shape), totals.num_pixels)
    log_scale = double_word.scale(double_word.log(noise_scale * images.scale), 2)
    log_pixel = double_word.add(log_scale, double_word.constant(double_word.LN_2_PI, noise_scale.dtype))
    twice = double_word.add(double_word.multiply(num_pixels, log_pixel), double_word.divide(sse, variance))
    if totals.log_weight is not None:
        log_weight = jax.tree.map(lambda part: jnp.broadcast_to(part, noise_scale.shape), totals.log_weight)
        twice = double_word.subtract(twice, double_word.scale(log_weight, 2))
    density = double_word.scale(double_word.over_entries(twice), -0.5)
    return double_word.add(density, double_word.add(ratio.log_prior, ratio.log_mass))


def penalized(density: DoubleWord, penalty: jax.Array) -> DoubleWord:
    """Their sum; double words cannot carry the minus infinity that a penalty may be."""
    finite = jnp.isfinite(penalty)
    total = double_word.add(density, double_word.double_word(jnp.where(finite, penalty, 0)))
    return total._replace(high=jnp.where(finite, total.high, penalty))


def log_smoothing(params: Params, prior_smoothing: jax.Array) -> jax.Array:
    """ln A times pseudo-counts, summed, what smoothing adds to the objective; zero without, whatever A is."""
    per_corner, for_absence = pseudo_counts(params, prior_smoothing)
    total = per_corner * jnp.sum(log_prior(params.prior))
    if params.absent is not None:
        total = total + for_absence * log_prior(params.absent)
    return jnp.where(prior_smoothing > 0, total, 0)


def visible_weight(covered: jax.Array, total: jax.Array) -> jax.Array:
    """Expected weight with which images show the background at each pixel; zero where only rounding is left of it."""
    visible = total - covered
    return jnp.where(visible > 32 * jnp.finfo(covered.dtype).eps * total, visible, 0)


def seen_weight(weight: jax.Array) -> jax.Array:
    """Expected weight under each template's pixels, (M, h, w); zero where only rounding is left of it.

    Each template has transforms of its own, so rounding is as its own weight, and more where numbers end.
    """
    info, most = jnp.finfo(weight.dtype), jnp.max(weight, axis=(1, 2), keepdims=True)
    return jnp.where(weight > jnp.maximum(32 * info.eps * most, info.tiny / info.eps), weight, 0)
