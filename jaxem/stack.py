"""The images as the library works with them: what they share, small residuals, and the operators on those.

Derivations: ``docs/method.md``, *Numerics*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem import compensated, transforms, windows
from jaxem.batches import over_batches
from jaxem.compensated import Pair
from jaxem.windows import Shape

MOMENTS_BATCH = 32  # images at a time in passes that only look at their pixels


class Transforms(NamedTuple):
    """What `Stack` keeps to be fast: see `transforms.transform_pairs`.

    =========  ==============  ==========================================
    field      shape           meaning
    =========  ==============  ==========================================
    pairs      (..., m, W, H)  of the residuals, two images in each
    reference  (1, W, H)       of the reference
    =========  ==============  ==========================================
    """

    pairs: jax.Array
    reference: jax.Array


class Stack(NamedTuple):
    """The images as what they share plus small residuals: X_k = offset + scale (reference + residuals_k).

    Outside the window a residual is noise, so sums over residuals stay small whatever constant or picture lies under
    the images; and in units of the scale no square overflows or vanishes. That is what keeps single precision honest.

    ==============  ===============  ==============================================================================
    field           shape            meaning
    ==============  ===============  ==============================================================================
    images          (K, H, W)        X_k, pixel value
    reference       (H, W)           B0, the mean image less the offset, in units of the scale
    offset          ()               mean of all finite pixels, pixel value
    scale           ()               power of two near their mean distance from it, pixel value
    variance_floor  ()               the smallest noise variance that the numbers can resolve, in units of scale^2
    transforms      `Transforms`     if there, the operators are those of ``transforms`` and the faster ones of
                    or None          ``windows``; if not, those that are simplest
    ==============  ===============  ==============================================================================
    """

    images: jax.Array
    reference: jax.Array
    offset: jax.Array
    scale: jax.Array
    variance_floor: jax.Array
    transforms: Transforms | None = None

    @property
    def image_shape(self) -> Shape:
        """(H, W)."""
        return self.reference.shape

    @property
    def residuals(self) -> jax.Array:
        """R_k, (K, H, W), in units of the scale; made anew where they are used, which is cheaper than keeping them."""
        return (self.images - self.offset) * (1 / self.scale) - self.reference[None]

    def prepare(self, template: jax.Array) -> jax.Array:
        """The template as the correlations want it; a multiple of it is prepared too."""
        return template if self.transforms is None else transforms.transform_template(template, self.image_shape)

    def correlate(self, prepared: jax.Array, template_shape: Shape) -> jax.Array:
        """The residuals' correlation with a prepared template, (K, P, Q)."""
        if self.transforms is None:
            return windows.correlate(self.residuals, prepared)
        return transforms.correlate_pairs(self.transforms.pairs, prepared, template_shape)[: len(self.images)]

    def correlate_reference(self, prepared: jax.Array, template_shape: Shape) -> jax.Array:
        """The reference's correlation with a prepared template, (P, Q)."""
        if self.transforms is None:
            return windows.correlate(self.reference, prepared)
        return transforms.correlate_pairs(self.transforms.reference, prepared, template_shape)[0]

    def backproject(self, maps: jax.Array) -> jax.Array:
        """Adjoint of `correlate`, summed over the images, in a form that batches can add up: see `template_of`."""
        if self.transforms is None:
            return windows.backproject(self.residuals, maps)
        return transforms.backproject_pairs(self.transforms.pairs, maps)

    def backproject_reference(self, maps: jax.Array) -> jax.Array:
        """Adjoint of `correlate_reference`, in the same form."""
        if self.transforms is None:
            return windows.backproject(self.reference[None], maps[None])
        return transforms.backproject_pairs(self.transforms.reference, maps[None])

    def template_of(self, backprojection: jax.Array, template_shape: Shape) -> jax.Array:
        """What the backprojections gave, added up, as (h, w)."""
        return backprojection if self.transforms is None else transforms.template_of(backprojection, template_shape)

    def window_sums(self, images: jax.Array, template_shape: Shape) -> jax.Array:
        """Window sums of any images, (..., H, W) -> (..., P, Q)."""
        sums = windows.window_sums if self.transforms is None else windows.window_sums_in_stages
        return sums(images, template_shape)

    def coverage(self, maps: jax.Array, template_shape: Shape) -> jax.Array:
        """Coverage of any position maps, (..., P, Q) -> (..., H, W)."""
        spread = windows.coverage if self.transforms is None else windows.coverage_in_stages
        return spread(maps, template_shape)

    def covered_sum(self, maps: jax.Array, weights: jax.Array, template_shape: Shape) -> jax.Array:
        """Weighted sum over the images of each residual times the coverage of its map, (K, P, Q), (K,) -> (H, W)."""
        return sum_over_images(self.coverage(maps, template_shape) * self.residuals, weights)


class Totals(NamedTuple):
    """Sums over all images that no parameter enters.

    ============  =================  ========  =======================
    field         formula            shape     meaning
    ============  =================  ========  =======================
    num_images    K                  ()        how many images
    residual_sum  sum_k R_k          (H, W)    all residuals
    square_sum    sum_kp R_k[p]^2    `Pair`    their squares
    ============  =================  ========  =======================
    """

    num_images: jax.Array
    residual_sum: jax.Array
    square_sum: Pair


