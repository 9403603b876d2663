"""What is left of images when all that a model says of them is taken away: is it the noise that the model assumes?

Source: ``docs/statistics.md``, *Residual checks*.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

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


class ResidualSums(NamedTuple):
    """Sums over images, which add up to what `ResidualStatistics` are made of.

    =========  =========  ==============================================================================
    field      shape      meaning
    =========  =========  ==============================================================================
    moments    (5,)       powers 0 to 4 of all residuals
    down       (2,)       products of neighbours down the columns, and how many
    along      (2,)       the same along the rows
    following  (2,)       the same of pixels in one image and the next, as far as both are in one batch
    filtered   (2,)       squares of what the filter sees, and what they would be of white noise
    squares    (C, H, W)  of each pixel
    counts     (C, H, W)  in how many images it was observed
    =========  =========  ==============================================================================
    """

    moments: jax.Array
    down: jax.Array
    along: jax.Array
    following: jax.Array
    filtered: jax.Array
    squares: jax.Array
    counts: jax.Array

    @property
    def variance(self) -> jax.Array:
        """Of all residuals, ()."""
        return self.moments[2] / self.moments[0]

    @property
    def by_pixel(self) -> jax.Array:
        """The variance of each pixel, (C, H, W); zero where it was never observed."""
        return self.squares / jnp.where(self.counts > 0, self.counts, 1)

    @property
    def own_variance(self) -> jax.Array:
        """The same as squares are measured by, (C, H, W)."""
        return jnp.maximum(self.by_pixel, SMALLEST_SHARE_OF_VARIANCE * self.variance)

    @property
    def inflation(self) -> jax.Array:
        """See `ResidualStatistics`."""
        return self.filtered[0] / jnp.where(self.filtered[1] > 0, self.filtered[1], 1) / self.variance


class ResidualsByImage(NamedTuple):
    """Of each image, also of those that count for nothing: observed pixels, their sum, and that of squares, (K,)."""

    num_pixels: jax.Array
    total: jax.Array
    squares: jax.Array


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
    images, batch_size = workspace.images, workspace.batch_size
    everything, shards = (images.frames.own, where), images.frames.shards

    def whole(pieces: jax.Array) -> jax.Array:
        return unbatch(pieces, images.frames.num_images, shards)

    def first_pass(
        images: CenteredImages, params: Params, filters: jax.Array, both: Any, weights: jax.Array, _: None
    ) -> tuple[ResidualSums, ResidualsByImage]:
        batch = images._replace(frames=images.frames.batch(both[0]))
        # An image that the batch before has had is seen in pairs alone.
        return sum_residuals(batch, params, both[1], weights, jnp.ones_like(weights), filters, transforms)

    def second_pass(
        images: CenteredImages, params: Params, variances: jax.Array, both: Any, weights: jax.Array, _: None
    ) -> tuple[None, jax.Array]:
        batch = images._replace(frames=images.frames.batch(both[0]))
        return None, worst_windows(batch, params, both[1], jnp.ones_like(weights), variances, transforms)

    one = Partial(first_pass, images.of_none, params, filters_of(params))
    sums, by_image = over_batches(one, everything, batch_size, shards=shards)
    two = Partial(second_pass, images.of_none, params, sums.own_variance)
    _, edges = over_batches(two, everything, batch_size, shards=shards)
    return statistics_of(images, sums, jax.tree.map(whole, by_image), whole(edges))


def sum_residuals(
    batch: CenteredImages,
    params: Params,
    where: Hypotheses,
    weights: jax.Array,
    in_pairs: jax.Array,
    filters: jax.Array,
    transforms: tuple[str, ...],
) -> tuple[ResidualSums, ResidualsByImage]:
    """What a batch of n images adds, and what there is of each of them.

    Args:
        batch: the images.
        params: the model, in internal units.
        where: what is said of each image.
        weights: (n,), zero or one: whether an image counts.
        in_pairs: (n,), the same where the next image and the numbers of its own are concerned.
        filters: the `filters_of` the model.
        transforms: that templates may be under (static).
    """
    errors, seen = _standardized(batch, params, where, weights, transforms)
    paired, seen_paired = _standardized(batch, params, where, in_pairs, transforms)
    sums = ResidualSums(
        jnp.stack([jnp.sum(seen), *(jnp.sum(errors**power) for power in (1, 2, 3, 4))]),
        _products(errors[:, :, :-1], errors[:, :, 1:], seen[:, :, :-1] * seen[:, :, 1:]),
        _products(errors[..., :-1], errors[..., 1:], seen[..., :-1] * seen[..., 1:]),
        _products(paired[:-1], paired[1:], seen_paired[:-1] * seen_paired[1:]),
        _filtered(errors, seen, filters, params),
        jnp.sum(errors**2, axis=0),
        jnp.sum(seen, axis=0),
    )
    by_image = (jnp.sum(part, axis=(1, 2, 3)) for part in (seen_paired, paired, paired**2))
    return sums, ResidualsByImage(*by_image)


def worst_windows(
    batch: CenteredImages,
    params: Params,
    where: Hypotheses,
    weights: jax.Array,
    own_variance: jax.Array,
    transforms: tuple[str, ...],
) -> jax.Array:
    """`ResidualStatistics.edges` of a batch, (n,), by the variance of each pixel (C, H, W) over all images."""
    errors, seen = _standardized(batch, params, where, weights, transforms)
    return _worst_window(batch, errors**2 / own_variance[None], seen, params)


def statistics_of(
    images: CenteredImages, sums: ResidualSums, by_image: ResidualsByImage, edges: jax.Array
) -> ResidualStatistics:
    """Of all images, by the sums over them, and what there is of each."""
    num_pixels, _, _, third, fourth = sums.moments
    count, variance = by_image.num_pixels, sums.variance
    offsets = by_image.total / jnp.where(count > 0, count, 1)

    def correlation(products: jax.Array, of_offsets: jax.Array | float) -> jax.Array:
        return (products[0] / jnp.maximum(products[1], 1) - of_offsets) / variance

    def of_counted(values: jax.Array) -> jax.Array:
        return jnp.where(images.frames.counts(jnp.ones_like(values)) > 0, values, jnp.nan)

    return ResidualStatistics(
        num_pixels,
        third / num_pixels / variance**1.5,
        fourth / num_pixels / variance**2 - 3,
        correlation(sums.down, jnp.mean(offsets**2)),
        correlation(sums.along, jnp.mean(offsets**2)),
        correlation(sums.following, jnp.mean(offsets[1:] * offsets[:-1]) if len(offsets) > 1 else 0.0),
        sums.inflation,
        _channels_last(jnp.where(sums.counts > 0, sums.by_pixel, jnp.nan), images),
        of_counted(by_image.squares / jnp.where(count > 0, count, 1)),
        of_counted(offsets),
        of_counted(edges),
    )


def _standardized(
    batch: CenteredImages, params: Params, where: Hypotheses, weights: jax.Array, transforms: tuple[str, ...]
) -> tuple[jax.Array, jax.Array]:
    """Residuals (n, C, H, W) in units of their own noise, and which of them count."""
    errors = errors_at(batch, params, where, transforms) / jnp.sqrt(channel_variances(params))[None, :, None, None]
    pixel_weights = batch.frames.pixel_weights
    counted = (batch.frames.counts(weights) > 0)[:, None, None, None]
    counted = counted if pixel_weights is None else counted & (pixel_weights > 0)
    seen = jnp.broadcast_to(counted, errors.shape).astype(errors.dtype)
    errors = errors if pixel_weights is None else errors * jnp.sqrt(pixel_weights)
    return jnp.where(seen > 0, errors, 0), seen


def filters_of(params: Params) -> jax.Array:
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
