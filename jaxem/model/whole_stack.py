"""Expectation maximisation as pure functions on a whole stack: the E-step, the M-step and the bound they raise.

For exploring: all positions of all images at once, by the simplest operators. A fit takes the same steps a batch of
images at a time. Derivations: ``docs/model.md``, *E-step*, *M-step* and *ELBO*.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, cast, overload

import jax
import jax.numpy as jnp

from jaxem.model.appearances import IDENTITY, appearances_of, as_transforms, geometry_of
from jaxem.model.checks import PosteriorShape, as_fixed, as_params, as_posterior
from jaxem.model.frames import Frames, as_frames
from jaxem.model.likelihood import (
    Hypotheses,
    hypotheses_of,
    log_background,
    log_joint_at,
    log_odds,
    log_prior,
    positions_of,
    shared_terms,
)
from jaxem.model.params import (
    Params,
    Positions,
    Posterior,
    blank_params,
    to_internal_units,
    to_pixel_values,
    with_mean_pixels,
)
from jaxem.model.statistics import UnnormalizedPosterior
from jaxem.model.steps import batch_statistics, finalize, log_evidence, update
from jaxem.model.steps import posterior as posterior_of
from jaxem.model.workspace import center, total_up
from jaxem.ops.validation import as_number
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_template_shape
from jaxem.runtime.errors import ArgumentValueError


@overload
def e_step(
    images: Any, params: Params, *, hard: Literal[False] = False, weights: Any = None, transforms: Any = IDENTITY
) -> Posterior: ...
@overload
def e_step(
    images: Any, params: Params, *, hard: Literal[True], weights: Any = None, transforms: Any = IDENTITY
) -> Positions: ...
@overload
def e_step(
    images: Any, params: Params, *, hard: bool, weights: Any = None, transforms: Any = IDENTITY
) -> Posterior | Positions: ...
def e_step(
    images: Any, params: Params, *, hard: bool = False, weights: Any = None, transforms: Any = IDENTITY
) -> Posterior | Positions:
    """Where the template sits in each image, given the parameters.

        q_k(d) = softmax over d of  ln A(d) - 1/(2 s^2) sum over the window at d of (X_k - F)^2 - (X_k - B)^2

    Hard EM keeps only the corner of the maximum, found before any normalisation.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values; integers are promoted.
        params: the parameters; a noise scale below what the images' numbers resolve counts as that limit.
        hard: return one corner for each image instead of probabilities (static).
        weights: of the pixels, broadcastable to (K, H, W): the noise of a pixel has variance s^2 / w, and one of weight
            zero, which may hold anything, was not observed.
        transforms: that a template may be under, names of "identity", "rot90", "rot180", "rot270" (as `np.rot90`) and
            "flip", "flip90", "flip180", "flip270" (mirrored left to right first) (static).

    Returns:
        `Posterior` with probabilities (K, *prior.shape) and log evidence (K,), nats; or, if hard, `Positions` with
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
    frames, transforms = as_frames(images, weights), as_transforms(transforms)
    params = as_params(params, frames.pixels.shape[1:], frames.pixels.dtype, transforms)
    return e_step_of(frames, params, hard=bool(hard), transforms=transforms)


@partial(jax.jit, static_argnames=("hard", "transforms"))
def e_step_of(frames: Frames, params: Params, hard: bool, transforms: tuple[str, ...]) -> Posterior | Positions:
    """`e_step` of frames and parameters that were checked."""
    centered = center(frames)
    internal = to_internal_units(params, centered)
    shared = shared_terms(centered, internal, transforms)
    found, summary = posterior_of(centered, shared, geometry_of(internal), hard=hard)
    log_density = log_evidence(centered, internal, summary, transforms)
    if isinstance(found, Hypotheses):
        return positions_of(found, log_density, params, transforms)
    probs = (found.masses * found.shares[:, None, None, None]).reshape(-1, *params.prior.shape)
    return Posterior(probs, log_density, found.absent)


