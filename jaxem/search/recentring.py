"""A template that was found shifted, put where it belongs.

Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.appearances import IDENTITY, as_transforms, geometry_of, turned_back
from jaxem.model.checks import as_params
from jaxem.model.expectation import expectation
from jaxem.model.frames import Frames, as_frames
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, channel_variances
from jaxem.model.params import Params, to_internal_units, to_pixel_values, with_uniform_prior
from jaxem.model.workspace import make_workspace
from jaxem.ops.batching import over_images
from jaxem.ops.windows import Geometry, correlate, window_sums_in_stages
from jaxem.search.reach import reachable_shift
from jaxem.solvers.options import cheapest_batch_size

# Gains of two windows that differ by less than so many standard deviations of noise are alike.
TIE_SPREADS = 3.0


def recentre(
    images: Any, params: Params, *, weights: Any = None, frame_weights: Any = None, transforms: Any = IDENTITY
) -> Params:
    """Shift each template to where the images differ most from the background, relative to its best corners.

    EM often finds a template that is shifted by some pixels: it holds a margin of background and lacks its other end,
    and no single step leads from there. Around the best corners, aligned to each other, the images are averaged up to
    half a template beyond the window on each side. The new template is the window of that average in which the sum over
    pixels of m (mean of X - B)^2 is largest, m being how many images show the pixel: what a template there would gain.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values.
        params: the parameters.
        weights: of the pixels, as for `fit`.
        frame_weights: of the images, as for `fit`.
        transforms: that a template may be under, as for `fit` (static).

    Returns:
        `Params`: the shifted templates and a uniform prior, or the given parameters where no shift promises more.

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
    frames, transforms = as_frames(images, weights, frame_weights), as_transforms(transforms)
    params = as_params(params, frames.pixels.shape[1:], frames.pixels.dtype, transforms)
    return _recentre(frames, params, transforms=transforms)


@partial(jax.jit, static_argnames="transforms")
def _recentre(frames: Frames, params: Params, transforms: tuple[str, ...]) -> Params:
    workspace = make_workspace(frames, cheapest_batch_size(frames.num_in_shard, math.prod(frames.image_shape)))
    internal = to_internal_units(params, workspace.images)
    best = expectation(workspace, internal, hard=True, transforms=transforms).best
    return recentred(workspace.images, params, best, transforms)


