"""Images whose pixels have a normal distribution each, whatever the noise is.

Source: ``docs/statistics.md``, *Detection test*.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.frames import Frames, moments_by_pixel


def normal_scores(frames: Frames) -> jax.Array:
    """The images with each pixel's values over the images replaced by normal scores, in the shape of the pixels.

    Laid on the mean image with one scale for all pixels. A pixel that never changes keeps its value.
    """
    pixels = frames.channels_first
    observed = jnp.isfinite(frames.observed(pixels, jnp.nan))
    counted = observed & (frames.counts(jnp.ones(len(pixels), pixels.dtype)) > 0)[:, None, None, None]
    mean, variances = moments_by_pixel(frames)
    changes = variances > 0
    scale = jnp.sqrt(jnp.sum(variances) / jnp.maximum(jnp.sum(changes.astype(variances.dtype)), 1))
    counts = jnp.sum(counted.astype(pixels.dtype), axis=0)
    ranks = _middle_ranks(jnp.where(counted, pixels, jnp.inf))
    shares = (ranks + 0.5) / jnp.maximum(counts, 1)[None]
    scores = jax.scipy.special.ndtri(jnp.clip(shares, 0.25 / len(pixels), 1 - 0.25 / len(pixels)))
    found = jnp.where(counted & changes[None], mean[None] + scale * scores, pixels)
    return jnp.moveaxis(found, 1, -1) if frames.pixels.ndim == 4 else found[:, 0]


def _middle_ranks(values: jax.Array) -> jax.Array:
    """Ranks along the first axis counted from 0, those of equal values their mean."""
    places = lax.broadcasted_iota(jnp.int32, values.shape, 0)
    ordered, order = lax.sort((values, places), dimension=0, num_keys=1)
    is_new = jnp.concatenate([jnp.ones_like(ordered[:1], bool), ordered[1:] != ordered[:-1]])
    is_last = jnp.concatenate([is_new[1:], jnp.ones_like(is_new[:1])])
    first = lax.cummax(jnp.where(is_new, places, 0), axis=0)
    last = lax.cummin(jnp.where(is_last, places, len(values)), axis=0, reverse=True)
    _, ranks = lax.sort((order, (first + last).astype(values.dtype) / 2), dimension=0, num_keys=1)
    return ranks
