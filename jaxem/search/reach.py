"""Where in its template an object must be so that its windows lie inside the images wherever it is seen.

Source: ``docs/search.md``, *Recentring*.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.signal import fftconvolve

from jaxem.model.appearances import geometry_of
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import channel_variances
from jaxem.model.params import Params
from jaxem.ops.batching import over_images

# A row of the template shows something where its sum of squares is so many standard deviations above that of noise.
ROW_SPREADS = 4.0
# Nats that a shift must promise.
LEAST_GAIN = 5.0


def reachable_shift(images: CenteredImages, internal: Params, squares: jax.Array) -> jax.Array:
    """By how many rows and columns to shift the window of the only template, (2,) int32; zero where none promises more.

    The template is reduced to the rows and columns that show an object, and looked for everywhere, also where its
    window would hang over an edge. Each shift allows other places to the object; the one whose best places add up to
    the highest log odds is chosen.

    Args:
        images: the images.
        internal: the parameters, in internal units; one template without a support, windows inside the images.
        squares: what each pixel of the template gains over the background, (h, w), times the variance of noise.
    """
    geometry, template = geometry_of(internal), internal.template[0]
    height, width = geometry.template
    variances = channel_variances(internal)[:, None, None]
    shows = squares / jnp.mean(variances)
    num_channels = len(template)
    rows, columns = (
        jnp.sum(shows, axis=axis) > num_channels * size + ROW_SPREADS * (2 * num_channels * size) ** 0.5
        for axis, size in ((1, width), (0, height))
    )
    (first_row, last_row), (first_column, last_column) = _ends(rows), _ends(columns)
    inside = ((jnp.arange(height) >= first_row) & (jnp.arange(height) <= last_row))[:, None]
    inside = inside & ((jnp.arange(width) >= first_column) & (jnp.arange(width) <= last_column))[None]
    core = inside.astype(template.dtype)[None]
    kernels = jnp.concatenate(
        [core * template / variances, core, core * jnp.sum(template**2 / variances, axis=0, keepdims=True) / 2]
    )
    margins = [(0, 0), (height - 1, height - 1), (width - 1, width - 1)]
    background = internal.background

    def of_one(own: Any) -> tuple[jax.Array, None]:
        batch = images._replace(frames=images.frames.batch(jax.tree.map(lambda leaf: leaf[None], own)))
        pixels, pixel_weights = batch.residuals[0] + images.mean_image, batch.frames.pixel_weights
        weights = jnp.ones_like(pixels[:1]) if pixel_weights is None else pixel_weights[0]
        pixels = jnp.where(weights > 0, pixels, 0)
        behind = jnp.sum(background * (background / 2 - pixels) / variances, axis=0, keepdims=True)
        maps = jnp.pad(jnp.concatenate([weights * pixels, weights * behind, -weights]), margins)
        log_odds = jnp.sum(jax.vmap(_correlate)(maps, kernels), axis=0)
        highest = lax.reduce_window(log_odds, -jnp.inf, lax.max, geometry.positions, (1, 1), "VALID")
        if internal.absent is not None:
            highest = jnp.maximum(highest, 0)
        count = batch.frames.counts(jnp.ones(1, pixels.dtype))[0]
        return jnp.where(count > 0, count * highest, 0), None

    gains, _ = over_images(of_one, images.frames.own, shards=images.frames.shards)
    gains = gains[::-1, ::-1]  # by shifts from 1 - h and 1 - w on
    down, right = jnp.arange(1 - height, height), jnp.arange(1 - width, width)
    keeps = ((down <= first_row) & (down >= last_row - height + 1) & (abs(down) <= height // 2))[:, None]
    keeps = keeps & ((right <= first_column) & (right >= last_column - width + 1) & (abs(right) <= width // 2))[None]
    here = gains[height - 1, width - 1]
    gains = jnp.where(keeps, gains, -jnp.inf)
    shift = jnp.stack(jnp.unravel_index(jnp.argmax(gains), gains.shape)) - jnp.array([height - 1, width - 1])
    return jnp.where(jnp.max(gains) > here + LEAST_GAIN, shift, 0).astype(jnp.int32)


def _ends(shown: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first and the last that is true; all of them where none is."""
    last = len(shown) - 1
    first = jnp.argmax(shown)
    return jnp.where(shown[first], first, 0), jnp.where(shown[first], last - jnp.argmax(shown[::-1]), last)


def _correlate(image: jax.Array, kernel: jax.Array) -> jax.Array:
    return fftconvolve(image, kernel[::-1, ::-1], mode="valid")
