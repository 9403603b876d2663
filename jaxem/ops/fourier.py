"""`correlate` and `backproject` of ``windows`` for images that stay while templates and position maps change.

The Fourier transform of the images is made once. Images are real, so two of them travel as real and imaginary part of
one complex transform: correlating with a real template keeps the parts apart, and in a sum of backprojections the
products across the parts fall into the imaginary part, which is dropped. Transforms are of H x W, since a valid
correlation never wraps round; they are kept as (W, H), so that both stages run along the last axis and whole rows that
are not wanted, or are zero, are left out between them. Derivation: ``docs/numerics.md``, *Transforms kept*.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.ops.windows import Shape


def transform_pairs(images: jax.Array, image_shape: Shape) -> jax.Array:
    """Images or position maps, two to a transform, padded with zeros to H x W: (n, ...) -> (ceil(n / 2), ..., W, H)."""
    middle = (len(images) + 1) // 2
    first, second = images[:middle], images[middle:]
    if len(first) > len(second):
        second = jnp.concatenate([second, jnp.zeros_like(first[:1])])
    return _forward(lax.complex(first, second), image_shape)


def pairs_of(spectra: jax.Array, shape: Shape) -> jax.Array:
    """Back: the first rows and columns of what is held, (m, ..., W, H) -> (2 m, ..., *shape)."""
    found = _inverse(spectra, *shape)
    return jnp.concatenate([found.real, found.imag])


def transform_template(templates: jax.Array, image_shape: Shape) -> jax.Array:
    """What `correlate_pairs` multiplies with: (..., h, w) -> (..., W, H)."""
    return jnp.conj(_forward(templates, image_shape))


def correlate_pairs(pairs: jax.Array, templates: jax.Array) -> jax.Array:
    """The transform of correlations, channels added up: (m, C, W, H), (Z, C, W, H) -> (m, Z, W, H)."""
    return jnp.sum(pairs[:, None] * templates[None], axis=2)


def backproject_pairs(pairs: jax.Array, maps: jax.Array) -> jax.Array:
    """The transform of backprojections, images added up: (m, C, W, H), maps' (m, Z, W, H) -> (Z, C, W, H)."""
    return jnp.sum(pairs[:, None] * jnp.conj(maps)[:, :, None], axis=0)


def template_of(backprojection: jax.Array, template_shape: Shape) -> jax.Array:
    """The template that a sum of backprojections is the transform of, (..., W, H) -> (..., h, w)."""
    return _inverse(backprojection, *template_shape).real


def _forward(arrays: jax.Array, image_shape: Shape) -> jax.Array:
    height, width = image_shape
    along_rows = jnp.fft.fft(arrays, n=width, axis=-1)
    return jnp.fft.fft(jnp.swapaxes(along_rows, -1, -2), n=height, axis=-1)


def _inverse(spectra: jax.Array, rows: int, columns: int) -> jax.Array:
    along_columns = jnp.fft.ifft(spectra, axis=-1)[..., :rows]
    return jnp.fft.ifft(jnp.swapaxes(along_columns, -1, -2), axis=-1)[..., :columns]
