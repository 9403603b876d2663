"""What every iteration on a stack shares: centred images, their transforms, and sums that no parameter enters.

Derivations: ``docs/numerics.md``, *Centred images*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.model.frames import Frames, PixelMoments, pixel_moments, sum_over_images
from jaxem.model.images import CenteredImages, Spectra
from jaxem.ops import double_word, fourier
from jaxem.ops.batching import over_batches
from jaxem.ops.double_word import DoubleWord


class ImageTotals(NamedTuple):
    """Sums over all images that no parameter enters; images and pixels as often as they count.

    ============  ============================  ===================  ===============================================
    field         formula                       shape                meaning
    ============  ============================  ===================  ===============================================
    num_images    K                             ()                   how many images
    residual_sum  Y = sum_k rho_k R_k           (C, H, W)            all residuals
    square_sum    sum_k sum_r rho_k(r) R_k(r)^2 `DoubleWord` (C,)    their squares
    num_pixels    KHW                           `DoubleWord` ()      how many pixels were observed, in each channel
    weight_sum    sum_k rho_k                   (H, W) or None       the pixels' weights; None: all are one
    log_weight    1/2 sum_k sum_r ln rho_k(r)   `DoubleWord` ()      what they add to the log density in each
                                                or None              channel; None: all are one
    ============  ============================  ===================  ===============================================
    """

    num_images: jax.Array
    residual_sum: jax.Array
    square_sum: DoubleWord
    num_pixels: DoubleWord
    weight_sum: jax.Array | None
    log_weight: DoubleWord | None

    @property
    def total_weight(self) -> jax.Array:
        """How much each pixel counts in all images together, (1, H, W) or ()."""
        return self.num_images if self.weight_sum is None else self.weight_sum[None]


def center(frames: Frames, batch_size: int | None = None) -> CenteredImages:
    """Split the images into offset, scale, mean image and residuals, a batch at a time."""
    batch_size = frames.num_in_shard if batch_size is None else batch_size
    return center_about(pixel_moments(frames, batch_size), frames, batch_size)


class MeanSums(NamedTuple):
    """What images add to the mean image: sums over images, as often as they count.

    ===========  =================  ===================================================================
    field        shape              meaning
    ===========  =================  ===================================================================
    pixels       (C, H, W)          weighted pixels less the offset, in units of the scale
    own_weights  (H, W) or None     their own weights; None: they are shared
    num_images   () or None         how many images; None: as many as there are
    ===========  =================  ===================================================================
    """

    pixels: jax.Array
    own_weights: jax.Array | None
    num_images: jax.Array | None


def center_about(moments: PixelMoments, frames: Frames, batch_size: int) -> CenteredImages:
    """`center`, where the moments of the pixels are known."""

    def one_batch(own: Any, weights: jax.Array, _: None) -> tuple[MeanSums, None]:
        return mean_sums(moments, frames.batch(own), weights), None

    sums, _ = over_batches(one_batch, frames.own, batch_size, shards=frames.shards)
    return center_by(moments, frames, sums, frames.num_images)


def mean_sums(moments: PixelMoments, batch: Frames, weights: jax.Array) -> MeanSums:
    """What a batch adds to the mean image; an image of weight (n,) zero adds nothing."""
    offset, scale = moments.mean, moments.scale
    pixels = batch.observed((batch.channels_first - offset[None, :, None, None]) * (1 / scale))
    counts = batch.counts(weights)
    if batch.frame_weights is not None:  # what does not count may hold anything
        pixels = jnp.where((counts > 0)[:, None, None, None], pixels, 0)
    total = sum_over_images(batch.weighted(pixels), counts)
    own_weights = None if batch.weights is None else sum_over_images(batch.weights, counts)
    return MeanSums(total, own_weights, None if batch.frame_weights is None else jnp.sum(counts))


def center_by(moments: PixelMoments, frames: Frames, sums: MeanSums, num_images: int) -> CenteredImages:
    """Images about the mean image that sums over all of them, so many, make."""
    _, scale, mean_square, lowest, highest = moments
    total, own_weights, counted = sums
    count = num_images if counted is None else jnp.where(counted > 0, counted, 1)
    mean_weights = frames.shared_weights if own_weights is None else own_weights / count
    # Sums of squares carry a relative error eps, pixels carry eps times their size; less noise than that is invisible.
    eps = jnp.finfo(frames.pixels.dtype).eps
    floor = eps * mean_square + (eps * jnp.maximum(jnp.abs(lowest), jnp.abs(highest)) / scale) ** 2
    floor = jnp.where(floor == 0, eps * eps, floor)
    mean_image = total / count
    if mean_weights is not None:
        seen = mean_weights > 0
        mean_image = jnp.where(seen[None], mean_image / jnp.where(seen, mean_weights, 1)[None], 0)
        floor = floor * jnp.sum(mean_weights) / jnp.maximum(jnp.sum(seen, dtype=floor.dtype), 1)
    limits = None if frames.frame_weights is None else (lowest, highest)
    return CenteredImages(frames, mean_image, mean_weights, moments.mean, scale, floor, limits)


def total_up(images: CenteredImages, weights: jax.Array | None = None) -> ImageTotals:
    """The totals of all images, or of those whose weight (K,) is one and not zero."""
    frames, residuals = images.frames, images.residuals
    counts = frames.counts(jnp.ones(frames.num_images, residuals.dtype) if weights is None else weights)
    weighted = frames.weighted(residuals)
    # Rounding averages out over the rows; only their total needs care. Masked, since XLA would make a bare sum of
    # products one long chain of additions, in which squares of whole numbers all round the same way.
    rows = jnp.sum(frames.observed(residuals * weighted), axis=-1) * counts[:, None, None]
    square_sum = double_word.total(jnp.moveaxis(rows, 1, 0).reshape(rows.shape[1], -1))
    num_images, pixel_weights = jnp.sum(counts), frames.pixel_weights
    if pixel_weights is None:
        size = jnp.full_like(num_images, residuals[0, 0].size)
        num_pixels = double_word.multiply(double_word.double_word(num_images), double_word.double_word(size))
        return ImageTotals(num_images, sum_over_images(weighted, counts), square_sum, num_pixels, None, None)
    pixel_weights = jnp.broadcast_to(pixel_weights, (frames.num_images, 1, *frames.image_shape))[:, 0]
    observed = (pixel_weights > 0).astype(residuals.dtype)
    log_weights = jnp.log(jnp.where(pixel_weights > 0, pixel_weights, 1)) / 2
    num_pixels, log_weight = (
        double_word.total((jnp.sum(terms, axis=-1) * counts[:, None]).reshape(1, -1))
        for terms in (observed, log_weights)
    )
    return ImageTotals(
        num_images,
        sum_over_images(weighted, counts),
        square_sum,
        jax.tree.map(lambda part: part[0], num_pixels),
        sum_over_images(pixel_weights, counts),
        jax.tree.map(lambda part: part[0], log_weight),
    )


class Workspace(NamedTuple):
    """What every iteration on a stack shares, made once.

    =======  =====================================================================================================
    field    meaning
    =======  =====================================================================================================
    images   the `CenteredImages`, with spectra of pairs of them, (number of batches, batch size / 2, C, W, H)
    totals   their `ImageTotals`
    moments  the `PixelMoments` they were centred by
    =======  =====================================================================================================
    """

    images: CenteredImages
    totals: ImageTotals
    moments: PixelMoments

    @property
    def batch_size(self) -> int:
        """Images of a batch, in all passes the same."""
        assert self.images.spectra is not None
        return min(2 * self.images.spectra.pairs.shape[1], self.images.frames.num_in_shard)


def make_workspace(frames: Frames, batch_size: int) -> Workspace:
    """Centre the images, and make totals and spectra of them in batches that all later passes keep to."""
    batch_size = min(batch_size + batch_size % 2, frames.num_in_shard)
    moments = pixel_moments(frames, batch_size)
    centered = with_spectra_of_mean(center_about(moments, frames, batch_size))

    def one_batch(own: Any, weights: jax.Array, _: None) -> tuple[ImageTotals, tuple[jax.Array, jax.Array | None]]:
        batch = with_own_spectra(centered._replace(frames=frames.batch(own)))
        assert batch.spectra is not None
        return total_up(batch, weights), (batch.spectra.pairs, batch.spectra.weight_pairs)

    totals, (pairs, weight_pairs) = over_batches(one_batch, frames.own, batch_size, shards=frames.shards)
    assert centered.spectra is not None
    spectra = centered.spectra._replace(pairs=pairs, weight_pairs=weight_pairs)
    return Workspace(centered._replace(spectra=spectra), totals, moments)


def with_spectra_of_mean(images: CenteredImages) -> CenteredImages:
    """Images with the transforms that they share, to be used a batch at a time: see `with_own_spectra`."""
    shape = images.image_shape
    mean_image = fourier.transform_pairs(images.weighted_mean_image[None], shape)
    mean_weights = None
    if images.mean_weights is not None:
        mean_weights = fourier.transform_pairs(images.mean_weights[None, None], shape)
    return images._replace(spectra=Spectra(mean_image[:0], mean_image, None, mean_weights))


def with_own_spectra(batch: CenteredImages) -> CenteredImages:
    """A batch of images with transforms of its own beside those that all share."""
    assert batch.spectra is not None
    deviations = batch.weight_deviations
    pairs = fourier.transform_pairs(batch.weighted_residuals, batch.image_shape)
    weight_pairs = None if deviations is None else fourier.transform_pairs(deviations, batch.image_shape)
    return batch._replace(spectra=batch.spectra._replace(pairs=pairs, weight_pairs=weight_pairs))
