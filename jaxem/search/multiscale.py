"""Coarse to fine: a search on images of fewer pixels, and its answer as a start on all of them.

Source: ``docs/search.md``, *Coarse to fine*.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxem.model.checks import as_params, expect_one_rectangle
from jaxem.model.params import Params, uniform_prior
from jaxem.ops.validation import as_images
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_count, as_template_shape


def coarsen(images: Any, factor: int = 2) -> jax.Array:
    """Means over blocks of pixels.

    Args:
        images: (K, H, W), pixel values.
        factor: pixels on a block's side (static).

    Returns:
        (K, H // factor, W // factor), pixel values; a remainder at the lower and right edge is left out. The noise is
        `factor` times smaller, so a smooth template keeps its contrast, and an E-step costs factor^2 times less.

    Raises:
        ValueError, TypeError: no stack of images, or a factor that is larger than they are.

    Example:
        >>> import jax.numpy as jnp, jaxem
        >>> jaxem.coarsen(jnp.arange(16.0).reshape(1, 4, 4)).tolist()
        [[[2.5, 4.5], [10.5, 12.5]]]

    Source: ``docs/search.md``, *Coarse to fine*.
    """
    images = as_images(images)
    factor = as_count("factor", factor, at_least=1, at_most=min(images.shape[1:]))
    return _coarsen(images, factor=factor)


@partial(jax.jit, static_argnames="factor")
def _coarsen(images: jax.Array, factor: int) -> jax.Array:
    rows, columns = (size // factor for size in images.shape[1:])
    blocks = images[:, : rows * factor, : columns * factor].reshape(len(images), rows, factor, columns, factor)
    return jnp.mean(blocks, axis=(2, 4))


def refine(params: Params, images: Any, template_shape: Shape, factor: int = 2) -> Params:
    """What was found in coarsened images as a starting point for the images themselves.

    Args:
        params: found in ``coarsen(images, factor)``.
        images: (K, H, W), pixel values.
        template_shape: (h, w) of the template wanted (static).
        factor: as for `coarsen` (static).

    Returns:
        `Params`: every pixel repeated, the edges continued where that leaves a remainder, the noise scale `factor`
        times as large, and a uniform prior. Go on from it with ``fit(..., schedule=annealing(5, start=0.5))``.

    Raises:
        ValueError, TypeError: shapes or options that do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxem
        >>> coarse = jaxem.Params(jnp.eye(2), jnp.zeros((3, 3)), jnp.array(0.1), jnp.full((2, 2), 0.25))
        >>> jaxem.refine(coarse, jnp.zeros((5, 7, 6)), (3, 4)).template.tolist()
        [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]

    Source: ``docs/search.md``, *Coarse to fine*.
    """
    images = as_images(images)
    template_shape = as_template_shape(template_shape, images.shape[1:])
    factor = as_count("factor", factor, at_least=1, at_most=min(images.shape[1:]))
    coarse_shape = tuple(size // factor for size in images.shape[1:])
    params = as_params(params, coarse_shape, images.dtype)
    expect_one_rectangle(params)
    return _refine(params, image_shape=images.shape[1:], template_shape=template_shape, factor=factor)


@partial(jax.jit, static_argnames=("image_shape", "template_shape", "factor"))
def _refine(params: Params, image_shape: Shape, template_shape: Shape, factor: int) -> Params:
    def finer(picture: jax.Array, shape: Shape) -> jax.Array:
        rows, columns = (
            jnp.minimum(jnp.arange(size) // factor, have - 1) for size, have in zip(shape, picture.shape, strict=True)
        )
        return picture[rows][:, columns]

    return Params(
        finer(params.template, template_shape),
        finer(params.background, image_shape),
        factor * params.noise_scale,
        uniform_prior(image_shape, template_shape, params.prior.dtype),
    )
