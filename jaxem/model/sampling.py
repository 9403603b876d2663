"""Images drawn from the model.

Source: ``docs/model.md``, *The model*.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxem.model.appearances import IDENTITY, as_transforms
from jaxem.model.checks import as_params
from jaxem.model.frames import as_pixel_weights
from jaxem.model.likelihood import Hypotheses, clean_images, log_prior, positions_of
from jaxem.model.params import Params, Positions, with_all_axes
from jaxem.ops.validation import as_key
from jaxem.runtime.arguments import as_count
from jaxem.runtime.compilation import jit


def simulate(
    key: jax.Array, params: Params, num_images: int, *, transforms: Any = IDENTITY, weights: Any = None
) -> tuple[jax.Array, jax.Array]:
    """Draw images and the corners where their templates sit from the model.

        d_k ~ A,  X_k = B with F pasted at d_k,  plus s * N(0, 1)

    Args:
        key: random key.
        params: the parameters to draw from; the prior need not be normalised.
        num_images: how many images, K >= 1 (static).
        transforms: that a template may be under, as for `e_step` (static).
        weights: of the pixels, broadcastable to (K, H, W): the noise of a pixel has variance s^2 / w; pixels of weight
            zero are NaN.

    Returns:
        The images (K, H, W) or (K, H, W, C), in pixel values, and the corners (K, 2) int32. See `simulate_positions`
        for which template each shows, and whether it does.

    Raises:
        ValueError, TypeError: shapes that do not fit each other, no key, fewer than one image.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, corners = jaxem.simulate(jax.random.key(0), truth, 10)
        >>> images.shape, corners.shape
        ((10, 5, 7), (10, 2))

    Source: ``docs/model.md``, *The model*.
    """
    images, positions = simulate_positions(key, params, num_images, transforms=transforms, weights=weights)
    return images, positions.corners


def simulate_positions(
    key: jax.Array, params: Params, num_images: int, *, transforms: Any = IDENTITY, weights: Any = None
) -> tuple[jax.Array, Positions]:
    """`simulate`, with all that is hidden: which template each image shows, under which transform, and whether it does.

    Args:
        key: random key.
        params: as for `simulate`.
        num_images: as for `simulate` (static).
        transforms: as for `simulate` (static).
        weights: as for `simulate`.

    Returns:
        The images (K, H, W) or (K, H, W, C), in pixel values, and their `Positions`.

    Raises:
        ValueError, TypeError: as `simulate`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> prior = jnp.full((4, 5), 0.7 / 20)
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), prior, absent=jnp.array(0.3))
        >>> images, positions = jaxem.simulate_positions(jax.random.key(0), truth, 10)
        >>> int(positions.present.sum())
        8

    Source: ``docs/model.md``, *The general model*.
    """
    key, transforms = as_key(key), as_transforms(transforms)
    params = as_params(params, image_shape=None, transforms=transforms)
    num_images = as_count("num_images", num_images, at_least=1)
    images_like = jax.ShapeDtypeStruct((num_images, *params.background.shape), params.background.dtype)
    if weights is not None:
        weights = as_pixel_weights(weights, images_like)
    return _simulate(key, params, weights, num_images=num_images, transforms=transforms)


@partial(jit, static_argnames=("num_images", "transforms"))
def _simulate(
    key: jax.Array, params: Params, weights: jax.Array | None, num_images: int, transforms: tuple[str, ...]
) -> tuple[jax.Array, Positions]:
    position_key, noise_key = jax.random.split(key)
    internal = with_all_axes(params)
    log_probs = log_prior(internal.prior).ravel()
    if internal.absent is not None:
        log_probs = jnp.append(log_probs, log_prior(internal.absent))
    drawn = jax.random.categorical(position_key, log_probs, shape=(num_images,))
    present = None if internal.absent is None else drawn < internal.prior.size
    place = drawn if present is None else jnp.where(present, drawn, 0)
    appearance, row, column = jnp.unravel_index(place, internal.prior.shape)
    corners = jnp.stack([row, column], axis=-1).astype(jnp.int32)
    found = Hypotheses(corners, appearance.astype(jnp.int32) if len(internal.prior) > 1 else None, present)

    clean = clean_images(internal, found, transforms)
    noise = jax.random.normal(noise_key, clean.shape, clean.dtype)
    scale = internal.noise_scale.reshape(-1, 1, 1)
    if weights is None:
        images = clean + scale[None] * noise
    else:
        seen = weights > 0
        images = jnp.where(seen, clean + scale[None] * noise / jnp.sqrt(jnp.where(seen, weights, 1)), jnp.nan)
    images = jnp.moveaxis(images, 1, -1) if params.background.ndim == 3 else images[:, 0]
    return images, positions_of(found, None, params, transforms)
