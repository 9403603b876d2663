"""Images as the library works with them: what they share, small residuals, and the operators on those.

Derivations: ``docs/numerics.md``, *Centred images*.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.signal import fftconvolve

from jaxem.model.frames import Frames
from jaxem.ops import fourier, windows
from jaxem.ops.windows import Geometry, Shape


class Spectra(NamedTuple):
    """What `CenteredImages` keeps to be fast: see `fourier.transform_pairs`.

    =============  =====================  ===================================================================
    field          shape                  meaning
    =============  =====================  ===================================================================
    pairs          (..., m, C, W, H)      of the weighted residuals, two images in each
    mean_image     (1, C, W, H)           of the mean image times the mean weights
    weight_pairs   (..., m, 1, W, H)      of what each image's weights are off their mean; None where shared
                   or None
    mean_weights   (1, 1, W, H) or None   of the mean weights; None: one
    =============  =====================  ===================================================================
    """

    pairs: jax.Array
    mean_image: jax.Array
    weight_pairs: jax.Array | None = None
    mean_weights: jax.Array | None = None


class Kernels(NamedTuple):
    """What images are correlated with, for Z appearances of a template; see `CenteredImages.transform_template`.

    =========  ====================  =====================================================================
    field      formula, shape        correlated with
    =========  ====================  =====================================================================
    templates  S F / s^2             the weighted residuals
               (Z, C, h, w)
    squares    S F^2 / 2 s^2         what each image's weights are off their mean; None where shared
               (Z, 1, h, w) or None
    supports   S                     what the template hides; None: it is a full rectangle
               (Z, 1, h, w) or None
    =========  ====================  =====================================================================
    """

    templates: jax.Array
    squares: jax.Array | None
    supports: jax.Array | None


class Backprojection(NamedTuple):
    """What maps over corners show of images under Z appearances of a template; see `CenteredImages.template_of`.

    =========  ====================  =====================================================================
    field      shape                 meaning
    =========  ====================  =====================================================================
    residuals  (Z, C, ...)           weighted residuals under the template, summed over images
    weights    (Z, 1, ...) or None   what the images' weights are off their mean there; None where shared
    hidden     (K, H, W) or None     how much each image's map hides of each pixel; None: `coverage` tells
    =========  ====================  =====================================================================
    """

    residuals: jax.Array
    weights: jax.Array | None
    hidden: jax.Array | None


class CenteredImages(NamedTuple):
    """Images as what they share plus small residuals: X_k = offset + scale (mean_image + residuals_k).

    Outside the window a residual is noise, so sums over residuals stay small whatever constant or picture lies under
    the images; and in units of the scale no square overflows or vanishes. That is what keeps single precision honest.

    ==============  ===============  ===============================================================================
    field           shape            meaning
    ==============  ===============  ===============================================================================
    frames          `Frames`         as they came
    mean_image      (C, H, W)        B0, the weighted mean of the images less the offset, in units of the scale
    mean_weights    (H, W) or None   mean of the pixels' weights over the images; None: one
    offset          (C,)             mean of all finite pixels of each channel, pixel value
    scale           ()               power of two near their mean distance from it, pixel value
    variance_floor  (C,)             the smallest noise variance that the numbers can resolve, in units of scale^2
    limits          (C,), (C,)       the lowest and the highest pixel that count, which those of images that count for
                    or None          nothing are clipped to; None: all images count
    spectra         `Spectra`        if there, the operators are those of ``fourier`` and the faster ones of
                                     ``windows``; or None if not, those that are simplest
    ==============  ===============  ===============================================================================
    """

    frames: Frames
    mean_image: jax.Array
    mean_weights: jax.Array | None
    offset: jax.Array
    scale: jax.Array
    variance_floor: jax.Array
    limits: tuple[jax.Array, jax.Array] | None = None
    spectra: Spectra | None = None

    @property
    def of_none(self) -> CenteredImages:
        """The same of no images: what they share."""
        spectra = self.spectra
        if spectra is not None:
            weight_pairs = None if spectra.weight_pairs is None else spectra.weight_pairs[:0]
            spectra = spectra._replace(pairs=spectra.pairs[:0], weight_pairs=weight_pairs)
        return self._replace(frames=self.frames.of_none, spectra=spectra)

    @property
    def image_shape(self) -> Shape:
        """(H, W)."""
        return self.mean_image.shape[1:]

    @property
    def residuals(self) -> jax.Array:
        """R_k, (K, C, H, W), in units of the scale; made anew where they are used, cheaper than keeping them."""
        residuals = self.to_internal_units(self._clipped(self.frames.channels_first)) - self.mean_image[None]
        return self.frames.observed(residuals)

    @property
    def observed(self) -> jax.Array:
        """Which pixels any image shows, (1, H, W)."""
        return jnp.ones((1, *self.image_shape), bool) if self.mean_weights is None else self.mean_weights[None] > 0

    @property
    def weight_deviations(self) -> jax.Array | None:
        """What each image's weights are off their mean, (K, 1, H, W); None where they are shared."""
        if self.frames.weights is None or self.mean_weights is None:
            return None
        return (self.frames.weights - self.mean_weights[None])[:, None]

    @property
    def weighted_residuals(self) -> jax.Array:
        """rho_k X_k - mean(rho) B0, (K, C, H, W), in units of the scale: what templates are correlated with."""
        weighted = self.frames.weighted(self.residuals)
        deviations = self.weight_deviations
        return weighted if deviations is None else weighted + deviations * self.mean_image[None]

    @property
    def weighted_mean_image(self) -> jax.Array:
        """mean(rho) B0, (C, H, W)."""
        return self.mean_image if self.mean_weights is None else self.mean_weights[None] * self.mean_image

    def to_internal_units(self, pixels: jax.Array) -> jax.Array:
        """Pixel values (..., C, H, W), of grey images also (H, W), less the offset, in units of the scale."""
        return (pixels - self.offset_beside(pixels)) * (1 / self.scale)

    def to_pixel_values(self, pixels: jax.Array) -> jax.Array:
        """Back, (..., C, H, W)."""
        return self.offset_beside(pixels) + self.scale * pixels

    def offset_beside(self, pixels: jax.Array) -> jax.Array:
        """The offset with as many axes as pixels (..., C, H, W) or (H, W) have."""
        return self.offset.reshape(*[1] * (pixels.ndim - 3), *[-1, 1, 1][-pixels.ndim :])

    def least_variance(self, noise_scale: jax.Array) -> jax.Array:
        """The smallest variance of a noise of each channel (C,), or of one for all of them (), a mean over channels."""
        return jnp.mean(self.variance_floor) if noise_scale.ndim == 0 else self.variance_floor

    def _clipped(self, pixels: jax.Array) -> jax.Array:
        """Pixels (K, C, ...) of which those in images that count for nothing may be anything, even NaN."""
        counts = self.frames.frame_weights
        if self.limits is None or counts is None:
            return pixels
        low, high = (limit[None, :, None, None] for limit in self.limits)
        clipped = jnp.minimum(jnp.where(pixels >= low, pixels, low), high)  # what is NaN is not above
        return jnp.where((counts > 0)[:, None, None, None], pixels, clipped)

    def transform_template(self, templates: jax.Array) -> jax.Array:
        """Templates (..., h, w) as the correlations want them; multiples and sums of them are transformed too."""
        return templates if self.spectra is None else fourier.transform_template(templates, self.image_shape)

    def correlate(self, kernels: Kernels, behind: jax.Array, geometry: Geometry) -> jax.Array:
        """Correlation with templates, less that with squares and, of what is behind (K, H, W), with supports.

        (K, Z, P, Q).
        """
        templates, squares, supports = kernels
        if self.spectra is None:
            found = _correlate_all(self.weighted_residuals, templates, geometry)
            deviations = self.weight_deviations
            if squares is not None and deviations is not None:
                found = found - _correlate_all(deviations, squares, geometry)
            if supports is not None:
                return found - _correlate_all(behind[:, None], supports, geometry)
        else:
            spectra = fourier.correlate_pairs(self.spectra.pairs, templates)
            weight_pairs = self.spectra.weight_pairs
            if squares is not None and weight_pairs is not None:
                spectra = spectra - fourier.correlate_pairs(weight_pairs, squares)
            if supports is not None:
                hidden = fourier.transform_pairs(behind[:, None], self.image_shape)
                spectra = spectra - fourier.correlate_pairs(hidden, supports)
            found = fourier.pairs_of(spectra, geometry.positions)[: self.frames.num_images]
            if supports is not None:
                return found
        return found - self.window_sums(behind, geometry)[:, None]

    def correlate_mean_image(self, templates: jax.Array, geometry: Geometry) -> jax.Array:
        """Correlation of mean(rho) B0 with transformed templates, channel by channel, (Z, C, P, Q)."""
        if self.spectra is None:
            return _correlate_each(self.weighted_mean_image, templates, geometry)
        return fourier.pairs_of(self.spectra.mean_image * templates, geometry.positions)[: len(templates)]

    def correlate_with(self, image: jax.Array, templates: jax.Array, geometry: Geometry) -> jax.Array:
        """Correlation of any image (C, H, W) with transformed templates (Z, 1, h, w), (Z, C, P, Q)."""
        if self.spectra is None:
            each = jnp.broadcast_to(templates, (len(templates), len(image), *templates.shape[2:]))
            return _correlate_each(image, each, geometry)
        spectra = fourier.transform_pairs(image[None], self.image_shape) * templates
        return fourier.pairs_of(spectra, geometry.positions)[: len(templates)]

    def correlate_mean_weights(self, templates: jax.Array, geometry: Geometry) -> jax.Array:
        """Correlation of mean(rho) with templates (Z, C, h, w), channel by channel, (Z, C, P, Q)."""
        if self.mean_weights is None:
            return jnp.sum(templates, axis=(-2, -1), keepdims=True)
        transformed = self.transform_template(templates)
        if self.spectra is None:
            weights = jnp.broadcast_to(self.mean_weights[None], (templates.shape[1], *self.image_shape))
            return _correlate_each(weights, transformed, geometry)
        assert self.spectra.mean_weights is not None
        return fourier.pairs_of(self.spectra.mean_weights * transformed, geometry.positions)[: len(templates)]

    def backproject(self, maps: jax.Array, supports: jax.Array | None, geometry: Geometry) -> Backprojection:
        """Adjoint of `correlate`, summed over the images: of maps over corners (K, Z, P, Q)."""
        if self.spectra is None:
            return _backproject(self.weighted_residuals, self.weight_deviations, maps, supports, geometry)
        pairs, _, weight_pairs, _ = self.spectra
        return _backproject_pairs(pairs, weight_pairs, maps, supports, self.image_shape)

    def backproject_mean(self, counts: jax.Array, supports: jax.Array | None, geometry: Geometry) -> Backprojection:
        """The same of the mean image and the mean weights as if they were one image's: of counts (Z, P, Q)."""
        if self.spectra is None:
            weights = None if self.mean_weights is None else self.mean_weights[None, None]
            return _backproject(self.weighted_mean_image[None], weights, counts[None], supports, geometry)
        _, mean_image, _, mean_weights = self.spectra
        return _backproject_pairs(mean_image, mean_weights, counts[None], supports, self.image_shape)

    def template_of(self, backprojection: jax.Array, geometry: Geometry) -> jax.Array:
        """What backprojections gave, added up, as (..., h, w)."""
        return backprojection if self.spectra is None else fourier.template_of(backprojection, geometry.template)

    def window_sums(self, images: jax.Array, geometry: Geometry) -> jax.Array:
        """Window sums of any images, (..., H, W) -> (..., P, Q)."""
        sums = windows.window_sums if self.spectra is None else windows.window_sums_in_stages
        return sums(windows.unroll(images, geometry), geometry.template)

    def coverage(self, maps: jax.Array, geometry: Geometry) -> jax.Array:
        """Coverage of any position maps, (..., P, Q) -> (..., H, W)."""
        spread = windows.coverage if self.spectra is None else windows.coverage_in_stages
        return windows.roll_up(spread(maps, geometry.template), geometry)

    def pixels_at(self, corners: jax.Array, geometry: Geometry) -> jax.Array:
        """The pixels in the window at each corner, (K, C, h, w), in units of the scale; zero where not observed."""
        pixels = self.to_internal_units(self._clipped(self.gather(self.frames.channels_first, corners, geometry)))
        weights = self.weights_at(corners, geometry)
        return pixels if weights is None else jnp.where(weights > 0, pixels, 0)

    def weights_at(self, corners: jax.Array, geometry: Geometry) -> jax.Array | None:
        """The pixels' weights there, (K, 1, h, w); None: one."""
        weights = self.frames.pixel_weights
        return None if weights is None else self.gather(weights, corners, geometry)

    def gather(self, images: jax.Array, corners: jax.Array, geometry: Geometry) -> jax.Array:
        """The window at each corner (K, 2), of all channels: (K or 1, C, H, W) -> (K, C, h, w)."""
        whole = windows.unroll(images, geometry)
        return windows.gather(whole if len(whole) == len(corners) else whole[0], corners, geometry.template)

    def paste(self, pieces: jax.Array, corners: jax.Array, geometry: Geometry) -> jax.Array:
        """Adjoint, the windows added up where they belong: (K, C, h, w) -> (C, H, W)."""
        return windows.roll_up(windows.paste(pieces, corners, geometry.unrolled), geometry)


