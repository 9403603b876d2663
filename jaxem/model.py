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
from jaxem.stack import Stack
from jaxem.windows import Shape, gather


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


class Terms(NamedTuple):
    """What `log_odds` needs of the parameters, made once for all images.

    =================  ===================  =====================================================
    field              shape                meaning
    =================  ===================  =====================================================
    shared             (H-h+1, W-w+1)       the part of the log odds that all images share
    template           as `Stack.prepare`   F / s^2
    background         (H, W)               B / s^2
    =================  ===================  =====================================================
    """

    shared: jax.Array
    template: jax.Array
    background: jax.Array


def terms(stack: Stack, params: Params) -> Terms:
    """Everything in the log odds that is the same for all images.

    The log odds are ln A(d) - 1/(2 s^2) sum over the window of (X_k - F)^2 - (X_k - B)^2, here with X_k = B0 + R_k
    multiplied out into one map for all images and one correlation and one window sum of the small residuals.
    """
    template, background, noise_scale, prior = params
    variance, prepared = noise_scale**2, stack.prepare(template)
    squares = (
        jnp.sum(template**2)
        - 2 * stack.correlate_reference(prepared, template.shape)
        + stack.window_sums(background * (2 * stack.reference - background), template.shape)
    )
    shared = log_prior(prior) - squares / (2 * variance)
    shared = jnp.where(jnp.any(jnp.isnan(shared)), jnp.nan, shared)  # one alone, a maximum may ignore on a CPU
    return Terms(shared, prepared * (1 / variance).astype(prepared.dtype), background / variance)


def log_odds(stack: Stack, terms: Terms, template_shape: Shape) -> jax.Array:
    """ln p(X_k, d) - ln N(X_k; B, s^2) for every image and corner, (K, H-h+1, W-w+1), nats."""
    weighted = stack.residuals * terms.background[None]
    own = stack.correlate(terms.template, template_shape) - stack.window_sums(weighted, template_shape)
    return terms.shared[None] + own


def squares_at(stack: Stack, params: Params, corners: jax.Array) -> jax.Array:
    """(X_k - F)^2 - (X_k - B)^2 at each pixel of the window at one corner an image, (K, h, w)."""
    template, background, _, _ = params
    windows = (gather(stack.images, corners, template.shape) - stack.offset) * (1 / stack.scale)
    behind = gather(background, corners, template.shape)
    return (behind - template[None]) * (2 * windows - template[None] - behind)


def log_odds_at(stack: Stack, params: Params, corners: jax.Array) -> jax.Array:
    """`log_odds` at one corner an image, (K,), from the windows cut there and without any transform."""
    squares = jnp.sum(squares_at(stack, params, corners), axis=(-2, -1))
    return log_prior(params.prior)[corners[:, 0], corners[:, 1]] - squares / (2 * params.noise_scale**2)


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
