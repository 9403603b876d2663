"""Images drawn from the model.

Source: ``docs/model.md``, *The model*.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxem.model.likelihood import log_prior
from jaxem.model.params import Params, as_params
from jaxem.ops import validation
from jaxem.runtime.arguments import as_count
from jaxem.runtime.compilation import jit


def simulate(key: jax.Array, params: Params, num_images: int) -> tuple[jax.Array, jax.Array]:
    """Draw images and the corners where their templates sit from the model.

        d_k ~ A,  X_k = B with F pasted at d_k,  plus s * N(0, 1)

    Args:
        key: random key.
        params: the parameters to draw from; the prior need not be normalised.
        num_images: how many images, K >= 1 (static).

    Returns:
        The images (K, H, W), in pixel values, and the corners (K, 2) int32.

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
    key = validation.as_key(key)
    params = as_params(params, image_shape=None)
    return _simulate(key, params, num_images=as_count("num_images", num_images, at_least=1))


@partial(jit, static_argnames=("num_images",))
def _simulate(key: jax.Array, params: Params, num_images: int) -> tuple[jax.Array, jax.Array]:
    position_key, noise_key = jax.random.split(key)
    positions = jax.random.categorical(position_key, log_prior(params.prior).ravel(), shape=(num_images,))
    corners = jnp.stack(jnp.unravel_index(positions, params.prior.shape), axis=-1).astype(jnp.int32)

    def paste_over(corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(params.background, params.template, corner)

    clean = jax.vmap(paste_over)(corners)
    noise = jax.random.normal(noise_key, clean.shape, clean.dtype)
    return clean + params.noise_scale * noise, corners
