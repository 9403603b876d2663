"""The generative model: one template at an unknown place over one background, and Gaussian noise.

    X_k[p] = F[p - d_k] if p lies in the window at d_k, else B[p];  plus s * N(0, 1);  d_k drawn from A

Here are its parameters, its two kinds of posterior, the log joint density of an image and a position, and sampling
from it. Derivations: ``docs/method.md``, *The model* and *The log joint*.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem import checks
from jaxem.windows import Shape, correlate, gather, window_sums


class Params(NamedTuple):
    """What is to be found.

    ===========  ======  ==================  ==============================================
    field        symbol  shape               meaning, unit
    ===========  ======  ==================  ==============================================
    template     F       (h, w)              the template, pixel value
    background   B       (H, W)              the background, pixel value
    noise_scale  s       ()                  standard deviation of the noise, pixel value
    prior        A       (H-h+1, W-w+1)      probability of each corner, sums to one
    ===========  ======  ==================  ==============================================
    """

    template: jax.Array
    background: jax.Array
    noise_scale: jax.Array
    prior: jax.Array


class Posterior(NamedTuple):
    """Where the template sits in each image, as probabilities (soft EM).

    ============  =========  ======================  =========================================
    field         symbol     shape                   meaning, unit
    ============  =========  ======================  =========================================
    probs         q_k(d)     (K, H-h+1, W-w+1)       probability of each corner, each sums to one
    log_evidence  ln p(X_k)  (K,) or None            log density of each image, nats
    ============  =========  ======================  =========================================
    """

    probs: jax.Array
    log_evidence: jax.Array | None = None


class Positions(NamedTuple):
    """Where the template sits in each image, as one corner (hard EM).

    =========  ==============  ==============  ===============================================
    field      symbol          shape           meaning, unit
    =========  ==============  ==============  ===============================================
    corners    d_k             (K, 2) int32    row and column of the window's upper left pixel
    log_joint  ln p(X_k, d_k)  (K,) or None    log density of each image and its corner, nats
    =========  ==============  ==============  ===============================================
    """

    corners: jax.Array
    log_joint: jax.Array | None = None


class Stack(NamedTuple):
    """The images as what they share plus small residuals: X_k = offset + scale (reference + residuals_k).

    Outside the window a residual is noise, so sums over residuals stay small whatever constant or picture lies under
    the images; and in units of the scale no square overflows or vanishes. That is what keeps single precision honest
    (``docs/method.md``, *Numerics*).

    ==============  =========  ==============================================================
    field           shape      meaning
    ==============  =========  ==============================================================
    residuals       (K, H, W)  R_k, in units of the scale
    reference       (H, W)     B0, the mean image less the offset, in units of the scale
    offset          ()         mean of all finite pixels, pixel value
    scale           ()         power of two near their mean distance from it, pixel value
    variance_floor  ()         the smallest noise variance that the numbers can resolve, in units of scale^2
    ==============  =========  ==============================================================
    """

    residuals: jax.Array
    reference: jax.Array
    offset: jax.Array
    scale: jax.Array
    variance_floor: jax.Array

    @property
    def image_shape(self) -> Shape:
        """(H, W)."""
        return self.reference.shape


def centre(images: jax.Array) -> Stack:
    """Split the images (K, H, W) into offset, scale, reference and residuals."""
    offset, scale = offset_and_scale(images)
    centred = (images - offset) / scale
    reference = jnp.mean(centred, axis=0)
    residuals = centred - reference[None]

    # Sums of squares carry a relative error eps, pixels carry eps times their size; less noise than that is invisible.
    eps = jnp.finfo(images.dtype).eps
    floor = eps * jnp.mean(centred**2) + (eps * jnp.max(jnp.abs(images)) / scale) ** 2
    return Stack(residuals, reference, offset, scale, jnp.where(floor == 0, eps**2, floor))


def offset_and_scale(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean of the finite pixels, and the power of two (dividing by it is exact) near their mean distance from it."""
    finite = jnp.isfinite(images)
    offset = jnp.mean(images, where=finite)
    distance = jnp.mean(jnp.abs(images - offset), where=finite)
    usable = jnp.isfinite(distance) & (distance > 0)
    exponent = jnp.round(jnp.log2(jnp.where(usable, distance, 1))).astype(jnp.int32)
    return jnp.where(jnp.isfinite(offset), offset, 0), jnp.ldexp(jnp.ones_like(distance), exponent)


def to_stack(params: Params, stack: Stack) -> Params:
    """The parameters as the stack sees them: in its units, with noise that its numbers can resolve."""
    return Params(
        (params.template - stack.offset) / stack.scale,
        (params.background - stack.offset) / stack.scale,
        jnp.sqrt(jnp.maximum((params.noise_scale / stack.scale) ** 2, stack.variance_floor)),
        params.prior,
    )


