"""Starting points: drawn at random, read off the images' variances, or cut from one image.

Source: ``docs/search.md``, *Restarts* and *Search*.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.frames import FRAMES_PER_PASS, Frames, PixelMoments, moments_by_pixel, pixel_moments
from jaxem.model.images import CenteredImages
from jaxem.model.params import Params, to_pixel_values, uniform_prior
from jaxem.model.workspace import center, total_up
from jaxem.ops.validation import as_images, as_key, as_number
from jaxem.ops.windows import Shape, window_sums_in_stages
from jaxem.runtime.arguments import as_template_shape


def random_params(key: jax.Array, images: Any, template_shape: Shape) -> Params:
    """A random starting point scaled to the images.

    Template and background pixels are independent and uniform with the mean and standard deviation of the images'
    (finite) pixels, which is U[0, 1] for pixels spread evenly over [0, 1]; the noise scale is that standard deviation;
    the prior is uniform.

    Args:
        key: random key.
        images: (K, H, W), pixel values.
        template_shape: (h, w) (static).

    Returns:
        `Params`, in the dtype of the images.

    Raises:
        ValueError, TypeError: shapes that do not fit each other, no key.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> jaxem.random_params(jax.random.key(0), jnp.zeros((3, 10, 12)), (4, 5)).prior.shape
        (7, 8)

    Source: ``docs/search.md``, *Restarts*.
    """
    images = as_images(images)
    template_shape = as_template_shape(template_shape, images.shape[1:])
    return _random_params(as_key(key), images, template_shape=template_shape)


@partial(jax.jit, static_argnames="template_shape")
def _random_params(key: jax.Array, images: jax.Array, template_shape: Shape) -> Params:
    moments = pixel_moments(Frames(images), min(FRAMES_PER_PASS, len(images)))
    return draw_params(key, moments, images.shape[1:], template_shape)


def draw_params(key: jax.Array, moments: PixelMoments, image_shape: Shape, template_shape: Shape) -> Params:
    """`random_params` of images (H, W) or (H, W, C) with these moments, each channel with its own."""
    mean, spread = moments.mean[None], moments.spread[None]
    image_shape, channels = image_shape[:2], image_shape[2:]
    # One draw for both, since each compiles for a second.
    sizes = math.prod(template_shape), math.prod(image_shape)
    pixels = mean + 3**0.5 * spread * jax.random.uniform(key, (sum(sizes), mean.size), mean.dtype, -1, 1)
    template, background = pixels[: sizes[0]], pixels[sizes[0] :]
    noise_scale = jnp.sqrt(jnp.mean(spread**2)) if channels else spread[0, 0]
    prior = uniform_prior(image_shape, template_shape, mean.dtype)
    return Params(
        template.reshape(*template_shape, *channels), background.reshape(*image_shape, *channels), noise_scale, prior
    )


def init_from_variance(images: Any, template_shape: Shape) -> Params:
    """A starting point read off the images: the template where they vary most.

    Where the template comes and goes, the images vary by more than their noise. Of all windows the one with the largest
    sum of variances over the images is cut from the mean image as the template; the background is the mean image with
    that window filled by the mean of the rest. It helps where the template is mostly in one place, so that the mean
    image shows the template and not what is behind it.

    Args:
        images: (K, H, W), pixel values; those that are not finite are left out.
        template_shape: (h, w) (static).

    Returns:
        `Params`, in the dtype of the images: the noise scale is the root mean variance, the prior is uniform.

    Raises:
        ValueError, TypeError: shapes that do not fit each other.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> start = jaxem.init_from_variance(jnp.zeros((2, 5, 5)).at[1, 2:4, 1:4].set(1.0), (2, 3))
        >>> float(start.template.min()), float(start.background.max())
        (0.5, 0.0)

    Source: ``docs/search.md``, *Search*.
    """
    images = as_images(images)
    template_shape = as_template_shape(template_shape, images.shape[1:])
    return _init_from_variance(images, template_shape=template_shape)


@partial(jax.jit, static_argnames="template_shape")
def _init_from_variance(images: jax.Array, template_shape: Shape) -> Params:
    mean, variances = (moment[0] for moment in moments_by_pixel(Frames(images)))
    sums = window_sums_in_stages(variances, template_shape)
    corner = jnp.stack(jnp.unravel_index(jnp.argmax(sums), sums.shape))
    template = lax.dynamic_slice(mean, corner, template_shape)
    elsewhere = (jnp.sum(mean) - jnp.sum(template)) / max(mean.size - template.size, 1)
    fill = jnp.full(template_shape, elsewhere if mean.size > template.size else jnp.mean(mean), mean.dtype)
    background = lax.dynamic_update_slice(mean, fill, corner)
    prior = uniform_prior(mean.shape, template_shape, images.dtype)
    return Params(template, background, jnp.sqrt(jnp.mean(variances)), prior)


class Crops(NamedTuple):
    """The window of each image that differs most from the mean image, in the order of how much it does.

    =======  ============  ==============================================
    field    shape         meaning
    =======  ============  ==============================================
    numbers  (K,) int32    the image
    corners  (K, 2) int32  row, column of the window's upper left pixel
    =======  ============  ==============================================
    """

    numbers: jax.Array
    corners: jax.Array


def init_from_crop(images: Any, template_shape: Shape, rank: Any = 0) -> Params:
    """A starting point cut from one image: the window that differs most from the mean image.

    Over a flat background the mean image does not tell what the template is, but single images nearly do. Of each image
    the window with the largest sum of squares about the mean image is a candidate.

    Args:
        images: (K, H, W), pixel values.
        template_shape: (h, w) (static).
        rank: which of the candidates, 0 for the largest sum, below K (traced).

    Returns:
        `Params`, in the dtype of the images: the background is the mean image, the noise scale the root mean square
        about it, the prior is uniform.

    Raises:
        ValueError, TypeError: shapes that do not fit each other, no rank.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> jaxem.init_from_crop(jnp.zeros((3, 5, 5)).at[1, 2:4, 1:4].set(1.0), (2, 3)).template.round(3).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]

    Source: ``docs/search.md``, *Search*.
    """
    images = as_images(images)
    template_shape = as_template_shape(template_shape, images.shape[1:])
    rank = as_number("rank", rank, images.dtype, at_least=0)
    return _init_from_crop(images, rank, template_shape=template_shape)


@partial(jax.jit, static_argnames="template_shape")
def _init_from_crop(images: jax.Array, rank: jax.Array, template_shape: Shape) -> Params:
    centered = center(Frames(images), min(FRAMES_PER_PASS, len(images)))
    number = jnp.clip(rank.astype(jnp.int32), 0, len(images) - 1)
    sse = total_up(centered).square_sum.high[0]
    return crop_params(centered, sse, find_crops(centered, template_shape), number, template_shape)


def find_crops(images: CenteredImages, template_shape: Shape) -> Crops:
    """The candidates of `init_from_crop`."""

    def of_one(pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
        residuals = images._replace(frames=Frames(pixels[None])).residuals[0, 0]
        sums = window_sums_in_stages(jnp.where(jnp.isfinite(residuals), residuals, 0) ** 2, template_shape)
        corner = jnp.stack(jnp.unravel_index(jnp.argmax(sums), sums.shape))
        return jnp.max(sums), corner.astype(jnp.int32)

    largest, corners = lax.map(of_one, images.frames.pixels)
    order = jnp.argsort(-largest)
    return Crops(order.astype(jnp.int32), corners[order])


def crop_params(images: CenteredImages, sse: jax.Array, crops: Crops, rank: jax.Array, template_shape: Shape) -> Params:
    """The starting point of one of the crops; the squares of all residuals sum up to `sse`, in internal units."""
    window = lax.dynamic_slice(images.frames.pixels[crops.numbers[rank]], crops.corners[rank], template_shape)
    prior = uniform_prior(images.image_shape, template_shape, window.dtype)
    noise_scale = jnp.sqrt(sse / images.frames.pixels.size)
    like = Params(window, images.mean_image[0], noise_scale, prior)
    internal = like._replace(
        template=images.to_internal_units(window)[None, None], background=images.mean_image, prior=prior[None]
    )
    return to_pixel_values(internal, images, like)
