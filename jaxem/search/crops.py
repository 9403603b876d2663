"""Starting points made of the windows of single images that stand out of the mean image.

Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.appearances import geometry_of
from jaxem.model.frames import FRAMES_PER_PASS, Frames, by_channel
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, put_in_front
from jaxem.model.params import Params, to_pixel_values, with_all_axes, with_mean_pixels
from jaxem.model.workspace import ImageTotals, center, total_up
from jaxem.ops.batching import over_batches, over_images
from jaxem.ops.validation import as_images, as_number
from jaxem.ops.windows import Geometry, Shape, correlate, unroll, window_sums_in_stages
from jaxem.search.structure import Structure, as_structure

# The noise of a pixel is known from its own values and as from so many of all pixels.
SHARED_OBSERVATIONS = 10.0
# Two candidates in an image are a tenth of a template apart: at a wrong corner a crop leads nowhere.
SPACING = 0.1
# A pixel that is outside of the windows in fewer images than this share keeps its mean.
LEAST_LEFT = 0.01


class Crops(NamedTuple):
    """The windows that differ most from the mean image, in the order of how much they do.

    =======  ============  ==============================================
    field    shape         meaning
    =======  ============  ==============================================
    numbers  (n,) int32    the image
    corners  (n, 2) int32  row, column of the window's upper left pixel
    first    (K, 2) int32  the corner of the one of each image that does most
    noise    (C, H, W)     `pixel_noise`
    =======  ============  ==============================================
    """

    numbers: jax.Array
    corners: jax.Array
    first: jax.Array
    noise: jax.Array


def init_from_crop(images: Any, template_shape: Shape, rank: Any = 0) -> Params:
    """A starting point cut from one image: the window that differs most from the mean image.

    Over a flat background the mean image does not tell what the template is, but single images nearly do. Of each image
    the window with the largest sum of squares about the mean image is a candidate, squares in units of each pixel's own
    noise.

    Args:
        images: (K, H, W), pixel values.
        template_shape: (h, w) (static).
        rank: which of the candidates, 0 for the largest sum, below K (traced).

    Returns:
        `Params`, in the dtype of the images: the background is the mean image, in the window that of the other images;
        the noise scale is the root mean square about the mean image, the prior is uniform.

    Raises:
        ValueError, TypeError: shapes that do not fit each other, no rank.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> jaxem.init_from_crop(jnp.zeros((3, 5, 5)).at[1, 2:4, 1:4].set(1.0), (2, 3)).template.round(3).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]

    Source: ``docs/search.md``, *Search*.
    """
    frames = Frames(as_images(images))
    rank = as_number("rank", rank, frames.pixels.dtype, at_least=0)
    return _init_from_crop(frames, as_structure(frames, template_shape), rank)


@jax.jit
def _init_from_crop(frames: Frames, structure: Structure, rank: jax.Array) -> Params:
    centered = center(frames, min(FRAMES_PER_PASS, frames.num_in_shard))
    number = jnp.clip(rank.astype(jnp.int32), 0, frames.num_images - 1)
    blank = structure.blank(frames.pixels)
    crops = find_crops(centered, blank, 1)
    return crop_params(centered, total_up(centered), crops, number[None], blank)


def pixel_noise(images: CenteredImages) -> jax.Array:
    """Standard deviation of each pixel's noise, (C, H, W), in internal units, for pixels of weight one.

    From mean distances, which odd frames move less than mean squares; those of a few frames are not trusted alone.
    """

    def one_image(own: Any) -> tuple[tuple[jax.Array, jax.Array], None]:
        one = images._replace(frames=images.frames.batch(jax.tree.map(lambda leaf: leaf[None], own)))
        distances, pixel_weights = jnp.abs(one.residuals), one.frames.pixel_weights
        seen = jnp.isfinite(distances)
        if pixel_weights is not None:
            distances, seen = jnp.sqrt(pixel_weights) * distances, seen & (pixel_weights > 0)
        count = one.frames.counts(jnp.ones(1, distances.dtype))[0]
        counted = count * seen[0].astype(distances.dtype)
        return (jnp.where(counted > 0, counted * distances[0], 0), counted), None

    (total, count), _ = over_images(one_image, images.frames.own, shards=images.frames.shards)
    whole = by_channel(count)
    shared = by_channel(total) / jnp.where(whole > 0, whole, 1)
    distance = (total + SHARED_OBSERVATIONS * shared) / (count + SHARED_OBSERVATIONS)
    return jnp.maximum(math.sqrt(math.pi / 2) * distance, jnp.sqrt(images.variance_floor)[:, None, None])


def find_crops(images: CenteredImages, blank: Params, num_each: int) -> Crops:
    """So many candidates of each image, some pixels apart, for parameters of these shapes."""
    internal = with_all_axes(blank)
    geometry, noise = geometry_of(internal), pixel_noise(images)
    support = support_of(internal)
    reach = tuple(math.ceil(SPACING * size) for size in geometry.template)

    def of_one(own: Any) -> tuple[None, tuple[jax.Array, jax.Array]]:
        one = images._replace(frames=images.frames.batch(jax.tree.map(lambda leaf: leaf[None], own)))
        squares = one.frames.weighted((one.residuals / noise[None]) ** 2)[0]
        largest, corners = strongest_windows(squares, geometry, support, num_each, reach)
        counts = one.frames.counts(jnp.ones(1, squares.dtype))[0]
        return None, (jnp.where(counts > 0, largest, -1), corners)

    _, (largest, corners) = over_images(of_one, images.frames.own, shards=images.frames.shards)
    order = jnp.argsort(-largest.ravel())
    return Crops((order // num_each).astype(jnp.int32), corners.reshape(-1, 2)[order], corners[:, 0], noise)


def support_of(internal: Params) -> jax.Array | None:
    """Where any template may be in its rectangle, (h, w); None: everywhere."""
    return None if internal.opacity is None else jnp.max(internal.opacity[:, 0], axis=0)


def strongest_windows(
    squares: jax.Array, geometry: Geometry, support: jax.Array | None, num_windows: int, reach: Shape
) -> tuple[jax.Array, jax.Array]:
    """The windows of an image (C, H, W) with the largest sums, and no two nearer than a reach: (n,), (n, 2) int32."""
    squares = unroll(jnp.sum(jnp.where(jnp.isfinite(squares), squares, 0), axis=0), geometry)
    sums = window_sums_in_stages(squares, geometry.template) if support is None else correlate(squares, support)
    rows, columns = (jnp.arange(size, dtype=jnp.int32) for size in geometry.positions)

    def pick(sums: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        corner = jnp.stack(jnp.unravel_index(jnp.argmax(sums), sums.shape)).astype(jnp.int32)
        is_near = (abs(rows - corner[0]) < reach[0])[:, None] & (abs(columns - corner[1]) < reach[1])[None]
        return jnp.where(is_near, -1, sums), (jnp.max(sums), corner)

    _, found = lax.scan(pick, sums, None, num_windows)
    return found


def crop_params(images: CenteredImages, totals: ImageTotals, crops: Crops, ranks: jax.Array, blank: Params) -> Params:
    """The starting point of some of the crops, one a template, in the shapes of others."""
    internal, numbers = with_all_axes(blank), crops.numbers[ranks]
    geometry = geometry_of(internal)
    some = images._replace(frames=images.frames.take(numbers))
    behind = images.mean_image[None]
    shown = some.frames.observed(some.residuals + behind, jnp.broadcast_to(behind, some.residuals.shape))
    corners = crops.corners[ranks]
    windows = images.gather(shown, corners, geometry)
    noise_scale = _spread(totals, images.mean_image)
    found = internal._replace(
        template=windows,
        background=_background_behind(some, totals, corners, geometry),
        noise_scale=jnp.broadcast_to(noise_scale, blank.noise_scale.shape),
    )
    return to_pixel_values(found, images, with_mean_pixels(blank, images))


def _background_behind(some: CenteredImages, totals: ImageTotals, corners: jax.Array, geometry: Geometry) -> jax.Array:
    """The mean image, in the windows that images are cut at that of the other images, (C, H, W)."""
    background, pixel_weights = some.mean_image[None], some.frames.pixel_weights
    own = some.frames.counts(jnp.ones(len(corners), background.dtype))[:, None, None, None]
    if pixel_weights is not None:
        own = own * pixel_weights
    total = totals.num_images if totals.weight_sum is None else totals.weight_sum[None, None]
    taken = own * jnp.where(own > 0, some.residuals, 0)
    others = background + (totals.residual_sum[None] - taken) / jnp.where(total > own, total - own, 1)
    others = jnp.where(total > own, others, background)
    windows = some.gather(others, corners, geometry)
    for number in range(len(corners)):
        where = Hypotheses(corners[number : number + 1])
        background = put_in_front(background, windows[number : number + 1], None, where, geometry)
    return background[0]


def mean_crop_params(images: CenteredImages, totals: ImageTotals, crops: Crops, blank: Params) -> Params:
    """The mean of the windows of all images that differ most from the mean image, in the shapes of others.

    The background is the mean of what is outside of these windows.
    """
    internal = with_all_axes(blank)
    geometry = geometry_of(internal)

    def one_batch(own: Any, weights: jax.Array, _: None) -> tuple[Any, None]:
        frames, corners = own
        batch = images._replace(frames=images.frames.batch(frames))
        counts = batch.frames.counts(weights)[:, None, None, None]
        windows, pixel_weights = batch.pixels_at(corners, geometry), batch.weights_at(corners, geometry)
        one = counts if pixel_weights is None else counts * pixel_weights
        seen = jnp.broadcast_to(one, (*windows[:, :1].shape,))
        shown = jnp.where(seen > 0, seen * windows, 0)
        hidden = images.paste(jnp.concatenate([shown, seen], axis=1), corners, geometry)
        return (jnp.sum(shown, axis=0), jnp.sum(seen, axis=0), hidden), None

    own, batch_size = (images.frames.own, crops.first), min(FRAMES_PER_PASS, images.frames.num_in_shard)
    (shown, seen, hidden), _ = over_batches(one_batch, own, batch_size, shards=images.frames.shards)
    mean, total = images.mean_image, jnp.broadcast_to(totals.total_weight, hidden[-1:].shape)
    left = total - hidden[-1:]
    whole = totals.residual_sum + total * mean
    background = jnp.where(left > LEAST_LEFT * total, (whole - hidden[:-1]) / jnp.where(left > 0, left, 1), mean)
    template = shown / jnp.where(seen > 0, seen, 1)
    found = internal._replace(
        template=jnp.broadcast_to(template[None], internal.template.shape),
        background=background,
        noise_scale=jnp.broadcast_to(_spread(totals, mean), blank.noise_scale.shape),
    )
    return to_pixel_values(found, images, with_mean_pixels(blank, images))


def _spread(totals: ImageTotals, mean_image: jax.Array) -> jax.Array:
    """Root mean square about the mean image, ()."""
    return jnp.sqrt(jnp.sum(totals.square_sum.high) / (totals.num_pixels.high * len(mean_image)))
