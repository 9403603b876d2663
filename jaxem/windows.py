"""The linear operators of the model, each beside its adjoint.

A *window* is the h x w rectangle of an image whose upper left pixel is the *corner*; in an H x W image there are
(H - h + 1) x (W - w + 1) corners. All operators act on the last two axes. Derivations: ``docs/method.md``, *Operators*.

==================  ===================================  ===============================================
operator            adjoint                              connects
==================  ===================================  ===============================================
`correlate`         `backproject`                        templates and position maps, given the images
`window_sums`       `coverage`                           images and position maps
`gather`            `paste`                              images and windows cut at given corners
==================  ===================================  ===============================================
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.signal import fftconvolve

Shape = tuple[int, ...]


def positions_shape(image_shape: Shape, template_shape: Shape) -> Shape:
    """How many rows and columns of corners there are: (P, Q) = (H - h + 1, W - w + 1)."""
    return image_shape[0] - template_shape[0] + 1, image_shape[1] - template_shape[1] + 1


def correlate(images: jax.Array, templates: jax.Array) -> jax.Array:
    """Valid cross-correlation by FFT, out[i, j] = sum_uv image[i + u, j + v] template[u, v].

    (H, W), (h, w) -> (H-h+1, W-w+1); or (K, H, W) with one template for all or (K, h, w) -> (K, H-h+1, W-w+1).
    """

    def one(image: jax.Array, template: jax.Array) -> jax.Array:
        return fftconvolve(image, template[::-1, ::-1], mode="valid")

    if images.ndim == 2:
        return one(images, templates)
    return jax.vmap(one, in_axes=(0, 0 if templates.ndim == 3 else None))(images, templates)


def backproject(images: jax.Array, maps: jax.Array) -> jax.Array:
    """Adjoint of `correlate` in the template: out[u, v] = sum_kij maps[k, i, j] images[k, i + u, j + v].

    (K, H, W), (K, P, Q) -> (h, w), summed over the images.
    """
    return jnp.sum(correlate(images, maps), axis=0)


def window_sums(images: jax.Array, template_shape: Shape) -> jax.Array:
    """Sum of every window: (..., H, W) -> (..., H-h+1, W-w+1).

    One axis after the other, so that a cumulative sum grows along one row, not over the whole image; float32 keeps
    an order of magnitude more of the result than with one 2-D cumulative sum.
    """
    height, width = template_shape
    return _running_sum(_running_sum(images, height, axis=-2), width, axis=-1)


def coverage(maps: jax.Array, template_shape: Shape) -> jax.Array:
    """Adjoint of `window_sums`: the sum of a position map over the corners whose window holds the pixel.

    (..., P, Q) -> (..., P+h-1, Q+w-1) = (..., H, W).
    """
    height, width = template_shape
    return _spread(_spread(maps, height, axis=-2), width, axis=-1)


def gather(images: jax.Array, corners: jax.Array, template_shape: Shape) -> jax.Array:
    """The window at each corner: (K, H, W) or one shared (H, W), corners (K, 2) -> (K, h, w)."""
    cut = partial(lax.dynamic_slice, slice_sizes=template_shape)
    return jax.vmap(cut, in_axes=(0 if images.ndim == 3 else None, 0))(images, corners)


def paste(windows: jax.Array, corners: jax.Array, image_shape: Shape) -> jax.Array:
    """Adjoint of `gather` from a shared image: the windows added up where they belong.

    (K, h, w), corners (K, 2) -> (H, W).
    """
    canvas = jax.ShapeDtypeStruct(image_shape, windows.dtype)
    gather_all = partial(gather, corners=corners, template_shape=windows.shape[1:])
    (total,) = jax.linear_transpose(gather_all, canvas)(windows)
    return total


# Both helpers sum first and extend with zeros afterwards. The other order, a padded axis of length one under a
# cumulative sum, is compiled wrongly by XLA for CPU (seen with jaxlib 0.10.2; openxla/xla#48715 and #48719 are kin).


def _running_sum(array: jax.Array, length: int, axis: int) -> jax.Array:
    """out[i] = array[i] + ... + array[i + length - 1] along the axis, which loses length - 1 entries."""
    sums = jnp.cumsum(array, axis=axis)
    upper = lax.slice_in_dim(sums, length - 1, None, axis=axis)
    lower = lax.slice_in_dim(sums, 0, array.shape[axis] - length, axis=axis)
    return upper - _prepend_zeros(lower, 1, axis)


def _spread(array: jax.Array, length: int, axis: int) -> jax.Array:
    """Adjoint of `_running_sum`: out[p] = array[p - length + 1] + ... + array[p], outside counting as zero."""
    sums = jnp.cumsum(array, axis=axis)
    last = lax.slice_in_dim(sums, array.shape[axis] - 1, None, axis=axis)
    upper = jnp.concatenate([sums, jnp.repeat(last, length - 1, axis=axis)], axis=axis)
    lower = lax.slice_in_dim(sums, 0, array.shape[axis] - 1, axis=axis)
    return upper - _prepend_zeros(lower, length, axis)


def _prepend_zeros(array: jax.Array, count: int, axis: int) -> jax.Array:
    shape = list(array.shape)
    shape[axis] = count
    return jnp.concatenate([jnp.zeros(shape, array.dtype), array], axis=axis)
