"""What is left of images when all that a model says of them is taken away: is it the noise that the model assumes?

Source: ``docs/statistics.md``, *Residual checks*.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.model.appearances import geometry_of
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, channel_variances, errors_at
from jaxem.model.params import Params
from jaxem.model.workspace import Workspace
from jaxem.ops import fourier
from jaxem.ops.batching import over_batches, unbatch
from jaxem.ops.printing import short_repr
from jaxem.ops.windows import unroll, window_sums_in_stages

SMALLEST_SHARE_OF_VARIANCE = 0.01  # a pixel without noise of its own counts as if it had so much of the mean


class ResidualStatistics(NamedTuple):
    """Moments of the residuals in units of the noise scale, over observed pixels. White Gaussian noise has zeros.

    =================  ============  ====================================================================
    field              shape         meaning, unit
    =================  ============  ====================================================================
    num_pixels         ()            how many pixels were observed, in all channels
    skewness           ()            third moment
    kurtosis           ()            fourth moment less 3
    correlation_down   ()            correlation with the next pixel down the column, less the offsets' share
    correlation_along  ()            the same along the row
    correlation_next   ()            the same of a pixel in one image with itself in the next
    inflation          ()            variance of what the template as a filter sees of them over that of white noise
    by_pixel           (H, W) or     variance of each pixel over the images; one is as the model says
                       (H, W, C)
    by_image           (K,)          variance over the pixels of each image; NaN of those that count for nothing
    offsets            (K,)          mean over the pixels of each image, noise scale; NaN likewise
    edges              (K,)          of each image the worst window: the excess of its squares, in units of each
                                     pixel's own noise, over what noise gives, in standard deviations
    =================  ============  ====================================================================
    """

    num_pixels: jax.Array
    skewness: jax.Array
    kurtosis: jax.Array
    correlation_down: jax.Array
    correlation_along: jax.Array
    correlation_next: jax.Array
    inflation: jax.Array
    by_pixel: jax.Array
    by_image: jax.Array
    offsets: jax.Array
    edges: jax.Array

    def __repr__(self) -> str:
        return short_repr(self)


class _Sums(NamedTuple):
    """Sums over a batch, for `ResidualStatistics`."""

    moments: jax.Array  # (5,): powers 0 to 4
    down: jax.Array  # (2,): products of neighbours, and how many
    along: jax.Array
    following: jax.Array
    filtered: jax.Array  # (2,): squares of what the filter sees, and what they would be of white noise
    squares: jax.Array  # (C, H, W)
    counts: jax.Array


def residual_statistics(
    workspace: Workspace, params: Params, where: Hypotheses, transforms: tuple[str, ...]
) -> ResidualStatistics:
    """Of images and what is said of each, in two passes, to be traced.

    Args:
        workspace: the images.
        params: the model, in internal units.
        where: what is said of each image.
        transforms: that templates may be under (static).
    """
    images = workspace.images

    stands_out = _stands_out(params)

    def standardized(own: Any, where: Hypotheses, weights: jax.Array) -> tuple[CenteredImages, jax.Array, jax.Array]:
        """Residuals (n, C, H, W) in units of their own noise, and which of them count."""
        batch = images._replace(frames=images.frames.batch(own))
        errors = errors_at(batch, params, where, transforms) / jnp.sqrt(channel_variances(params))[None, :, None, None]
        pixel_weights = batch.frames.pixel_weights
        counted = (batch.frames.counts(weights) > 0)[:, None, None, None]
        counted = counted if pixel_weights is None else counted & (pixel_weights > 0)
        seen = jnp.broadcast_to(counted, errors.shape).astype(errors.dtype)
        errors = errors if pixel_weights is None else errors * jnp.sqrt(pixel_weights)
        return batch, jnp.where(seen > 0, errors, 0), seen

    def first_pass(both: Any, weights: jax.Array, __: None) -> tuple[_Sums, tuple[jax.Array, jax.Array, jax.Array]]:
        own, where = both
        errors, seen = standardized(own, where, weights)[1:]
        # An image that the batch before has had is seen in pairs alone.
        paired = standardized(own, where, jnp.ones_like(weights))[1:]
        sums = _Sums(
            jnp.stack([jnp.sum(seen), *(jnp.sum(errors**power) for power in (1, 2, 3, 4))]),
            _products(errors[:, :, :-1], errors[:, :, 1:], seen[:, :, :-1] * seen[:, :, 1:]),
            _products(errors[..., :-1], errors[..., 1:], seen[..., :-1] * seen[..., 1:]),
            _products(paired[0][:-1], paired[0][1:], paired[1][:-1] * paired[1][1:]),
            _filtered(errors, seen, stands_out, params),
            jnp.sum(errors**2, axis=0),
            jnp.sum(seen, axis=0),
        )
        count, total, squares = (jnp.sum(part, axis=(1, 2, 3)) for part in (paired[1], paired[0], paired[0] ** 2))
        return sums, (count, total, squares)

    everything, shards = (images.frames.own, where), images.frames.shards
    sums, by_image = over_batches(first_pass, everything, workspace.batch_size, shards=shards)
    count, total, squares = (unbatch(part, images.frames.num_images, shards) for part in by_image)
    num_pixels, _, second, third, fourth = sums.moments
    variance = second / num_pixels
    by_pixel = sums.squares / jnp.where(sums.counts > 0, sums.counts, 1)
    own_variance = jnp.maximum(by_pixel, SMALLEST_SHARE_OF_VARIANCE * variance)

    def second_pass(both: Any, weights: jax.Array, _: None) -> tuple[None, jax.Array]:
        own, where = both
        batch, errors, seen = standardized(own, where, jnp.ones_like(weights))
        return None, _worst_window(batch, errors**2 / own_variance[None], seen, params)

    offsets = total / jnp.where(count > 0, count, 1)

    def correlation(products: jax.Array, of_offsets: jax.Array | float) -> jax.Array:
        return (products[0] / jnp.maximum(products[1], 1) - of_offsets) / variance

    def of_counted(values: jax.Array) -> jax.Array:
        return jnp.where(images.frames.counts(jnp.ones_like(values)) > 0, values, jnp.nan)

    _, edges = over_batches(second_pass, everything, workspace.batch_size, shards=shards)
    return ResidualStatistics(
        num_pixels,
        third / num_pixels / variance**1.5,
        fourth / num_pixels / variance**2 - 3,
        correlation(sums.down, jnp.mean(offsets**2)),
        correlation(sums.along, jnp.mean(offsets**2)),
        correlation(sums.following, jnp.mean(offsets[1:] * offsets[:-1]) if len(offsets) > 1 else 0.0),
        sums.filtered[0] / jnp.where(sums.filtered[1] > 0, sums.filtered[1], 1) / variance,
        _channels_last(jnp.where(sums.counts > 0, by_pixel, jnp.nan), images),
        of_counted(squares / jnp.where(count > 0, count, 1)),
        of_counted(offsets),
        of_counted(unbatch(edges, images.frames.num_images, shards)),
    )


def _stands_out(params: Params) -> jax.Array:
    """The templates less the mean of the background under them, in units of the noise, (M, C, h, w)."""
    geometry = geometry_of(params)
    behind = window_sums_in_stages(unroll(params.background, geometry), geometry.positions)
    behind = behind / math.prod(geometry.positions)
    found = (params.template - behind[None]) / jnp.sqrt(channel_variances(params))[None, :, None, None]
    return found if params.opacity is None else params.opacity * found


def _filtered(errors: jax.Array, seen: jax.Array, filters: jax.Array, params: Params) -> jax.Array:
    geometry = geometry_of(params)
    shape = geometry.image

    def correlated(images: jax.Array, filters: jax.Array) -> jax.Array:
        spectra = fourier.transform_pairs(images, shape)
        found = fourier.correlate_pairs(spectra, fourier.transform_template(filters, shape))
        return fourier.pairs_of(found, geometry.positions)[: len(images)]

    return jnp.stack([jnp.sum(correlated(errors, filters) ** 2), jnp.sum(correlated(seen, filters**2))])


def _channels_last(by_pixel: jax.Array, images: CenteredImages) -> jax.Array:
    return jnp.moveaxis(by_pixel, 0, -1) if images.frames.pixels.ndim == 4 else by_pixel[0]


def _products(one: jax.Array, other: jax.Array, seen: jax.Array) -> jax.Array:
    return jnp.stack([jnp.sum(one * other * seen), jnp.sum(seen)])


def _worst_window(batch: CenteredImages, squares: jax.Array, seen: jax.Array, params: Params) -> jax.Array:
    """Of each image the largest excess of a window's squares over how many they are, in standard deviations, (n,)."""
    geometry = geometry_of(params)
    totals = batch.window_sums(jnp.sum(squares * seen, axis=1), geometry)
    counts: jax.Array | float = math.prod((*geometry.template, squares.shape[1]))
    if batch.frames.pixel_weights is not None:
        counts = jnp.maximum(batch.window_sums(jnp.sum(seen, axis=1), geometry), 1)
    excess = (totals - counts) / jnp.sqrt(2 * jnp.asarray(counts, totals.dtype))
    return jnp.max(excess.reshape(len(excess), -1), axis=1)