def m_step(
    images: Any,
    posterior: Posterior | Positions,
    template_shape: Shape,
    *,
    prior_smoothing: Any = 0.0,
    weights: Any = None,
    frame_weights: Any = None,
    params: Params | None = None,
    transforms: Any = IDENTITY,
    fixed: Sequence[str] = (),
) -> Params:
    """The parameters that maximise the ELBO at a given posterior.

        A(d) = (sum_k q_k(d) + alpha/PQ) / (K + alpha),   F = the windows' mean,   B = the mean where not covered,
        s^2 = the mean squared residual under the new F and B

    Pixels of the template count with their weights. A background pixel that the template covers in every image is
    unknown; it gets the mean image's value. A pixel of a template or of the background that was never seen keeps its
    value, and without parameters before it gets the mean of all pixels. The noise scale never falls below what the
    images' numbers resolve, about sqrt(eps) times the spread of the pixels.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values; integers are promoted.
        posterior: `Posterior` for soft EM or `Positions` for hard EM; log densities in it are not used.
        template_shape: (h, w) (static).
        prior_smoothing: alpha >= 0, pseudo-counts, spread evenly over all corners; half of them are for absence where
            an image may be without a template (traced).
        weights: as for `e_step`.
        frame_weights: (K,), as how many equal images each counts; one of zero counts for nothing (traced).
        params: those before. Needed where they hold an opacity, several templates or other than one noise scale, where
            windows go round the edges, and for `fixed`.
        transforms: as for `e_step`.
        fixed: names of fields of `Params` that stay as they are in `params` (static).

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
    frames, transforms, fixed = as_frames(images, weights, frame_weights), as_transforms(transforms), as_fixed(fixed)
    template_shape = as_template_shape(template_shape, frames.image_shape)
    is_blank = params is None
    if params is None:
        if fixed:
            raise ArgumentValueError("params", "must be given with `fixed`: they hold what is.")
        has_absent = getattr(posterior, "absent", None) is not None or getattr(posterior, "present", None) is not None
        params = blank_params(frames.pixels, template_shape, num_transforms=len(transforms), has_absent=has_absent)
    params = as_params(params, frames.pixels.shape[1:], frames.pixels.dtype, transforms)
    given_shape = params.template.shape[params.template.ndim - params.background.ndim :][:2]
    if given_shape != template_shape:
        raise ArgumentValueError("template_shape", f"is {template_shape}, but params.template has {given_shape}.")
    posterior = as_posterior(posterior, frames.pixels, _posterior_shape(params, transforms))
    prior_smoothing = as_number("prior_smoothing", prior_smoothing, frames.pixels.dtype, at_least=0)
    return _m_step(frames, posterior, prior_smoothing, params, is_blank=is_blank, transforms=transforms, fixed=fixed)


def _posterior_shape(params: Params, transforms: tuple[str, ...]) -> PosteriorShape:
    has_templates = params.template.ndim > params.background.ndim
    return PosteriorShape(
        params.prior.shape,
        len(params.template) if has_templates else None,
        len(transforms) if len(transforms) > 1 else None,
        params.absent is not None,
    )


@partial(jax.jit, static_argnames=("is_blank", "transforms", "fixed"))
def _m_step(
    frames: Frames,
    posterior: Posterior | Positions,
    prior_smoothing: jax.Array,
    params: Params,
    is_blank: bool,
    transforms: tuple[str, ...],
    fixed: tuple[str, ...],
) -> Params:
    centered = center(frames)
    if is_blank:
        params = with_mean_pixels(params, centered)
    before = to_internal_units(params, centered)
    ones = jnp.ones(frames.num_images, frames.pixels.dtype)
    geometry, supports = geometry_of(before), appearances_of(before, transforms).supports
    found: Hypotheses | UnnormalizedPosterior
    if isinstance(posterior, Positions):
        found = hypotheses_of(posterior, len(transforms))
    else:
        found = UnnormalizedPosterior(_by_appearance(posterior.probs), ones, posterior.absent)
    sums = batch_statistics(centered, found, frames.counts(ones), geometry, len(before.prior), supports)
    hard = isinstance(found, Hypotheses)
    statistics = finalize(centered, sums, geometry, supports, hard=hard, transforms=transforms)
    after = update(centered, total_up(centered), statistics, prior_smoothing, before, fixed=fixed)
    after = to_pixel_values(after, centered, params)
    return after._replace(**{name: getattr(params, name) for name in fixed})


def _by_appearance(probs: jax.Array) -> jax.Array:
    """(K, Z, P, Q)."""
    return probs.reshape(len(probs), -1, *probs.shape[-2:])


def elbo(
    images: Any,
    params: Params,
    posterior: Posterior | Positions,
    *,
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = IDENTITY,
) -> jax.Array:
    """The evidence lower bound, which both steps raise.

        sum_k sum_d q_k(d) [ ln p(X_k, d) - ln q_k(d) ],   0 ln 0 = 0

    At the exact posterior it equals the log likelihood. For hard positions the entropy is zero and the sum of the log
    joints at the corners is left.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values.
        params: the parameters.
        posterior: `Posterior` or `Positions`; log densities in it are not used.
        weights: as for `e_step`.
        frame_weights: as for `m_step`.
        transforms: as for `e_step`.

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
    frames, transforms = as_frames(images, weights, frame_weights), as_transforms(transforms)
    params = as_params(params, frames.pixels.shape[1:], frames.pixels.dtype, transforms)
    posterior = as_posterior(posterior, frames.pixels, _posterior_shape(params, transforms))
    return _elbo(frames, params, posterior, transforms=transforms)


