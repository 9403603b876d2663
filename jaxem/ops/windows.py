"""The linear operators of the model, each beside its adjoint.

A *window* is the h x w rectangle of an image whose upper left pixel is the *corner*; in an H x W image there are
(H - h + 1) x (W - w + 1) corners. All operators act on the last two axes. Source: ``docs/numerics.md``, *Operators*.

==================  ===================================  ===============================================
operator            adjoint                              connects
==================  ===================================  ===============================================
`correlate`         `backproject`                        templates and position maps, given the images
`window_sums`       `coverage`                           images and position maps
`gather`            `paste`                              images and windows cut at given corners
==================  ===================================  ===============================================

`window_sums` and `coverage` are there twice: from cumulative sums, and, much faster on a CPU, from short windows
(`window_sums_in_stages`, `coverage_in_stages`). Where windows go round the image's edges, the images are unrolled first
and what comes back is rolled up (`unroll`, `roll_up`): all other operators know only windows that lie inside.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.signal import fftconvolve

Shape = tuple[int, ...]


def positions_shape(image_shape: Shape, template_shape: Shape) -> Shape:
    """How many rows and columns of corners there are: (P, Q) = (H - h + 1, W - w + 1)."""
    return image_shape[0] - template_shape[0] + 1, image_shape[1] - template_shape[1] + 1


class Geometry(NamedTuple):
    """How large things are, rows and columns of each; a constant of a program.

    =========  ======  ==============================================================================
    field      shape   meaning
    =========  ======  ==============================================================================
    image      (H, W)  an image
    template   (h, w)  a template
    positions  (P, Q)  a map over corners: along an axis H - h + 1 where windows lie inside the image,
                       H where they go round its edges
    =========  ======  ==============================================================================
    """

    image: Shape
    template: Shape
    positions: Shape

    @property
    def goes_round(self) -> tuple[bool, ...]:
        """Along which axes windows go round the edges."""
        return tuple(n > m for n, m in zip(self.unrolled, self.image, strict=True))

    @property
    def inside(self) -> Geometry:
        """The same with all windows inside."""
        return self._replace(positions=positions_shape(self.image, self.template))

    @property
    def unrolled(self) -> Shape:
        """Rows and columns that hold every window in one piece, (P + h - 1, Q + w - 1)."""
        return tuple(n + m - 1 for n, m in zip(self.positions, self.template, strict=True))


def unroll(images: jax.Array, geometry: Geometry) -> jax.Array:
    """Images continued as far as windows reach round their edges: (..., H, W) -> (..., P+h-1, Q+w-1)."""
    for axis, size, unrolled in zip((-2, -1), geometry.image, geometry.unrolled, strict=True):
        if unrolled > size:
            again = lax.slice_in_dim(images, 0, unrolled - size, axis=images.ndim + axis)
            images = jnp.concatenate([images, again], axis=axis)
    return images


def roll_up(images: jax.Array, geometry: Geometry) -> jax.Array:
    """Adjoint of `unroll`: what lies beyond the edges is added where it belongs, (..., P+h-1, Q+w-1) -> (..., H, W)."""
    for axis, size, unrolled in zip((-2, -1), geometry.image, geometry.unrolled, strict=True):
        if unrolled > size:
            at, beyond = images.ndim + axis, unrolled - size
            rest = lax.slice_in_dim(images, beyond, size, axis=at)
            first = lax.slice_in_dim(images, 0, beyond, axis=at) + lax.slice_in_dim(images, size, None, axis=at)
            images = jnp.concatenate([first, rest], axis=axis)
    return images


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


def window_sums_in_stages(images: jax.Array, template_shape: Shape) -> jax.Array:
    """`window_sums`, without any cumulative sum."""
    height, width = template_shape
    return _sum_in_stages(_sum_in_stages(images, height, axis=images.ndim - 2), width, axis=images.ndim - 1)


def coverage_in_stages(maps: jax.Array, template_shape: Shape) -> jax.Array:
    """`coverage`, without any cumulative sum."""
    for axis, length in ((maps.ndim - 1, template_shape[1]), (maps.ndim - 2, template_shape[0])):
        # Concatenated, not padded: XLA would fold a pad into the windows, whose bounds it then checks at every pixel.
        zeros = _zeros_like(maps, length - 1, axis)
        maps = _sum_in_stages(jnp.concatenate([zeros, maps, zeros], axis=axis), length, axis)
    return maps


def gather(images: jax.Array, corners: jax.Array, template_shape: Shape) -> jax.Array:
    """The window at each corner (K, 2), of all channels: (K, C, H, W) or one shared (C, H, W) -> (K, C, h, w)."""
    shape = (images.shape[-3], *template_shape)

    def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
        return lax.dynamic_slice(image, (jnp.zeros_like(corner[0]), corner[0], corner[1]), shape)

    return jax.vmap(cut, in_axes=(0 if images.ndim == 4 else None, 0))(images, corners)


def paste(windows: jax.Array, corners: jax.Array, image_shape: Shape) -> jax.Array:
    """Adjoint of `gather` from a shared image: the windows added up where they belong.

    (K, C, h, w), corners (K, 2) -> (C, H, W).
    """
    canvas = jax.ShapeDtypeStruct((windows.shape[1], *image_shape), windows.dtype)
    gather_all = partial(gather, corners=corners, template_shape=windows.shape[2:])
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
    return jnp.concatenate([_zeros_like(array, count, axis), array], axis=axis)


def _zeros_like(array: jax.Array, count: int, axis: int) -> jax.Array:
    shape = list(array.shape)
    shape[axis] = count
    return jnp.zeros(shape, array.dtype)


def _sum_in_stages(array: jax.Array, length: int, axis: int, spacing: int = 1) -> jax.Array:
    """out[i] = array[i] + array[i + spacing] + ... + array[i + (length - 1) spacing].

    With length = groups * taps + rest: sums of a few neighbours first, then sums of those further apart, then the rest.
    """
    if length == 1:
        return array
    taps, _ = _cheapest_stage(length)
    groups, rest = divmod(length, taps)
    total = _sum_in_stages(_short_sum(array, taps, axis, spacing), groups, axis, taps * spacing)
    if rest:
        size = array.shape[axis] - (length - 1) * spacing
        tail = _sum_in_stages(array, rest, axis, spacing)
        start = (length - rest) * spacing
        total = lax.slice_in_dim(total, 0, size, axis=axis) + lax.slice_in_dim(tail, start, start + size, axis=axis)
    return total


def _short_sum(array: jax.Array, taps: int, axis: int, spacing: int) -> jax.Array:
    window, dilation = [1] * array.ndim, [1] * array.ndim
    window[axis], dilation[axis] = taps, spacing
    zero, ones = np.zeros((), array.dtype), [1] * array.ndim
    return lax.reduce_window(array, zero, lax.add, window, ones, "VALID", window_dilation=dilation)


# Reading and writing the array once more costs as much as so many additions; longer sums in one stage never pay.
PASS_COST, LONGEST_STAGE = 4, 16


@lru_cache
def _cheapest_stage(length: int) -> tuple[int, int]:
    """How many neighbours to sum first, and what the whole sum costs, in additions."""
    if length == 1:
        return 1, 0

    def cost(taps: int) -> int:
        groups, rest = divmod(length, taps)
        later = _cheapest_stage(groups)[1]
        return taps + PASS_COST + later + (_cheapest_stage(rest)[1] + PASS_COST if rest else 0)

    best = min(range(2, min(length, LONGEST_STAGE) + 1), key=cost)
    return best, cost(best)