def from_stack(params: Params, stack: Stack) -> Params:
    """Back to the units of the images."""
    return Params(
        stack.offset + stack.scale * params.template,
        stack.offset + stack.scale * params.background,
        stack.scale * params.noise_scale,
        params.prior,
    )


def log_prior(prior: jax.Array) -> jax.Array:
    """ln A, minus infinity where A = 0 (there with a zero gradient, not NaN: a closed position stays closed)."""
    possible = prior > 0
    return jnp.where(possible, jnp.log(jnp.where(possible, prior, 1)), jnp.where(jnp.isnan(prior), jnp.nan, -jnp.inf))


# The joint density is split in two, ln p(X_k, d) = log_background(k) + log_odds(k, d): the first term is large and the
# same for every position, and would drown the differences between positions in single precision if it were added.


def log_background(stack: Stack, params: Params) -> jax.Array:
    """ln N(X_k; B, s^2), the log density of each image (K,) if it showed the background alone, nats.

    It belongs to the images in their own units: the density of a pixel is that of its scaled value over the scale.
    """
    height, width = stack.image_shape
    difference = params.background - stack.reference
    squares = jnp.sum((stack.residuals - difference[None]) ** 2, axis=(-2, -1))
    variance = params.noise_scale**2
    pixel = jnp.log(stack.scale) + jnp.log(2 * jnp.pi * variance) / 2
    return -height * width * pixel - squares / (2 * variance)


def log_odds(stack: Stack, params: Params) -> jax.Array:
    """ln p(X_k, d) - ln N(X_k; B, s^2) for every image and corner, (K, H-h+1, W-w+1), nats.

    That is ln A(d) - 1/(2 s^2) sum over the window of (X_k - F)^2 - (X_k - B)^2, with X_k = B0 + R_k multiplied out
    into one map for all images and one correlation and one window sum of the small residuals.
    """
    template, background, noise_scale, prior = params
    shape = template.shape
    shared = (
        jnp.sum(template**2)
        - 2 * correlate(stack.reference, template)
        + window_sums(background * (2 * stack.reference - background), shape)
    )
    own = correlate(stack.residuals, template) - window_sums(stack.residuals * background[None], shape)
    return (log_prior(prior) - shared / (2 * noise_scale**2))[None] + own / noise_scale**2


def log_odds_at(stack: Stack, params: Params, corners: jax.Array) -> jax.Array:
    """`log_odds` at one corner an image, (K,), from the windows cut there and without any transform."""
    template, background, noise_scale, prior = params
    cut = partial(gather, corners=corners, template_shape=template.shape)
    images, behind = cut(stack.residuals) + cut(stack.reference), cut(background)
    squares = jnp.sum((behind - template[None]) * (2 * images - template[None] - behind), axis=(-2, -1))
    return log_prior(prior)[corners[:, 0], corners[:, 1]] - squares / (2 * noise_scale**2)


def simulate(key: jax.Array, params: Params, num_images: int) -> tuple[jax.Array, jax.Array]:
    """Draw images and the corners where their templates sit from the model.

        d_k ~ A,  X_k = B with F pasted at d_k,  plus s * N(0, 1)

    Args:
        key: random key.
        params: the parameters to draw from; the prior need not be normalised.
        num_images: how many images, K >= 1 (static).

    Returns:
        The images (K, H, W), in pixel values, and the corners (K, 2) int32.

    Raises:
        ValueError, TypeError: shapes that do not fit each other, no key, fewer than one image.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, corners = jaxem.simulate(jax.random.key(0), truth, 10)
        >>> images.shape, corners.shape
        ((10, 5, 7), (10, 2))

    Source: ``docs/method.md``, *The model*.
    """
    key = checks.as_key(key)
    params = checks.as_params(params, image_shape=None)
    return _simulate(key, params, num_images=checks.as_count("num_images", num_images, at_least=1))


@partial(jax.jit, static_argnames="num_images")
def _simulate(key: jax.Array, params: Params, num_images: int) -> tuple[jax.Array, jax.Array]:
    position_key, noise_key = jax.random.split(key)
    positions = jax.random.categorical(position_key, log_prior(params.prior).ravel(), shape=(num_images,))
    corners = jnp.stack(jnp.unravel_index(positions, params.prior.shape), axis=-1).astype(jnp.int32)

    def paste_over(corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(params.background, params.template, corner)

    clean = jax.vmap(paste_over)(corners)
    noise = jax.random.normal(noise_key, clean.shape, clean.dtype)
    return clean + params.noise_scale * noise, corners
