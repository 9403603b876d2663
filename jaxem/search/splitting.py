"""Starting points from two halves of the images that show the template at different places.

Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.appearances import geometry_of
from jaxem.model.frames import by_channel
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, put_in_front
from jaxem.model.params import Params, to_pixel_values, with_all_axes, with_mean_pixels
from jaxem.model.workspace import ImageTotals
from jaxem.ops.batching import over_images
from jaxem.search.crops import Crops, strongest_windows, support_of

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
    geometry, noise = geometry_of(internal), crops.noise

    def alone(own: Any) -> CenteredImages:
        return images._replace(frames=images.frames.batch(jax.tree.map(lambda leaf: leaf[None], own)))

    def scaled(own: Any) -> jax.Array:
        one = alone(own)
        residuals, pixel_weights = one.residuals / noise[None], one.frames.pixel_weights
        residuals = residuals if pixel_weights is None else jnp.sqrt(pixel_weights) * residuals
        return jnp.where(jnp.isfinite(residuals), residuals, 0)[0]

    def one_pass(direction: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The next direction, of length one, and each image's share of this one, (K,)."""

        def one_image(own: Any) -> tuple[jax.Array, jax.Array]:
            pixels, count = scaled(own), alone(own).frames.counts(jnp.ones(1, noise.dtype))[0]
            score = jnp.sum(by_channel(pixels * direction))
            return count * score * pixels, score

        total, scores = over_images(one_image, images.frames.own, shards=images.frames.shards)
        length = jnp.sqrt(jnp.sum(by_channel(total**2), axis=0, keepdims=True))
        return total / jnp.where(length > 0, length, 1), scores

    # The image that differs most has a part of the direction.
    first = scaled(jax.tree.map(lambda leaf: leaf[0], images.frames.take(crops.numbers[:1]).own))
    nothing = jnp.zeros(len(crops.first), noise.dtype)
    _, scores = lax.fori_loop(0, NUM_POWER_ITERATIONS, lambda _, state: one_pass(state[0]), (first, nothing))

    is_high = (scores > 0).astype(scores.dtype)

    def add_moments(totals: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        score, high, count = inputs
        terms = jnp.stack([jnp.ones_like(score), score, score**2, high, high * score])
        return totals + jnp.where(count > 0, count * terms, 0), None

    counts = images.frames.counts(jnp.ones_like(scores))
    sums, _ = lax.scan(add_moments, jnp.zeros(5, scores.dtype), (scores, is_high, counts))
    _, mean, square, share, high_mean = sums / jnp.where(sums[0] > 0, sums[0], 1)
    # share (1 - share) times the squared distance of the two groups' means
    between = (high_mean - share * mean) ** 2
    is_split = between > SPLIT_VARIANCE_SHARE * (square - mean**2) * share * (1 - share)

    def shown_high(inputs: Any) -> tuple[tuple[jax.Array, jax.Array], None]:
        own, high = inputs
        one = alone(own)
        pixel_weights = one.frames.pixel_weights
        count = high * one.frames.counts(jnp.ones(1, noise.dtype))[0]
        weights = count * (jnp.ones((1, *geometry.image), noise.dtype) if pixel_weights is None else pixel_weights[0])
        return (jnp.where(weights > 0, weights * one.residuals[0], 0), weights), None

    both = images.frames.own, is_high
    (sum_high, weight_high), _ = over_images(shown_high, both, shards=images.frames.shards)
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
