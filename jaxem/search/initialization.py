"""Starting points: drawn at random, or read off the images' variances.

Source: ``docs/search.md``, *Restarts* and *Search*.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxem.model.appearances import IDENTITY, as_transforms, geometry_of
from jaxem.model.frames import (
    FRAMES_PER_PASS,
    Frames,
    PixelMoments,
    as_frames,
    by_channel,
    moments_by_pixel,
    pixel_moments,
)
from jaxem.model.likelihood import Hypotheses, put_in_front
from jaxem.model.params import Params, with_all_axes, with_axes_of
from jaxem.ops.validation import as_images, as_key
from jaxem.ops.windows import Shape, gather, unroll, window_sums_in_stages
from jaxem.search.structure import Structure, as_structure


def random_params(
    key: jax.Array,
    images: Any,
    template_shape: Shape,
    *,
    num_templates: int = 1,
    absent: bool = False,
    support: Any = None,
    boundary: str = "inside",
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = IDENTITY,
) -> Params:
    """A random starting point scaled to the images.

    Template and background pixels are independent and uniform with the mean and standard deviation of the images'
    (finite) pixels, of each channel its own, which is U[0, 1] for pixels spread evenly over [0, 1]; the noise scale is
    that standard deviation, of several channels their root mean square; the prior is uniform.

    Args:
        key: random key.
        images: (K, H, W) or (K, H, W, C), pixel values.
        template_shape: (h, w) (static).
        num_templates: as for `fit_restarts`, like all that follow (static).
        absent: whether an image may be without a template (static).
        support: the template's, "disc" or an array of 0 and 1.
        boundary: how windows meet the edges (static).
        weights: of the pixels.
        frame_weights: of the images.
        transforms: that a template may be under (static).

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
    frames, transforms = as_frames(images, weights, frame_weights), as_transforms(transforms)
    structure = as_structure(
        frames,
        template_shape,
        num_templates=num_templates,
        absent=absent,
        support=support,
        transforms=transforms,
        boundary=boundary,
    )
    return _random_params(as_key(key), frames, structure)


@jax.jit
def _random_params(key: jax.Array, frames: Frames, structure: Structure) -> Params:
    moments = pixel_moments(frames, min(FRAMES_PER_PASS, frames.num_in_shard))
    return draw_params(key, moments, structure.blank(frames.pixels))


def draw_params(key: jax.Array, moments: PixelMoments, blank: Params) -> Params:
    """`random_params` of images with these moments, in the shapes of others; each channel has its own moments."""
    mean, spread = moments.mean[None], moments.spread[None]
    # One draw for both, since each compiles for a second.
    size, num_pixels = blank.template.size, blank.template.size + blank.background.size
    uniform = jax.random.uniform(key, (num_pixels // mean.size, mean.size), mean.dtype, -1, 1)
    pixels = (mean + 3**0.5 * spread * uniform).ravel()
    noise_scale = spread[0] if mean.size in (1, blank.noise_scale.size) else jnp.sqrt(jnp.mean(spread**2))
    return blank._replace(
        template=pixels[:size].reshape(blank.template.shape),
        background=pixels[size:].reshape(blank.background.shape),
        noise_scale=noise_scale.reshape(blank.noise_scale.shape),
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
    frames = Frames(as_images(images))
    return _init_from_variance(frames, as_structure(frames, template_shape))


@jax.jit
def _init_from_variance(frames: Frames, structure: Structure) -> Params:
    return read_off(frames, structure.blank(frames.pixels))


def read_off(frames: Frames, blank: Params) -> Params:
    """`init_from_variance`, in the shapes of others."""
    mean, variances = moments_by_pixel(frames)
    internal = with_all_axes(blank)
    geometry, num_templates = geometry_of(internal), len(internal.template)
    sums = window_sums_in_stages(unroll(jnp.sum(variances, axis=0), geometry), geometry.template)
    corner = jnp.stack(jnp.unravel_index(jnp.argmax(sums), sums.shape)).astype(jnp.int32)
    template = gather(unroll(mean, geometry), corner[None], geometry.template)
    num_elsewhere = mean[0].size - template[0, 0].size
    whole = by_channel(mean)
    elsewhere = (whole - by_channel(template[0])) / max(num_elsewhere, 1)
    fill = elsewhere if num_elsewhere > 0 else whole / mean[0].size
    fill = jnp.broadcast_to(fill, template.shape[1:])
    background = put_in_front(mean[None], fill[None], None, Hypotheses(corner[None]), geometry)[0]
    template = jnp.broadcast_to(template, (num_templates, *template.shape[1:]))
    noise_scale = jnp.broadcast_to(
        jnp.sqrt(jnp.mean(by_channel(variances)) / variances[0].size), blank.noise_scale.shape
    )
    return with_axes_of(internal._replace(template=template, background=background, noise_scale=noise_scale), blank)
