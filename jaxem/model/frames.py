"""The images as they came, how much of them counts, and what their pixels look like.

Derivations: ``docs/model.md``, *Weights*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from jaxem.ops.batching import over_batches
from jaxem.ops.sharding import Shards, as_shards, over_shards
from jaxem.ops.validation import as_images, as_weights, expect_finite, expect_shape
from jaxem.ops.windows import Shape
from jaxem.runtime.errors import ArgumentValueError

FRAMES_PER_PASS = 32  # in passes that only look at pixels


class Frames(NamedTuple):
    """What came: images, and how much each of their pixels and each of them counts.

    ==============  =====================  ===================================================================
    field           shape                  meaning
    ==============  =====================  ===================================================================
    pixels          (K, H, W), with        X_k as they came, pixel value
                    channels (K, H, W, C)
    weights         (K, H, W) or None      rho_k: a pixel's noise has variance s^2 / rho_k, and a pixel of weight
                                           zero was not observed; None where all images share them
    frame_weights   (K,) or None           nu_k: as how many equal images each one counts; None: as one
    shared_weights  (H, W) or None         the weights that all images share; None: one, or they have their own
    shards          `Shards` or None       how the images are shared out over devices; None: all are on one (static)
    ==============  =====================  ===================================================================
    """

    pixels: jax.Array
    weights: jax.Array | None = None
    frame_weights: jax.Array | None = None
    shared_weights: jax.Array | None = None
    shards: Shards | None = None

    @property
    def num_images(self) -> int:
        """K; of frames that are shared out, with those that were added to make all shards equal."""
        return len(self.pixels)

    @property
    def num_given(self) -> int:
        """K, without those."""
        return self.num_images - (0 if self.shards is None else self.shards.num_padding)

    @property
    def num_in_shard(self) -> int:
        """Images that one device goes through, all of them where they are not shared out."""
        return self.num_images // self.num_shards

    @property
    def num_shards(self) -> int:
        """Over how many devices they are shared out."""
        return 1 if self.shards is None else self.shards.count

    @property
    def image_shape(self) -> Shape:
        """(H, W)."""
        return self.pixels.shape[1:3]

    @property
    def channels_first(self) -> jax.Array:
        """The pixels as (K, C, H, W)."""
        return jnp.moveaxis(self.pixels, -1, 1) if self.pixels.ndim == 4 else self.pixels[:, None]

    @property
    def pixel_weights(self) -> jax.Array | None:
        """The weights, whoever shares them, (K or 1, 1, H, W); None: one."""
        if self.weights is not None:
            return self.weights[:, None]
        return None if self.shared_weights is None else self.shared_weights[None, None]

    def counts(self, weights: jax.Array) -> jax.Array:
        """How often each image counts, (K,): weights of the batch, zero or one, times frequencies."""
        return weights if self.frame_weights is None else weights * self.frame_weights

    def observed(self, pixels: jax.Array, otherwise: jax.Array | float = 0.0) -> jax.Array:
        """Pixels (K, C, H, W), something else where they were not observed, so that anything may stand there."""
        weights = self.pixel_weights
        return pixels if weights is None else jnp.where(weights > 0, pixels, otherwise)

    def weighted(self, pixels: jax.Array) -> jax.Array:
        """Pixels (K, C, H, W) times their weights."""
        weights = self.pixel_weights
        return pixels if weights is None else weights * pixels

    @property
    def own(self) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
        """What each image has for itself, which batches are cut from."""
        return self.pixels, self.weights, self.frame_weights

    @property
    def of_none(self) -> Frames:
        """The same of no images: what they share."""
        return self.batch(jax.tree.map(lambda leaf: leaf[:0], self.own))

    def take(self, numbers: jax.Array) -> Frames:
        """The images of these numbers, (n,), on every device."""
        if self.shards is None:
            return self.batch(jax.tree.map(lambda leaf: jnp.asarray(leaf)[numbers], self.own))

        # Indexed as a whole, all images would be brought to all devices.
        def in_shard(numbers: jax.Array, own: Any, places: jax.Array) -> tuple[Any, None]:
            there = numbers[:, None] == places[None]
            first, is_here = jnp.argmax(there, axis=1), jnp.any(there, axis=1)

            def taken(leaf: jax.Array) -> jax.Array:
                return jnp.where(is_here.reshape(-1, *[1] * (leaf.ndim - 1)), leaf[first], 0)

            return jax.tree.map(taken, own), None

        def go_through(function: Callable[..., Any], *arrays: Any) -> Any:
            return function(*arrays)

        places = jnp.arange(self.num_images, dtype=jnp.int32)
        own, _ = over_shards(go_through, self.shards, Partial(in_shard, numbers), self.own, places)
        return self.batch(own)

    def batch(self, own: tuple[jax.Array, jax.Array | None, jax.Array | None]) -> Frames:
        """Some of the images, by what they have for themselves."""
        return Frames(*own, self.shared_weights)


def as_frames(images: Any, weights: Any = None, frame_weights: Any = None, mesh: Any = None) -> Frames:
    """The stack, and how much of it counts, checked.

    Args:
        images: (K, H, W) or, with channels, (K, H, W, C), pixel values; integers are promoted.
        weights: of the pixels, broadcastable to (K, H, W); those of one image, or of all alike, are shared.
        frame_weights: of the images, (K,).
        mesh: devices to share the images out over, along its axis "frames"; images that are shared out stay so.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit, negative weights; outside of ``jit`` also NaN or
            infinite pixels at a weight above zero.
    """
    is_floating = not jnp.issubdtype(getattr(images, "dtype", np.float32), jnp.integer)
    shards = as_shards(images, mesh)
    images = as_images(images, with_channels=True, shards=shards)
    frames = Frames(images, shards=shards)
    num_images = frames.num_given
    if weights is not None:
        whole = as_pixel_weights(weights, jax.ShapeDtypeStruct((num_images, *images.shape[1:]), images.dtype))[:, 0]
        is_shared = len(whole) < num_images or num_images == 1
        frames = frames._replace(shared_weights=whole[0]) if is_shared else frames._replace(weights=whole)
    if frame_weights is not None:
        frame_weights = as_weights("frame_weights", frame_weights, images.dtype)
        expect_shape("frame_weights", frame_weights, (num_images,), "(K,)")
        if not isinstance(frame_weights, jax.core.Tracer) and not np.any(np.asarray(frame_weights) > 0):
            raise ArgumentValueError("frame_weights", "must not all be zero.")
        frames = frames._replace(frame_weights=frame_weights)
    if shards is not None:
        frames = _shared_out(frames, shards)
    if is_floating:
        shared = frames.weights if frames.shared_weights is None else frames.shared_weights
        expect_finite(frames.pixels, shared, frames.frame_weights)
    return frames


def _shared_out(frames: Frames, shards: Shards) -> Frames:
    """Weights where the pixels are that they weigh; what was added to make the shards equal counts for nothing."""
    weights: Any = frames.weights
    frame_weights: Any = frames.frame_weights
    if shards.num_padding and frame_weights is None:
        frame_weights = np.ones(frames.num_given, frames.pixels.dtype)
    return frames._replace(
        weights=None if weights is None else shards.place(weights),
        frame_weights=None if frame_weights is None else shards.place(frame_weights),
        shared_weights=shards.replicate(frames.shared_weights),
    )


def as_pixel_weights(weights: Any, images: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """Weights of pixels, checked, as (K, 1, H, W), or (1, 1, H, W) where all images share them."""
    weights, expected = as_weights("weights", weights, images.dtype), images.shape[:3]
    try:
        fits = np.broadcast_shapes(weights.shape, expected) == expected
    except ValueError:
        fits = False
    if not fits:
        remedy = " Weights of whole images are frame_weights." if weights.shape == expected[:1] else ""
        raise ArgumentValueError(
            "weights", f"must be broadcastable to (K, H, W) = {expected}, but have shape {weights.shape}.{remedy}"
        )
    count = len(weights) if weights.ndim == 3 else 1
    numpy: Any = np if isinstance(weights, np.ndarray) else jnp  # on the host nothing is copied
    return numpy.broadcast_to(weights, (count, *expected[1:]))[:, None]


class PixelMoments(NamedTuple):
    """Of all finite pixels that were observed, so that one bad pixel does not hide the others.

    ===========  =====  =======================================================================  ==================
    field        shape  meaning                                                                  unit
    ===========  =====  =======================================================================  ==================
    mean         (C,)   their mean                                                               pixel value
    scale        ()     the power of two (dividing by it is exact) near their mean distance      pixel value
                        from it
    mean_square  (C,)   mean square of their distance                                            scale^2
    lowest       (C,)   the lowest of them                                                       pixel value
    highest      (C,)   the highest of them                                                      pixel value
    ===========  =====  =======================================================================  ==================
    """

    mean: jax.Array
    scale: jax.Array
    mean_square: jax.Array
    lowest: jax.Array
    highest: jax.Array

    @property
    def spread(self) -> jax.Array:
        """Standard deviation of each channel, (C,), pixel value."""
        return self.scale * jnp.sqrt(self.mean_square)


def counted_pixels(batch: Frames, weights: jax.Array) -> jax.Array:
    """Which pixels count, (n, C, H, W): the finite ones that were observed, of images whose weight (n,) is not zero."""
    finite = jnp.isfinite(batch.observed(batch.channels_first, jnp.nan))
    return finite & (batch.counts(weights) > 0)[:, None, None, None]


def pixel_moments(frames: Frames, batch_size: int) -> PixelMoments:
    """Mean, spread and range of all pixels, in four passes."""

    def ends_of(own: Any, weights: jax.Array, _: None) -> tuple[None, tuple[jax.Array, jax.Array]]:
        batch = frames.batch(own)
        pixels, counted = batch.channels_first, counted_pixels(batch, weights)
        lowest = jnp.min(jnp.where(counted, pixels, jnp.inf), axis=(0, 2, 3))
        return None, (lowest, jnp.max(jnp.where(counted, pixels, -jnp.inf), axis=(0, 2, 3)))

    def totals_of(function: Callable[[jax.Array], jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Of each channel, the sum over the pixels that count, and how many these are, as shares of all."""

        def one_batch(own: Any, weights: jax.Array, _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
            batch = frames.batch(own)
            pixels, counted = batch.channels_first, counted_pixels(batch, weights)
            size = float(frames.pixels.size // pixels.shape[1])  # a stack may hold more pixels than an int32 counts
            part = jnp.sum(jnp.where(counted, function(pixels), 0), axis=(0, 2, 3)) / size
            return (part, jnp.sum(counted.astype(pixels.dtype), axis=(0, 2, 3)) / size), None

        return over_batches(one_batch, frames.own, batch_size, shards=frames.shards)[0]

    def beside(values: jax.Array) -> jax.Array:
        return values[None, :, None, None]

    _, ends = over_batches(ends_of, frames.own, batch_size, shards=frames.shards)
    lowest, highest = jnp.min(ends[0], axis=0), jnp.max(ends[1], axis=0)
    # Counted from a pixel, so that a constant stack has exactly its constant as its mean.
    all_count = frames.pixel_weights is None and frames.frame_weights is None
    pixel = frames.channels_first[0, :, 0, 0] if all_count else lowest
    pivot = jnp.where(jnp.isfinite(pixel), pixel, 0)
    total, share = totals_of(lambda pixels: pixels - beside(pivot))
    mean = pivot + total / share
    mean = jnp.where(jnp.isfinite(mean), mean, 0)
    total, share = totals_of(lambda pixels: jnp.abs(pixels - beside(mean)))
    distance = jnp.sum(total) / jnp.sum(share)
    usable = jnp.isfinite(distance) & (distance > 0)
    exponent = jnp.round(jnp.log2(jnp.where(usable, distance, 1))).astype(jnp.int32)
    scale = jnp.ldexp(jnp.ones_like(distance), exponent)
    total, share = totals_of(lambda pixels: ((pixels - beside(mean)) / scale) ** 2)
    return PixelMoments(mean, scale, total / share, lowest, highest)


def moments_by_pixel(frames: Frames) -> tuple[jax.Array, jax.Array]:
    """Mean and variance over the images of each pixel where it is finite, (C, H, W), a batch of images at a time.

    Where it never is, the mean of the others' means and zero.
    """
    batch_size = min(FRAMES_PER_PASS, frames.num_in_shard)

    def finite_in(own: Any, weights: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        batch = frames.batch(own)
        pixels, counts = batch.observed(batch.channels_first, jnp.nan), batch.counts(weights)
        finite = jnp.isfinite(pixels)
        return pixels, finite if batch.frame_weights is None else finite & (counts > 0)[:, None, None, None], counts

    def add_finite(own: Any, weights: jax.Array, _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        pixels, finite, counts = finite_in(own, weights)
        return (
            sum_over_images(finite.astype(pixels.dtype), counts),
            sum_over_images(jnp.where(finite, pixels, 0), counts),
        ), None

    (count, total), _ = over_batches(add_finite, frames.own, batch_size, shards=frames.shards)
    seen = count > 0
    mean = total / jnp.where(seen, count, 1)
    others = by_channel(mean) / jnp.maximum(by_channel(seen.astype(mean.dtype)), 1)
    mean, count = jnp.where(seen, mean, others), jnp.where(seen, count, 1)

    def add_squares(own: Any, weights: jax.Array, _: None) -> tuple[jax.Array, None]:
        pixels, finite, counts = finite_in(own, weights)
        distances = jnp.where(finite, pixels - mean[None], 0)
        return sum_over_images(distances**2, counts), None

    squares, _ = over_batches(add_squares, frames.own, batch_size, shards=frames.shards)
    return mean, squares / count


def sum_over_images(arrays: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum over the first axis, as a product.

    XLA for CPU fuses what makes the arrays into a plain sum over their first axis, which is then ten times slower.
    """
    total = jnp.matmul(weights, arrays.reshape(len(arrays), -1), precision=lax.Precision.HIGHEST)
    return total.reshape(arrays.shape[1:])


def by_channel(pixels: jax.Array) -> jax.Array:
    """Sum over all pixels of each channel, (C, H, W) -> (C, 1, 1).

    Row by row, since XLA for CPU compiles half a second for a plain sum of so many numbers.
    """
    nothing = jnp.zeros_like(pixels[:, 0])
    row, _ = lax.scan(lambda total, row: (total + row, None), nothing, jnp.moveaxis(pixels, 1, 0))
    return jnp.sum(row, axis=1)[:, None, None]
