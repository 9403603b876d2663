"""Images as the library works with them: what they share, small residuals, and the operators on those.

Derivations: ``docs/numerics.md``, *Centred images*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.ops import double_word, fourier, windows
from jaxem.ops.batching import over_batches
from jaxem.ops.double_word import DoubleWord
from jaxem.ops.windows import Shape

FRAMES_PER_PASS = 32  # in passes that only look at pixels


class Spectra(NamedTuple):
    """What `CenteredImages` keeps to be fast: see `fourier.transform_pairs`.

    ==========  ==============  ==========================================
    field       shape           meaning
    ==========  ==============  ==========================================
    pairs       (..., m, W, H)  of the residuals, two images in each
    mean_image  (1, W, H)       of the mean image
    ==========  ==============  ==========================================
    """

    pairs: jax.Array
    mean_image: jax.Array


class CenteredImages(NamedTuple):
    """Images as what they share plus small residuals: X_k = offset + scale (mean_image + residuals_k).

    Outside the window a residual is noise, so sums over residuals stay small whatever constant or picture lies under
    the images; and in units of the scale no square overflows or vanishes. That is what keeps single precision honest.

    ==============  =========  =================================================================================
    field           shape      meaning
    ==============  =========  =================================================================================
    pixels          (K, H, W)  X_k as they came, pixel value
    mean_image      (H, W)     B0, the mean of the images less the offset, in units of the scale
    offset          ()         mean of all finite pixels, pixel value
    scale           ()         power of two near their mean distance from it, pixel value
    variance_floor  ()         the smallest noise variance that the numbers can resolve, in units of scale^2
    spectra         `Spectra`  if there, the operators are those of ``fourier`` and the faster ones of ``windows``;
                    or None    if not, those that are simplest
    ==============  =========  =================================================================================
    """

    pixels: jax.Array
    mean_image: jax.Array
    offset: jax.Array
    scale: jax.Array
    variance_floor: jax.Array
    spectra: Spectra | None = None

    @property
    def image_shape(self) -> Shape:
        """(H, W)."""
        return self.mean_image.shape

    @property
    def residuals(self) -> jax.Array:
        """R_k, (K, H, W), in units of the scale; made anew where they are used, which is cheaper than keeping them."""
        return self.to_internal_units(self.pixels) - self.mean_image[None]

    def to_internal_units(self, pixels: jax.Array) -> jax.Array:
        """Pixel values less the offset, in units of the scale."""
        return (pixels - self.offset) * (1 / self.scale)

    def transform_template(self, template: jax.Array) -> jax.Array:
        """The template as the correlations want it; a multiple of it is transformed too."""
        return template if self.spectra is None else fourier.transform_template(template, self.image_shape)

    def correlate(self, transformed: jax.Array, template_shape: Shape) -> jax.Array:
        """The residuals' correlation with a transformed template, (K, P, Q)."""
        if self.spectra is None:
            return windows.correlate(self.residuals, transformed)
        return fourier.correlate_pairs(self.spectra.pairs, transformed, template_shape)[: len(self.pixels)]

    def correlate_mean_image(self, transformed: jax.Array, template_shape: Shape) -> jax.Array:
        """The mean image's correlation with a transformed template, (P, Q)."""
        if self.spectra is None:
            return windows.correlate(self.mean_image, transformed)
        return fourier.correlate_pairs(self.spectra.mean_image, transformed, template_shape)[0]

    def backproject(self, maps: jax.Array) -> jax.Array:
        """Adjoint of `correlate`, summed over the images, in a form that batches can add up: see `template_of`."""
        if self.spectra is None:
            return windows.backproject(self.residuals, maps)
        return fourier.backproject_pairs(self.spectra.pairs, maps)

    def backproject_mean_image(self, maps: jax.Array) -> jax.Array:
        """Adjoint of `correlate_mean_image`, in the same form."""
        if self.spectra is None:
            return windows.backproject(self.mean_image[None], maps[None])
        return fourier.backproject_pairs(self.spectra.mean_image, maps[None])

    def template_of(self, backprojection: jax.Array, template_shape: Shape) -> jax.Array:
        """What the backprojections gave, added up, as (h, w)."""
        return backprojection if self.spectra is None else fourier.template_of(backprojection, template_shape)

    def window_sums(self, images: jax.Array, template_shape: Shape) -> jax.Array:
        """Window sums of any images, (..., H, W) -> (..., P, Q)."""
        sums = windows.window_sums if self.spectra is None else windows.window_sums_in_stages
        return sums(images, template_shape)

    def coverage(self, maps: jax.Array, template_shape: Shape) -> jax.Array:
        """Coverage of any position maps, (..., P, Q) -> (..., H, W)."""
        spread = windows.coverage if self.spectra is None else windows.coverage_in_stages
        return spread(maps, template_shape)

    def covered_sum(self, maps: jax.Array, weights: jax.Array, template_shape: Shape) -> jax.Array:
        """Weighted sum over the images of each residual times the coverage of its map, (K, P, Q), (K,) -> (H, W)."""
        return sum_over_images(self.coverage(maps, template_shape) * self.residuals, weights)


