"""What a search does that EM does not: a start read off the images, annealing, a shift of the template.

Source: ``docs/method.md``, *Search*.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import checks
from jaxem.batches import over_batches
from jaxem.loop import Schedule
from jaxem.model import Params, from_stack, to_stack
from jaxem.runs import fit_options
from jaxem.stack import MOMENTS_BATCH, Prepared, prepare, sum_over_images
from jaxem.steps import expectation
from jaxem.windows import Shape, positions_shape, window_sums


def annealing(num_steps: int = 20, *, start: float = 0.1, release_steps: int = 60) -> Schedule:
    """Deterministic annealing: posteriors wide at first, and a prior that is held uniform first and learned then.

    The inverse temperature rises from `start` to 1 by equal factors, with the prior held uniform. Then, at 1, the
    pseudo-counts fall from ten times to a hundredth of the number of images.

    Args:
        num_steps: at a higher temperature.
        start: the first inverse temperature, above 0, up to 1.
        release_steps: with a smoothed prior.

    Returns:
        `Schedule` of NumPy arrays, for `fit`.

    Raises:
        ValueError, TypeError: numbers outside their ranges.

    Example:
        >>> import jaxem
        >>> jaxem.annealing(3, start=0.25, release_steps=0).inverse_temperature
        array([0.25, 0.5 , 1.  ])

    Source: ``docs/method.md``, *Search*; N. Ueda and R. Nakano, Deterministic annealing EM algorithm, 1998.
    """
    num_steps = checks.as_count("num_steps", num_steps, at_least=0)
    release_steps = checks.as_count("release_steps", release_steps, at_least=0)
    start = checks.as_share("start", start)
    temperatures: Any = np.concatenate([np.geomspace(start, 1, num_steps), np.ones(release_steps)])
    held = np.full(num_steps, 1e4)  # so many pseudo-counts an image that the prior is uniform
    smoothing: Any = np.concatenate([held, np.geomspace(10, 0.01, release_steps)])
    return Schedule(temperatures, smoothing)


def varying_params(images: Any, template_shape: Shape) -> Params:
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
        >>> start = jaxem.varying_params(jnp.zeros((2, 5, 5)).at[1, 2:4, 1:4].set(1.0), (2, 3))
        >>> float(start.template.min()), float(start.background.max())
        (0.5, 0.0)

    Source: ``docs/method.md``, *Search*.
    """
    images = checks.as_images(images)
    template_shape = checks.as_template_shape(template_shape, images.shape[1:])
    return _varying_params(images, template_shape=template_shape)


@partial(jax.jit, static_argnames="template_shape")
def _varying_params(images: jax.Array, template_shape: Shape) -> Params:
    mean, variances = _pixel_moments(images)
    sums = window_sums(variances, template_shape)
    corner = jnp.stack(jnp.unravel_index(jnp.argmax(sums), sums.shape))
    template = jax.lax.dynamic_slice(mean, corner, template_shape)
    elsewhere = (jnp.sum(mean) - jnp.sum(template)) / max(mean.size - template.size, 1)
    fill = jnp.full(template_shape, elsewhere if mean.size > template.size else jnp.mean(mean), mean.dtype)
    background = jax.lax.dynamic_update_slice(mean, fill, corner)
    prior = jnp.full(sums.shape, 1 / sums.size, images.dtype)
    return Params(template, background, jnp.sqrt(jnp.mean(variances)), prior)


