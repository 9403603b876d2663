"""The generative model: one template at an unknown place over one background, and Gaussian noise.

    X_k(r) = F(r - d_k) if r lies in the window at d_k, else B(r);  plus s * N(0, 1);  d_k drawn from A

Here is its log joint density of an image and a position. It is split in two, ln p(X_k, d) = log_background(k) +
log_odds(k, d): the first term is large and the same for every position, and would drown the differences between
positions in single precision if it were added. All parameters here are in internal units (`to_internal_units`); log
densities are those of pixel values. Derivations: ``docs/model.md``, *The log joint*.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.images import CenteredImages
from jaxem.model.params import Params
from jaxem.ops.windows import Shape, gather


def log_prior(prior: jax.Array) -> jax.Array:
    """ln A, minus infinity where A = 0 (there with a zero gradient: such a corner stays impossible); NaN stays NaN."""
    possible = prior > 0
    return jnp.where(possible, jnp.log(jnp.where(possible, prior, 1)), jnp.where(jnp.isnan(prior), jnp.nan, -jnp.inf))


def log_background(images: CenteredImages, params: Params) -> jax.Array:
    """ln N(X_k; B, s^2), the log density of each image (K,) if it showed the background alone, nats."""
    return _log_normal(images, params, _without_template(images, params))


def log_joint_at(images: CenteredImages, params: Params, corners: jax.Array) -> jax.Array:
    """ln p(X_k, d) of each image and one corner of it, (K,), nats; from errors of all pixels, so nothing cancels."""
    template, (rows, columns) = params.template, corners.T
    windows = images.to_internal_units(gather(images.pixels, corners, template.shape)) - template[None]
    errors = jax.vmap(lax.dynamic_update_slice)(_without_template(images, params), windows, corners)
    return log_prior(params.prior)[rows, columns] + _log_normal(images, params, errors)


def _without_template(images: CenteredImages, params: Params) -> jax.Array:
    """X_k - B, (K, H, W), in units of the scale."""
    return images.residuals - (params.background - images.mean_image)[None]


def _log_normal(images: CenteredImages, params: Params, errors: jax.Array) -> jax.Array:
    """ln N of each image in pixel values, from errors in internal units: the density of each pixel over the scale."""
    height, width = images.image_shape
    variance = params.noise_scale**2
    log_pixel = jnp.log(images.scale) + jnp.log(2 * jnp.pi * variance) / 2
    return -height * width * log_pixel - jnp.sum(errors**2, axis=(-2, -1)) / (2 * variance)


class SharedTerms(NamedTuple):
    """What `log_odds` needs of the parameters, made once for all images.

    =================  ===================================  ==============================================
    field              shape                                meaning
    =================  ===================================  ==============================================
    shared_log_odds    (H-h+1, W-w+1)                       the part of the log odds that all images share
    scaled_template    `CenteredImages.transform_template`  F / s^2
    scaled_background  (H, W)                               B / s^2
    =================  ===================================  ==============================================
    """

    shared_log_odds: jax.Array
    scaled_template: jax.Array
    scaled_background: jax.Array


def shared_terms(images: CenteredImages, params: Params) -> SharedTerms:
    """Everything in the log odds that is the same for all images.

    The log odds are ln A(d) - 1/(2 s^2) sum over the window of (X_k - F)^2 - (X_k - B)^2, here with X_k = B0 + R_k
    multiplied out into one map for all images and one correlation and one window sum of the small residuals.
    """
    template, background, noise_scale, prior = params
    variance, transformed = noise_scale**2, images.transform_template(template)
    sse_change = (
        jnp.sum(template**2)
        - 2 * images.correlate_mean_image(transformed, template.shape)
        + images.window_sums(background * (2 * images.mean_image - background), template.shape)
    )
    shared = log_prior(prior) - sse_change / (2 * variance)
    shared = jnp.where(jnp.any(jnp.isnan(shared)), jnp.nan, shared)  # one is enough: a maximum on a CPU may skip it
    return SharedTerms(shared, transformed * (1 / variance).astype(transformed.dtype), background / variance)


def log_odds(images: CenteredImages, shared: SharedTerms, template_shape: Shape) -> jax.Array:
    """ln p(X_k, d) - ln N(X_k; B, s^2) for every image and corner, (K, H-h+1, W-w+1), nats."""
    weighted = images.residuals * shared.scaled_background[None]
    own = images.correlate(shared.scaled_template, template_shape) - images.window_sums(weighted, template_shape)
    return shared.shared_log_odds[None] + own


def sse_change_at(images: CenteredImages, params: Params, corners: jax.Array) -> jax.Array:
    """(X_k - F)^2 - (X_k - B)^2 in the window at one corner of each image, (K, h, w).

    As (B - F) (2 X_k - F - B), so that nothing large cancels.
    """
    template, background, _, _ = params
    windows = images.to_internal_units(gather(images.pixels, corners, template.shape))
    behind = gather(background, corners, template.shape)
    return (behind - template[None]) * (2 * windows - template[None] - behind)
