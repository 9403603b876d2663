"""The images as the library works with them: what they share, small residuals, and the operators on those.

Derivations: ``docs/method.md``, *Numerics*.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem import compensated, transforms, windows
from jaxem.compensated import Pair
from jaxem.windows import Shape


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
        # A product, not a quotient: the same for a power of two, and faster.
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

    def covered_sum(self, maps: jax.Array, template_shape: Shape) -> jax.Array:
        """Each residual times its coverage, summed over the images, (K, P, Q) -> (H, W)."""
        products = self.coverage(maps, template_shape) * self.residuals
        # Not jnp.sum: XLA for CPU fuses a product into a sum over the first axis and is then ten times slower.
        return (jnp.ones(len(maps), products.dtype) @ products.reshape(len(maps), -1)).reshape(self.image_shape)


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


def centre(images: jax.Array) -> Stack:
    """Split the images (K, H, W) into offset, scale, reference and residuals."""
    offset, scale = offset_and_scale(images)
    centred = (images - offset) / scale
    reference = jnp.mean(centred, axis=0)

    # Sums of squares carry a relative error eps, pixels carry eps times their size; less noise than that is invisible.
    eps = jnp.finfo(images.dtype).eps
    floor = eps * jnp.mean(centred**2) + (eps * jnp.max(jnp.abs(images)) / scale) ** 2
    return Stack(images, reference, offset, scale, jnp.where(floor == 0, eps**2, floor))


def offset_and_scale(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean of the finite pixels, and the power of two (dividing by it is exact) near their mean distance from it."""
    finite = jnp.isfinite(images)
    offset = jnp.mean(images, where=finite)
    distance = jnp.mean(jnp.abs(images - offset), where=finite)
    usable = jnp.isfinite(distance) & (distance > 0)
    exponent = jnp.round(jnp.log2(jnp.where(usable, distance, 1))).astype(jnp.int32)
    return jnp.where(jnp.isfinite(offset), offset, 0), jnp.ldexp(jnp.ones_like(distance), exponent)


def add_up(stack: Stack, weights: jax.Array | None = None) -> Totals:
    """The totals of a stack, or of the images whose weight (K,) is one and not zero."""
    residuals = stack.residuals
    weights = jnp.ones(len(residuals), residuals.dtype) if weights is None else weights
    chosen = residuals * weights[:, None, None]
    # Rounding averages out over the rows; only their total needs care.
    rows = jnp.sum(chosen**2, axis=-1)
    return Totals(jnp.sum(weights), jnp.sum(chosen, axis=0), compensated.total(rows.ravel()))
