"""Expectation maximisation as pure functions on a whole stack: the E-step, the M-step and the bound they raise.

For exploring: all positions of all images at once, by the simplest operators. A fit takes the same steps a batch of
images at a time. Derivations: ``docs/model.md``, *E-step*, *M-step* and *ELBO*.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, cast, overload

import jax
import jax.numpy as jnp

from jaxem.model.images import center, total_up
from jaxem.model.likelihood import log_background, log_joint_at, log_odds, shared_terms
from jaxem.model.params import (
    Params,
    Positions,
    Posterior,
    as_params,
    as_posterior,
    to_internal_units,
    to_pixel_values,
)
from jaxem.model.statistics import UnnormalizedPosterior
from jaxem.model.steps import batch_statistics, finalize, log_evidence, update
from jaxem.model.steps import posterior as posterior_of
from jaxem.ops.validation import as_images, as_number
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_template_shape


@overload
def e_step(images: Any, params: Params, *, hard: Literal[False] = False) -> Posterior: ...
@overload
def e_step(images: Any, params: Params, *, hard: Literal[True]) -> Positions: ...
@overload
def e_step(images: Any, params: Params, *, hard: bool) -> Posterior | Positions: ...
def e_step(images: Any, params: Params, *, hard: bool = False) -> Posterior | Positions:
    """Where the template sits in each image, given the parameters.

        q_k(d) = softmax over d of  ln A(d) - 1/(2 s^2) sum over the window at d of (X_k - F)^2 - (X_k - B)^2

    Hard EM keeps only the corner of the maximum, found before any normalisation.

    Args:
        images: (K, H, W), pixel values; integers are promoted.
        params: the parameters; a noise scale below what the images' numbers resolve counts as that limit.
        hard: return one corner an image instead of probabilities (static).

    Returns:
        `Posterior` with probabilities (K, H-h+1, W-w+1) and log evidence (K,), nats; or, if hard, `Positions` with
        corners (K, 2) int32 and log joint (K,), nats.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit each other.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, corners = jaxem.simulate(jax.random.key(0), truth, 10)
        >>> bool((jaxem.e_step(images, truth, hard=True).corners == corners).all())
        True

    Source: ``docs/model.md``, *E-step*.
    """
    images = as_images(images)
    return _e_step(images, as_params(params, images.shape[1:], images.dtype), hard=bool(hard))


@partial(jax.jit, static_argnames="hard")
def _e_step(images: jax.Array, params: Params, hard: bool) -> Posterior | Positions:
    centered = center(images)
    params = to_internal_units(params, centered)
    found, summary = posterior_of(centered, shared_terms(centered, params), params.template.shape, hard=hard)
    log_density = log_evidence(centered, params, summary)
    if isinstance(found, Positions):
        return found._replace(log_joint=log_density)
    return Posterior(found.masses * found.shares[:, None, None], log_density)


def m_step(
    images: Any, posterior: Posterior | Positions, template_shape: Shape, *, prior_smoothing: Any = 0.0
) -> Params:
    """The parameters that maximise the ELBO at a given posterior.

        A(d) = (sum_k q_k(d) + alpha/PQ) / (K + alpha),   F = the windows' mean,   B = the mean where not covered,
        s^2 = the mean squared residual under the new F and B

    A background pixel that the template covers in every image (`visible_counts` zero) is unknown; it gets the mean
    image's value. The noise scale never falls below what the images' numbers resolve, about sqrt(eps) times the spread
    of the pixels.

    Args:
        images: (K, H, W), pixel values; integers are promoted.
        posterior: `Posterior` for soft EM or `Positions` for hard EM; only probabilities or corners are used.
        template_shape: (h, w) (static).
        prior_smoothing: alpha >= 0, pseudo-counts spread evenly over all corners (traced).

    Returns:
        `Params`, in the dtype of the images.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxem
        >>> images = jnp.arange(24.0).reshape(2, 3, 4)
        >>> jaxem.m_step(images, jaxem.Positions(jnp.array([[0, 0], [1, 2]])), (2, 2)).template.tolist()
        [[9.0, 10.0], [13.0, 14.0]]

    Source: ``docs/model.md``, *M-step*.
    """
    images = as_images(images)
    template_shape = as_template_shape(template_shape, images.shape[1:])
    posterior = as_posterior(posterior, images, template_shape)
    prior_smoothing = as_number("prior_smoothing", prior_smoothing, images.dtype, at_least=0)
    return _m_step(images, posterior, prior_smoothing, template_shape=template_shape)


@partial(jax.jit, static_argnames="template_shape")
def _m_step(
    images: jax.Array, posterior: Posterior | Positions, prior_smoothing: jax.Array, template_shape: Shape
) -> Params:
    centered = center(images)
    ones = jnp.ones(len(images), images.dtype)
    hard = isinstance(posterior, Positions)
    found = posterior if isinstance(posterior, Positions) else UnnormalizedPosterior(posterior.probs, ones)
    sums = batch_statistics(centered, found, ones, template_shape)
    statistics = finalize(centered, sums, template_shape, hard=hard)
    return to_pixel_values(update(centered, total_up(centered), statistics, prior_smoothing), centered)


def elbo(images: Any, params: Params, posterior: Posterior | Positions) -> jax.Array:
    """The evidence lower bound, which both steps raise.

        sum_k sum_d q_k(d) [ ln p(X_k, d) - ln q_k(d) ],   0 ln 0 = 0

    At the exact posterior it equals the log likelihood. For hard positions the entropy is zero and the sum of the log
    joints at the corners is left.

    Args:
        images: (K, H, W), pixel values.
        params: the parameters.
        posterior: `Posterior` or `Positions`; only probabilities or corners are used.

    Returns:
        Scalar, nats.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit each other.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> images = jax.random.normal(jax.random.key(0), (3, 4, 5))
        >>> params = jaxem.random_params(jax.random.key(1), images, (2, 2))
        >>> bound = jaxem.elbo(images, params, jaxem.e_step(images, params))
        >>> bool(jnp.allclose(bound, jaxem.log_likelihood(images, params).sum()))
        True

    Source: ``docs/model.md``, *ELBO*.
    """
    images = as_images(images)
    params = as_params(params, images.shape[1:], images.dtype)
    return _elbo(images, params, as_posterior(posterior, images, params.template.shape))


@jax.jit
def _elbo(images: jax.Array, params: Params, posterior: Posterior | Positions) -> jax.Array:
    centered = center(images)
    params = to_internal_units(params, centered)
    if isinstance(posterior, Positions):
        return jnp.sum(log_joint_at(centered, params, posterior.corners))
    probs = posterior.probs
    possible = probs > 0
    odds = jnp.where(possible, log_odds(centered, shared_terms(centered, params), params.template.shape), 0)
    gain = probs * (odds - jnp.log(jnp.where(possible, probs, 1)))
    return jnp.sum(log_background(centered, params) + jnp.sum(gain, axis=(1, 2)))


def log_likelihood(images: Any, params: Params) -> jax.Array:
    """Log density of each image under the model, every position summed: ln p(X_k) = ln sum_d A(d) p(X_k | d).

    Args:
        images: (K, H, W), pixel values.
        params: the parameters.

    Returns:
        (K,), nats.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit each other.

    Example:
        >>> import jax.numpy as jnp, jaxem
        >>> flat = jaxem.Params(jnp.zeros((1, 1)), jnp.zeros((2, 2)), jnp.array(1.0), jnp.full((2, 2), 0.25))
        >>> float(jaxem.log_likelihood(jnp.zeros((1, 2, 2)), flat)[0]).__round__(4)  # -2 ln(2 pi)
        -3.6758

    Source: ``docs/model.md``, *E-step*.
    """
    images = as_images(images)
    return _log_likelihood(images, as_params(params, images.shape[1:], images.dtype))


@jax.jit
def _log_likelihood(images: jax.Array, params: Params) -> jax.Array:
    return cast(jax.Array, cast(Posterior, _e_step(images, params, hard=False)).log_evidence)
