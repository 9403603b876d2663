"""Starting points from two halves of the images that show the template at different places.

Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.appearances import geometry_of
from jaxem.model.frames import FRAMES_PER_PASS, sum_over_images
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, put_in_front
from jaxem.model.params import Params, to_pixel_values, with_all_axes, with_mean_pixels
from jaxem.model.workspace import ImageTotals
from jaxem.ops.batching import over_batches, unbatch
from jaxem.search.crops import Crops, pixel_noise, strongest_windows, support_of

NUM_POWER_ITERATIONS = 12
NUM_WINDOWS = 2
# Of Gaussian scores 2 / pi of the variance lies between those above the mean and those below; of a template with two or
# three places more than this.
SPLIT_VARIANCE_SHARE = 0.74


def split_params(images: CenteredImages, totals: ImageTotals, crops: Crops, blank: Params) -> tuple[Params, jax.Array]:
    """Four starting points, stacked, in the shapes of others, and whether the images fall into two groups at all.

    The images are split by the sign of their first principal component, in units of each pixel's noise. Where the means
    of the two parts differ most, one shows the template and the other what is behind it; the two strongest windows of
    the difference, each both ways round, are starts.
    """
    internal = with_all_axes(blank)
    geometry, noise, batch_size = geometry_of(internal), pixel_noise(images), min(FRAMES_PER_PASS, len(crops.first))

    def scaled(batch: CenteredImages) -> jax.Array:
        residuals, pixel_weights = batch.residuals / noise[None], batch.frames.pixel_weights
        residuals = residuals if pixel_weights is None else jnp.sqrt(pixel_weights) * residuals
        return jnp.where(jnp.isfinite(residuals), residuals, 0)

    def one_pass(direction: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Each image's share of a direction (K,), and the next direction, of length one."""

        def one_batch(own: Any, weights: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            batch = images._replace(frames=images.frames.batch(own))
            pixels = scaled(batch)
            scores = jnp.matmul(pixels.reshape(len(pixels), -1), direction.ravel(), precision=lax.Precision.HIGHEST)
            return sum_over_images(pixels, scores * batch.frames.counts(weights)), scores

        total, scores = over_batches(one_batch, images.frames.own, batch_size)
        length = jnp.sqrt(jnp.sum(total**2))
        return total / jnp.where(length > 0, length, 1), unbatch(scores, len(crops.first))

    number = crops.numbers[0]  # of the image that differs most, which has a part of the direction
    first = images._replace(
        frames=images.frames.batch(jax.tree.map(lambda leaf: leaf[number][None], images.frames.own))
    )
    nothing = jnp.zeros(len(crops.first), noise.dtype)
    _, scores = lax.fori_loop(0, NUM_POWER_ITERATIONS, lambda _, state: one_pass(state[0]), (scaled(first)[0], nothing))

    counts = images.frames.counts(jnp.ones_like(scores))
    is_high = (scores > 0).astype(scores.dtype)
    share = jnp.sum(counts * is_high) / totals.num_images
    between = share * (1 - share) * (_mean(scores, counts * is_high) - _mean(scores, counts * (1 - is_high))) ** 2
    variance = _mean(scores**2, counts) - _mean(scores, counts) ** 2
    is_split = between > SPLIT_VARIANCE_SHARE * variance

    def add_high(own: Any, weights: jax.Array, _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        (frames, high), batch = own, images
        batch = images._replace(frames=images.frames.batch(frames))
        chosen, pixel_weights = batch.frames.counts(weights) * high, batch.frames.pixel_weights
        ones = jnp.ones((len(high), 1, *images.image_shape), noise.dtype)
        residuals, one = batch.residuals, ones if pixel_weights is None else ones * pixel_weights
        return (sum_over_images(jnp.where(one > 0, one * residuals, 0), chosen), sum_over_images(one, chosen)), None

    (sum_high, weight_high), _ = over_batches(add_high, (images.frames.own, is_high), batch_size)
    sum_low, weight_low = totals.residual_sum - sum_high, totals.total_weight - weight_high
    high, low = (
        images.mean_image + jnp.where(weight > 0, total, 0) / jnp.where(weight > 0, weight, 1)
        for total, weight in ((sum_high, weight_high), (sum_low, weight_low))
    )
    reach = tuple(-(-size // 2) for size in geometry.template)
    squares = ((high - low) / noise) ** 2
    _, corners = strongest_windows(squares, geometry, support_of(internal), NUM_WINDOWS, reach)
    noise_scale = jnp.sqrt(jnp.sum(totals.square_sum.high) / (totals.num_pixels.high * len(noise)))

    def start(number: jax.Array) -> Params:
        corner = corners[number // 2][None]
        shown, behind = (
            images.gather(jnp.where(number % 2 == which, high, low)[None], corner, geometry) for which in (0, 1)
        )
        background = put_in_front(images.mean_image[None], behind, None, Hypotheses(corner), geometry)[0]
        scale = jnp.broadcast_to(noise_scale, blank.noise_scale.shape)
        found = internal._replace(template=shown, background=background, noise_scale=scale)
        return to_pixel_values(found, images, with_mean_pixels(blank, images))

    return jax.vmap(start)(jnp.arange(2 * NUM_WINDOWS)), is_split


def _mean(values: jax.Array, counts: jax.Array) -> jax.Array:
    total = jnp.sum(counts)
    return jnp.sum(jnp.where(counts > 0, counts * values, 0)) / jnp.where(total > 0, total, 1)
