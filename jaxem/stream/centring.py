"""The first pass: moments of all pixels and the mean image, by which all later passes centre the frames.

What a chunk adds comes from the formulas of `model`, about its own mean and in units of its own scale. Chunks are put
together on the host and in float64, by the update of Chan, Golub and LeVeque (1983), *Algorithms for computing the
sample variance*, Amer. Statist. 37: whatever the first chunk holds, no square overflows or vanishes.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.frames import Frames, PixelMoments, counted_pixels, pixel_moments
from jaxem.model.images import CenteredImages
from jaxem.model.workspace import MeanSums, center_by, mean_sums, with_spectra_of_mean
from jaxem.ops.batching import over_batches
from jaxem.runtime.compilation import jit
from jaxem.stream.chunks import in_dtype
from jaxem.stream.passes import Passes


class StackMoments(NamedTuple):
    """Of some of the frames, in float64 on the host; of channels that hold nothing finite it is zero.

    ===========  =================  ============================================================================
    field        shape              meaning, unit
    ===========  =================  ============================================================================
    num_pixels   (C,)               pixels that count
    mean         (C,)               their mean, pixel value
    variance     (C,)               mean square of their distance from it, pixel value squared
    distance     ()                 about their mean distance from it, at least that, pixel value
    lowest       (C,)               the lowest of them, pixel value
    highest      (C,)               the highest of them, pixel value
    offset       (C,)               what was taken off the pixels of the mean image, pixel value
    pixels       (C, H, W)          weighted sum over the frames of the pixels less the offset, pixel value
    weights      (1, H, W)          what they weigh there together
    own_weights  (H, W) or None     sum of the frames' own weights; None: they are shared
    num_images   ()                 frames, as often as they count
    ===========  =================  ============================================================================
    """

    num_pixels: Any
    mean: Any
    variance: Any
    distance: Any
    lowest: Any
    highest: Any
    offset: Any
    pixels: Any
    weights: Any
    own_weights: Any
    num_images: Any


def stack_moments(passes: Passes, batch_size: int) -> StackMoments:
    """Of all frames, in one pass."""
    return passes.run(partial(moments_of_chunk, batch_size=batch_size), passes.stream.nothing(), merge, look=True)


def moments_of_chunk(nothing: Frames, own: Any, counts: Any, batch_size: int) -> tuple[StackMoments, None]:
    """Of a chunk; there is nothing for each of its frames."""
    moments, count, sums = jax.device_get(_measure(nothing, own, counts, batch_size=batch_size))
    scale = np.float64(moments.scale)
    variance = scale**2 * moments.mean_square.astype(np.float64)
    offset, pixels = moments.mean.astype(np.float64), scale * sums.pixels.astype(np.float64)
    num_images = np.float64(sums.num_images)
    weights: Any = num_images
    if sums.own_weights is not None:
        weights = sums.own_weights.astype(np.float64)
    elif nothing.shared_weights is not None:
        weights = num_images * np.asarray(nothing.shared_weights, np.float64)
    return StackMoments(
        count.astype(np.float64),
        offset,
        np.where(count > 0, variance, 0),
        scale if np.any(variance > 0) else np.float64(0),
        moments.lowest.astype(np.float64),
        moments.highest.astype(np.float64),
        offset,
        pixels,
        np.broadcast_to(weights, (1, *pixels.shape[1:])),
        None if sums.own_weights is None else weights,
        num_images,
    ), None


@partial(jit, static_argnames="batch_size")
def _measure(nothing: Frames, own: Any, counts: jax.Array, batch_size: int) -> tuple[PixelMoments, jax.Array, MeanSums]:
    """Of a chunk, how many pixels count in each channel, and what it adds to the mean image."""
    frames = in_dtype(nothing, own)
    frames = frames._replace(frame_weights=frames.counts(counts))
    moments = pixel_moments(frames, batch_size)

    def one_batch(own: Any, weights: jax.Array, _: None) -> tuple[tuple[jax.Array, MeanSums], None]:
        batch = frames.batch(own)
        counted = jnp.sum(counted_pixels(batch, weights), axis=(0, 2, 3), dtype=jnp.int32)
        return (counted, mean_sums(moments, batch, weights)), None

    (count, sums), _ = over_batches(one_batch, frames.own, batch_size)
    return moments, count, sums


def merge(one: StackMoments, other: StackMoments) -> StackMoments:
    """Of the frames of both."""
    count = one.num_pixels + other.num_pixels
    shares = [np.where(count > 0, part.num_pixels / np.maximum(count, 1), 0) for part in (one, other)]
    mean = shares[0] * one.mean + shares[1] * other.mean
    off = [np.where(part.num_pixels > 0, part.mean - mean, 0) for part in (one, other)]
    parts = list(zip(shares, (one, other), off, strict=True))
    total = max(count.sum(), 1)
    # No more than the sum of both distances, which is near enough for a unit.
    distance = sum(
        part.num_pixels.sum() / total * part.distance + (part.num_pixels * np.abs(apart)).sum() / total
        for _, part, apart in parts
    )
    beside = (other.offset - one.offset)[:, None, None]
    return StackMoments(
        count,
        mean,
        sum(share * (part.variance + apart**2) for share, part, apart in parts),
        distance,
        np.minimum(one.lowest, other.lowest),
        np.maximum(one.highest, other.highest),
        one.offset,
        one.pixels + other.pixels + beside * other.weights,
        one.weights + other.weights,
        None if one.own_weights is None else one.own_weights + other.own_weights,
        one.num_images + other.num_images,
    )


def centred_by(found: StackMoments, nothing: Frames, num_images: int) -> tuple[CenteredImages, PixelMoments]:
    """No frames yet, but what all of them are centred by, and the moments of their pixels."""
    dtype = np.dtype(nothing.pixels.dtype)
    exponent = np.round(np.log2(found.distance)) if found.distance > 0 else 0.0
    scale = np.ldexp(1.0, int(exponent))
    offset = np.where(np.isfinite(found.mean), found.mean, 0).astype(dtype)
    about = (offset.astype(np.float64) - found.offset)[:, None, None]

    def cast(array: Any) -> Any:
        return None if array is None else np.asarray(array, dtype)

    moments = PixelMoments(
        cast(offset), cast(scale), cast(found.variance / scale**2), cast(found.lowest), cast(found.highest)
    )
    pixels = (found.pixels - about * found.weights) / scale
    count = None if nothing.frame_weights is None else cast(found.num_images)
    return _centre(moments, nothing, MeanSums(cast(pixels), cast(found.own_weights), count), num_images), moments


@partial(jit, static_argnames="num_images", is_small=True)
def _centre(moments: PixelMoments, nothing: Frames, sums: MeanSums, num_images: int) -> CenteredImages:
    return with_spectra_of_mean(center_by(moments, nothing, sums, num_images))