def _pixel_moments(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of each pixel over the images where it is finite, (H, W), a batch of images at a time."""
    batch_size = min(MOMENTS_BATCH, len(images))

    def add_finite(batch: jax.Array, weights: jax.Array, _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        finite = jnp.isfinite(batch)
        pixels = jnp.where(finite, batch, 0)
        return (sum_over_images(finite.astype(batch.dtype), weights), sum_over_images(pixels, weights)), None

    (count, total), _ = over_batches(add_finite, images, batch_size)
    count = jnp.maximum(count, 1)
    mean = total / count

    def add_squares(batch: jax.Array, weights: jax.Array, _: None) -> tuple[jax.Array, None]:
        return sum_over_images(jnp.where(jnp.isfinite(batch), batch - mean[None], 0) ** 2, weights), None

    squares, _ = over_batches(add_squares, images, batch_size)
    return mean, squares / count


class Cuts(NamedTuple):
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


def cut_params(images: Any, template_shape: Shape, rank: Any = 0) -> Params:
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
        >>> jaxem.cut_params(jnp.zeros((3, 5, 5)).at[1, 2:4, 1:4].set(1.0), (2, 3)).template.round(3).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]

    Source: ``docs/method.md``, *Search*.
    """
    images = checks.as_images(images)
    template_shape = checks.as_template_shape(template_shape, images.shape[1:])
    rank = checks.as_number("rank", rank, images.dtype, at_least=0)
    options = fit_options(images, False, 0, 0, 0, None)
    return _cut_params(images, rank, template_shape=template_shape, batch_size=options["batch_size"])


@partial(jax.jit, static_argnames=("template_shape", "batch_size"))
def _cut_params(images: jax.Array, rank: jax.Array, template_shape: Shape, batch_size: int) -> Params:
    prepared = prepare(images, batch_size)
    number = jnp.clip(rank.astype(jnp.int32), 0, len(images) - 1)
    return from_stack(cut_out(prepared, find_cuts(prepared, template_shape), number, template_shape), prepared.stack)


def find_cuts(prepared: Prepared, template_shape: Shape) -> Cuts:
    """The candidates of `cut_params`."""
    stack = prepared.stack

    def of_one(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        residuals = (image - stack.offset) * (1 / stack.scale) - stack.reference
        sums = window_sums(jnp.where(jnp.isfinite(residuals), residuals, 0) ** 2, template_shape)
        corner = jnp.stack(jnp.unravel_index(jnp.argmax(sums), sums.shape))
        return jnp.max(sums), corner.astype(jnp.int32)

    largest, corners = jax.lax.map(of_one, stack.images)
    order = jnp.argsort(-largest)
    return Cuts(order.astype(jnp.int32), corners[order])


def cut_out(prepared: Prepared, cuts: Cuts, rank: jax.Array, template_shape: Shape) -> Params:
    """The starting point of one of the cuts, in the units of the stack."""
    stack, totals = prepared
    window = jax.lax.dynamic_slice(stack.images[cuts.numbers[rank]], cuts.corners[rank], template_shape)
    positions = positions_shape(stack.image_shape, template_shape)
    prior = jnp.full(positions, 1 / math.prod(positions), window.dtype)
    noise_scale = jnp.sqrt(totals.square_sum.high / stack.images.size)
    return Params((window - stack.offset) * (1 / stack.scale), stack.reference, noise_scale, prior)


def recentre(images: Any, params: Params) -> Params:
    """Shift the template to where the images differ most from the background, relative to its best corners.

    EM often finds a template that is shifted by some pixels: it holds a margin of background and lacks its other end,
    and no single step leads from there. Around the best corners, aligned to each other, the images are averaged up to
    half a template beyond the window on each side. The new template is the window of that average in which the sum over
    pixels of n (mean of X - B)^2 is largest, n being how many images show the pixel: what a template there would gain.

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

    Source: ``docs/method.md``, *Search*.
    """
    images = checks.as_images(images)
    params = checks.as_params(params, images.shape[1:], images.dtype)
    options = fit_options(images, False, 0, 0, 0, None)
    return _recentre(images, params, batch_size=options["batch_size"])


@partial(jax.jit, static_argnames="batch_size")
def _recentre(images: jax.Array, params: Params, batch_size: int) -> Params:
    prepared = prepare(images, batch_size)
    params = to_stack(params, prepared.stack)
    corners = expectation(prepared.stack, params, hard=True).corners
    return from_stack(recentred(prepared, params, corners), prepared.stack)


def recentred(prepared: Prepared, params: Params, corners: jax.Array) -> Params:
    """`recentre` on a prepared stack, in its units, given the best corners (K, 2)."""
    stack = prepared.stack
    height, width = params.template.shape
    margins = height // 2, width // 2
    around = height + 2 * margins[0], width + 2 * margins[1]

    def padded(array: jax.Array) -> jax.Array:
        return jnp.pad(array, [(margin, margin) for margin in margins])

    shared = padded(jnp.ones_like(params.background)), padded(params.background)

    def one_image(totals: tuple[jax.Array, ...], inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        image, corner = inputs
        arrays = (*shared, padded((image - stack.offset) * (1 / stack.scale)))
        cuts = (jax.lax.dynamic_slice(array, corner, around) for array in arrays)
        return tuple(total + cut for total, cut in zip(totals, cuts, strict=True)), None

    nothing = (jnp.zeros(around, params.template.dtype),) * 3
    (seen, behind, shown), _ = jax.lax.scan(one_image, nothing, (stack.images, corners))
    count = jnp.maximum(seen, 1)
    gains = window_sums((shown - behind) ** 2 / count, params.template.shape)
    best = jnp.stack(jnp.unravel_index(jnp.argmax(gains), gains.shape))
    template = jax.lax.dynamic_slice(shown / count, best, params.template.shape)
    prior = jnp.full(positions_shape(stack.image_shape, (height, width)), 1 / params.prior.size, template.dtype)
    here = jnp.all(best == jnp.array(margins))
    return params._replace(
        template=jnp.where(here, params.template, template), prior=jnp.where(here, params.prior, prior)
    )
