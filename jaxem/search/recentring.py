"""A template that was found shifted, put where it belongs.

Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.checks import as_params, expect_one_rectangle
from jaxem.model.frames import Frames
from jaxem.model.images import CenteredImages
from jaxem.model.params import Params, to_internal_units, to_pixel_values, uniform_prior
from jaxem.model.steps import expectation
from jaxem.model.workspace import make_workspace
from jaxem.ops.validation import as_images
from jaxem.ops.windows import window_sums_in_stages
from jaxem.solvers.options import cheapest_batch_size


def recentre(images: Any, params: Params) -> Params:
    """Shift the template to where the images differ most from the background, relative to its best corners.

    EM often finds a template that is shifted by some pixels: it holds a margin of background and lacks its other end,
    and no single step leads from there. Around the best corners, aligned to each other, the images are averaged up to
    half a template beyond the window on each side. The new template is the window of that average in which the sum over
    pixels of m (mean of X - B)^2 is largest, m being how many images show the pixel: what a template there would gain.

    Args:
        images: (K, H, W), pixel values.
        params: the parameters.

    Returns:
        `Params`: the shifted template and a uniform prior, or the given parameters where no shift promises more.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit each other.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> template = jnp.arange(12.0).reshape(3, 4) + 1
        >>> truth = jaxem.Params(template, jnp.zeros((12, 15)), jnp.array(0.1), jnp.ones((10, 12)).at[:, -1].set(0))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> shifted = jnp.pad(template[:, 1:], ((0, 0), (0, 1)))
        >>> shifted = truth._replace(template=shifted, prior=jnp.full((10, 12), 1 / 120))
        >>> bool(jnp.abs(jaxem.recentre(images, shifted).template - template).max() < 0.1)
        True

    Source: ``docs/search.md``, *Search*.
    """
    images = as_images(images)
    params = as_params(params, images.shape[1:], images.dtype)
    expect_one_rectangle(params)
    return _recentre(images, params)


@jax.jit
def _recentre(images: jax.Array, params: Params) -> Params:
    workspace = make_workspace(Frames(images), cheapest_batch_size(len(images), images[0].size))
    corners = expectation(workspace, to_internal_units(params, workspace.images), hard=True).best.corners
    return recentred(workspace.images, params, corners)


def recentred(images: CenteredImages, params: Params, corners: jax.Array) -> Params:
    """`recentre`, given the best corners (K, 2)."""
    height, width = params.template.shape
    internal = to_internal_units(params, images)
    margins = height // 2, width // 2
    around = height + 2 * margins[0], width + 2 * margins[1]

    def padded(array: jax.Array) -> jax.Array:
        return jnp.pad(array, [(margin, margin) for margin in margins])

    shared = padded(jnp.ones_like(params.background)), padded(internal.background[0])

    def one_image(totals: tuple[jax.Array, ...], inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        pixels, corner = inputs
        arrays = (*shared, padded(images.to_internal_units(pixels)))
        cuts = (lax.dynamic_slice(array, corner, around) for array in arrays)
        return tuple(total + cut for total, cut in zip(totals, cuts, strict=True)), None

    nothing = (jnp.zeros(around, params.template.dtype),) * 3
    (seen, behind, shown), _ = lax.scan(one_image, nothing, (images.frames.pixels, corners))
    count = jnp.maximum(seen, 1)
    gains = window_sums_in_stages((shown - behind) ** 2 / count, params.template.shape)
    best = jnp.stack(jnp.unravel_index(jnp.argmax(gains), gains.shape))
    shifted = internal._replace(template=lax.dynamic_slice(shown / count, best, params.template.shape)[None, None])
    template = to_pixel_values(shifted, images, params).template
    prior = uniform_prior(images.image_shape, (height, width), template.dtype)
    here = jnp.all(best == jnp.array(margins))
    return params._replace(
        template=jnp.where(here, params.template, template), prior=jnp.where(here, params.prior, prior)
    )