@partial(jax.jit, static_argnames="transforms")
def _elbo(frames: Frames, params: Params, posterior: Posterior | Positions, transforms: tuple[str, ...]) -> jax.Array:
    centered = center(frames)
    params = to_internal_units(params, centered)
    counts = frames.counts(jnp.ones(frames.num_images, frames.pixels.dtype))
    if isinstance(posterior, Positions):
        terms = log_joint_at(centered, params, hypotheses_of(posterior, len(transforms)), transforms)
    else:
        odds = log_odds(centered, shared_terms(centered, params, transforms), geometry_of(params))
        gain = jnp.sum(_expected_gain(_by_appearance(posterior.probs), odds), axis=(1, 2, 3))
        if posterior.absent is not None and params.absent is not None:
            gain = gain + _expected_gain(posterior.absent, log_prior(params.absent))
        terms = log_background(centered, params) + gain
    return jnp.sum(jnp.where(counts > 0, counts * terms, 0))


def _expected_gain(probs: jax.Array, odds: jax.Array) -> jax.Array:
    """q (odds - ln q), zero where q is."""
    possible = probs > 0
    return probs * (jnp.where(possible, odds, 0) - jnp.log(jnp.where(possible, probs, 1)))


def log_likelihood(images: Any, params: Params, *, weights: Any = None, transforms: Any = IDENTITY) -> jax.Array:
    """Log density of each image under the model, every position summed: ln p(X_k) = ln sum_d A(d) p(X_k | d).

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values.
        params: the parameters.
        weights: as for `e_step`.
        transforms: as for `e_step`.

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
    frames, transforms = as_frames(images, weights), as_transforms(transforms)
    params = as_params(params, frames.pixels.shape[1:], frames.pixels.dtype, transforms)
    return _log_likelihood(frames, params, transforms=transforms)


@partial(jax.jit, static_argnames="transforms")
def _log_likelihood(frames: Frames, params: Params, transforms: tuple[str, ...]) -> jax.Array:
    return cast(jax.Array, cast(Posterior, e_step_of(frames, params, hard=False, transforms=transforms)).log_evidence)