def _correlate_each(images: jax.Array, templates: jax.Array, geometry: Geometry) -> jax.Array:
    """Channel by channel, (C, H, W), (Z, C, h, w) -> (Z, C, P, Q)."""
    by_channel = jax.vmap(windows.correlate)
    return jax.vmap(by_channel, in_axes=(None, 0))(windows.unroll(images, geometry), templates)


def _correlate_all(images: jax.Array, templates: jax.Array, geometry: Geometry) -> jax.Array:
    """Channels added up, (K, C, H, W), (Z, C, h, w) -> (K, Z, P, Q)."""
    by_image = jax.vmap(lambda image: jnp.sum(_correlate_each(image, templates, geometry), axis=1))
    return by_image(images)


def _backproject_all(images: jax.Array, maps: jax.Array, geometry: Geometry) -> jax.Array:
    """Images added up, (K, C, H, W), (K, Z, P, Q) -> (Z, C, h, w)."""
    by_channel = jax.vmap(windows.backproject, in_axes=(1, None))
    by_appearance = jax.vmap(by_channel, in_axes=(None, 1))
    return by_appearance(windows.unroll(images, geometry), maps)


def _backproject(
    residuals: jax.Array, weights: jax.Array | None, maps: jax.Array, supports: jax.Array | None, geometry: Geometry
) -> Backprojection:
    return Backprojection(
        _backproject_all(residuals, maps, geometry),
        None if weights is None else _backproject_all(weights, maps, geometry),
        None if supports is None else _spread_all(maps, supports, geometry),
    )


def _backproject_pairs(
    pairs: jax.Array, weight_pairs: jax.Array | None, maps: jax.Array, supports: jax.Array | None, image_shape: Shape
) -> Backprojection:
    spectra = fourier.transform_pairs(maps, image_shape)
    hidden = None
    if supports is not None:
        hidden = fourier.pairs_of(jnp.sum(spectra * jnp.conj(supports[:, 0])[None], axis=1), image_shape)[: len(maps)]
    return Backprojection(
        fourier.backproject_pairs(pairs, spectra),
        None if weight_pairs is None else fourier.backproject_pairs(weight_pairs, spectra),
        hidden,
    )


def _spread_all(maps: jax.Array, supports: jax.Array, geometry: Geometry) -> jax.Array:
    """Supports put at every corner, (K, Z, P, Q), (Z, 1, h, w) -> (K, H, W)."""
    whole = jax.vmap(jax.vmap(partial(fftconvolve, mode="full")), in_axes=(0, None))(maps, supports[:, 0])
    return windows.roll_up(jnp.sum(whole, axis=1), geometry)