def recentred(
    images: CenteredImages,
    params: Params,
    best: Hypotheses,
    transforms: tuple[str, ...],
    *,
    tie_spreads: jax.Array | float = TIE_SPREADS,
    to_reach: jax.Array | None = None,
) -> Params:
    """`recentre`, given the best hypotheses, and how many standard deviations of noise make no difference.

    Where `to_reach` says so, the window is shifted to where its object reaches all places that it is seen at instead.
    """
    internal = to_internal_units(params, images)
    geometry = geometry_of(internal)
    template_shape = geometry.template
    # Round the edges a template as large as the images has no margin: every shift of it is the same.
    margins = tuple(
        0 if goes_round and n == m else m // 2
        for goes_round, n, m in zip(geometry.goes_round, geometry.image, template_shape, strict=True)
    )
    around = tuple(m + 2 * margin for m, margin in zip(template_shape, margins, strict=True))
    num_templates, num_channels = internal.template.shape[:2]
    padded = partial(_padded, margins=margins, geometry=geometry)
    behind = padded(internal.background)

    def one_image(inputs: Any) -> tuple[tuple[jax.Array, ...], None]:
        one, where = inputs
        batch = images.frames.batch(jax.tree.map(lambda leaf: leaf[None], one))
        pixels = images._replace(frames=batch).residuals[0] + images.mean_image
        weights = (
            jnp.ones((1, *geometry.image), pixels.dtype) if batch.pixel_weights is None else batch.pixel_weights[0]
        )
        count = batch.counts(jnp.ones(1, pixels.dtype))[0]
        weights = weights * (count if where.present is None else jnp.where(where.present, count, 0))
        corner = (jnp.zeros_like(where.corners[0]), *where.corners)
        weights, pixels, hidden = (
            lax.dynamic_slice(array, corner, (len(array), *around))
            for array in (padded(weights), padded(pixels), behind)
        )
        template = jnp.int32(0)
        if where.appearance is not None:
            template, transform = jnp.divmod(where.appearance, len(transforms))
            weights, pixels, hidden = (turned_back(array, transform, transforms) for array in (weights, pixels, hidden))
        pixels, hidden = jnp.where(weights > 0, pixels, 0), jnp.where(weights > 0, hidden, 0)
        sums = (weights, weights * pixels, weights * (pixels - hidden))
        if num_templates == 1:
            return tuple(part[None] for part in sums), None
        nothing = (jnp.zeros((num_templates, *part.shape), part.dtype) for part in sums)
        return tuple(none.at[template].set(part) for none, part in zip(nothing, sums, strict=True)), None

    own = images.frames.own, best
    (seen, shown, difference), _ = over_images(one_image, own, shards=images.frames.shards)
    count = jnp.where(seen > 0, seen, 1)
    squares = jnp.sum(difference**2 / count, axis=1)
    if internal.opacity is None:
        gains = window_sums_in_stages(squares, template_shape)
        num_pixels = jnp.full(num_templates, template_shape[0] * template_shape[1], gains.dtype)
    else:
        gains = correlate(squares, internal.opacity[:, 0])
        num_pixels = jnp.sum(internal.opacity, axis=(1, 2, 3))
    variance = jnp.mean(channel_variances(internal))
    tolerance = tie_spreads * variance * jnp.sqrt(2 * num_channels * num_pixels)
    shifts = jax.vmap(_middle_of_best)(gains, tolerance)
    if to_reach is not None and can_reach(internal):
        rows, columns = (slice(margin, margin + m) for margin, m in zip(margins, template_shape, strict=True))
        inside = squares[0, rows, columns]
        shifts = lax.cond(
            to_reach,
            lambda: reachable_shift(images, internal, inside)[None] + jnp.array(margins, jnp.int32)[None],
            lambda: shifts,
        )

    def cut(array: jax.Array, shift: jax.Array) -> jax.Array:
        return lax.dynamic_slice(array, (jnp.zeros_like(shift[0]), *shift), (len(array), *template_shape))

    here = jnp.all(shifts == jnp.array(margins, jnp.int32)[None], axis=1)
    templates, there = jax.vmap(cut)(shown / count, shifts), jax.vmap(cut)(seen, shifts) > 0
    keeps = here[:, None, None, None] | ~there
    found = to_pixel_values(internal._replace(template=jnp.where(keeps, internal.template, templates)), images, params)
    template = jnp.where(jnp.all(here), params.template, found.template)
    flat = with_uniform_prior(params)
    return params._replace(template=template, prior=jnp.where(jnp.all(here), params.prior, flat.prior))


def can_reach(internal: Params) -> bool:
    """Whether `reachable_shift` applies: to one template, a full rectangle under no transforms, inside the images."""
    return len(internal.prior) == 1 and internal.opacity is None and not any(geometry_of(internal).goes_round)


def _middle_of_best(gains: jax.Array, tolerance: jax.Array) -> jax.Array:
    """Row and column of the highest gain; where others come as near as noise, the middle of all these.

    An object smaller than the template lies in many windows as a whole, and belongs in the middle.
    """
    near = gains >= jnp.max(gains) - tolerance
    count = jnp.sum(near.astype(gains.dtype))
    middle = jnp.stack(
        [jnp.sum(jnp.where(near, places, 0)) / count for places in jnp.indices(gains.shape, dtype=gains.dtype)]
    )
    middle = jnp.round(middle).astype(jnp.int32)
    highest = jnp.stack(jnp.unravel_index(jnp.argmax(gains), gains.shape)).astype(jnp.int32)
    return jnp.where(near[middle[0], middle[1]], middle, highest)


def _padded(array: jax.Array, margins: tuple[int, ...], geometry: Geometry) -> jax.Array:
    """Images with a margin on each side: zeros, or what lies round the edge."""
    for axis, (goes_round, margin, size) in enumerate(
        zip(geometry.goes_round, margins, geometry.template, strict=True), start=array.ndim - 2
    ):
        widths = [(0, 0)] * array.ndim
        widths[axis] = (margin, margin + (size - 1) * goes_round)
        array = jnp.pad(array, widths, mode="wrap" if goes_round else "constant")
    return array