class ImageTotals(NamedTuple):
    """Sums over all images that no parameter enters.

    ============  =====================  ============  =======================
    field         formula                shape         meaning
    ============  =====================  ============  =======================
    num_images    K                      ()            how many images
    residual_sum  Y = sum_k R_k          (H, W)        all residuals
    square_sum    sum_k sum_r R_k(r)^2   `DoubleWord`  their squares
    ============  =====================  ============  =======================
    """

    num_images: jax.Array
    residual_sum: jax.Array
    square_sum: DoubleWord


class PixelMoments(NamedTuple):
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

    @property
    def spread(self) -> jax.Array:
        """Standard deviation, pixel value."""
        return self.scale * jnp.sqrt(self.mean_square)


def pixel_moments(images: jax.Array, batch_size: int) -> PixelMoments:
    """Mean, spread and range of all pixels of (K, H, W), in three passes."""

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
    return PixelMoments(mean, scale, mean_square, jnp.max(jnp.abs(images)))


def moments_by_pixel(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance over the images of each pixel where it is finite, (H, W), a batch of images at a time."""
    batch_size = min(FRAMES_PER_PASS, len(images))

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


def center(images: jax.Array, batch_size: int | None = None) -> CenteredImages:
    """Split the images (K, H, W) into offset, scale, mean image and residuals, a batch at a time."""
    batch_size = len(images) if batch_size is None else batch_size
    return center_about(pixel_moments(images, batch_size), images, batch_size)


def center_about(moments: PixelMoments, images: jax.Array, batch_size: int) -> CenteredImages:
    """`center`, where the moments of the pixels are known."""
    offset, scale, mean_square, largest = moments

    def one_batch(batch: jax.Array, weights: jax.Array, _: None) -> tuple[jax.Array, None]:
        return sum_over_images((batch - offset) * (1 / scale), weights), None

    total, _ = over_batches(one_batch, images, batch_size)

    # Sums of squares carry a relative error eps, pixels carry eps times their size; less noise than that is invisible.
    eps = jnp.finfo(images.dtype).eps
    floor = eps * mean_square + (eps * largest / scale) ** 2
    return CenteredImages(images, total / len(images), offset, scale, jnp.where(floor == 0, eps * eps, floor))


def total_up(images: CenteredImages, weights: jax.Array | None = None) -> ImageTotals:
    """The totals of all images, or of those whose weight (K,) is one and not zero."""
    residuals = images.residuals
    weights = jnp.ones(len(residuals), residuals.dtype) if weights is None else weights
    # Rounding averages out over the rows; only their total needs care.
    rows = jnp.sum(residuals**2, axis=-1) * weights[:, None]
    return ImageTotals(jnp.sum(weights), sum_over_images(residuals, weights), double_word.total(rows.ravel()))


class Workspace(NamedTuple):
    """What every iteration on a stack shares, made once.

    =======  =====================================================================================================
    field    meaning
    =======  =====================================================================================================
    images   the `CenteredImages`, with spectra of pairs of them, (number of batches, batch size / 2, W, H)
    totals   their `ImageTotals`
    moments  the `PixelMoments` they were centred by
    =======  =====================================================================================================
    """

    images: CenteredImages
    totals: ImageTotals
    moments: PixelMoments

    @property
    def batch_size(self) -> int:
        """Images of a batch, in all passes the same."""
        assert self.images.spectra is not None
        return min(2 * self.images.spectra.pairs.shape[1], len(self.images.pixels))


def make_workspace(images: jax.Array, batch_size: int) -> Workspace:
    """Centre the images (K, H, W), and make totals and spectra of them in batches that all later passes keep to."""
    batch_size = min(batch_size + batch_size % 2, len(images))
    moments = pixel_moments(images, batch_size)
    centered = center_about(moments, images, batch_size)

    def one_batch(pixels: jax.Array, weights: jax.Array, _: None) -> tuple[ImageTotals, jax.Array]:
        batch = centered._replace(pixels=pixels)
        return total_up(batch, weights), fourier.transform_pairs(batch.residuals, centered.image_shape)

    totals, pairs = over_batches(one_batch, images, batch_size)
    mean_image = fourier.transform_pairs(centered.mean_image[None], centered.image_shape)
    return Workspace(centered._replace(spectra=Spectra(pairs, mean_image)), totals, moments)


def sum_over_images(arrays: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum over the first axis, as a product.

    XLA for CPU fuses what makes the arrays into a plain sum over their first axis, which is then ten times slower.
    """
    total = jnp.matmul(weights, arrays.reshape(len(arrays), -1), precision=lax.Precision.HIGHEST)
    return total.reshape(arrays.shape[1:])