class Moments(NamedTuple):
    """Of all finite pixels, so that one bad pixel does not hide the others.

    ===========  =======================================================================  ==================
    field        meaning                                                                  unit
    ===========  =======================================================================  ==================
    mean         their mean                                                               pixel value
    scale        the power of two (dividing by it is exact) near their mean distance      pixel value
                 from it
    mean_square  mean square of their distance                                            scale^2
    largest      the largest absolute value                                               pixel value
    ===========  =======================================================================  ==================
    """

    mean: jax.Array
    scale: jax.Array
    mean_square: jax.Array
    largest: jax.Array


def moments(images: jax.Array, batch_size: int) -> Moments:
    """Mean, spread and range of the pixels, in three passes."""

    def mean_of(function: Callable[[jax.Array], jax.Array]) -> jax.Array:
        def one_batch(batch: jax.Array, weights: jax.Array, _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
            counted = jnp.isfinite(batch) & (weights > 0)[:, None, None]
            part = jnp.sum(jnp.where(counted, function(batch), 0)) / images.size
            return (part, jnp.sum(counted.astype(batch.dtype)) / images.size), None

        (total, share), _ = over_batches(one_batch, images, batch_size)
        return total / share

    # Counted from a pixel, so that a constant stack has exactly its constant as its mean.
    pivot = jnp.where(jnp.isfinite(images[0, 0, 0]), images[0, 0, 0], 0)
    mean = pivot + mean_of(lambda batch: batch - pivot)
    mean = jnp.where(jnp.isfinite(mean), mean, 0)
    distance = mean_of(lambda batch: jnp.abs(batch - mean))
    usable = jnp.isfinite(distance) & (distance > 0)
    exponent = jnp.round(jnp.log2(jnp.where(usable, distance, 1))).astype(jnp.int32)
    scale = jnp.ldexp(jnp.ones_like(distance), exponent)
    mean_square = mean_of(lambda batch: ((batch - mean) / scale) ** 2)
    return Moments(mean, scale, mean_square, jnp.max(jnp.abs(images)))


def centre(images: jax.Array, batch_size: int | None = None) -> Stack:
    """Split the images (K, H, W) into offset, scale, reference and residuals, a batch at a time."""
    batch_size = len(images) if batch_size is None else batch_size
    offset, scale, mean_square, largest = moments(images, batch_size)

    def one_batch(batch: jax.Array, weights: jax.Array, _: None) -> tuple[jax.Array, None]:
        return sum_over_images((batch - offset) * (1 / scale), weights), None

    total, _ = over_batches(one_batch, images, batch_size)

    # Sums of squares carry a relative error eps, pixels carry eps times their size; less noise than that is invisible.
    eps = jnp.finfo(images.dtype).eps
    floor = eps * mean_square + (eps * largest / scale) ** 2
    return Stack(images, total / len(images), offset, scale, jnp.where(floor == 0, eps * eps, floor))


def add_up(stack: Stack, weights: jax.Array | None = None) -> Totals:
    """The totals of a stack, or of the images whose weight (K,) is one and not zero."""
    residuals = stack.residuals
    weights = jnp.ones(len(residuals), residuals.dtype) if weights is None else weights
    # Rounding averages out over the rows; only their total needs care.
    rows = jnp.sum(residuals**2, axis=-1) * weights[:, None]
    return Totals(jnp.sum(weights), sum_over_images(residuals, weights), compensated.total(rows.ravel()))


class Prepared(NamedTuple):
    """A stack whose transforms and totals are made.

    ======  =====================================================================================
    field   meaning
    ======  =====================================================================================
    stack   the `Stack`, with transforms of its pairs of shape (batches, batch size / 2, W, H)
    totals  its `Totals`
    ======  =====================================================================================
    """

    stack: Stack
    totals: Totals


def prepare(images: jax.Array, batch_size: int) -> Prepared:
    """Centre the images and make their transforms, in batches that all later passes keep to, and their totals."""
    batch_size = min(batch_size + batch_size % 2, len(images))
    stack = centre(images, batch_size)

    def one_batch(batch: jax.Array, weights: jax.Array, _: None) -> tuple[Totals, jax.Array]:
        part = stack._replace(images=batch)
        return add_up(part, weights), transforms.transform_pairs(part.residuals, stack.image_shape)

    totals, pairs = over_batches(one_batch, images, batch_size)
    reference = transforms.transform_pairs(stack.reference[None], stack.image_shape)
    return Prepared(stack._replace(transforms=Transforms(pairs, reference)), totals)


def sum_over_images(arrays: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum over the first axis, as a product.

    XLA for CPU fuses what makes the arrays into a plain sum over their first axis, which is then ten times slower.
    """
    total = jnp.matmul(weights, arrays.reshape(len(arrays), -1), precision=lax.Precision.HIGHEST)
    return total.reshape(arrays.shape[1:])
