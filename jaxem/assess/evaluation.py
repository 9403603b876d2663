"""What a fit may claim of the images it was fitted to: places, standard errors, noise, contrast.

Source: ``docs/statistics.md``, *Leave one out* and *Standard errors*.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.assess.estimates import noise_correction
from jaxem.assess.leave_one_out import (
    WEIGHTS_OF_EVIDENCE,
    Certainty,
    LeftOut,
    leave_one_out,
)
from jaxem.assess.residuals import ResidualStatistics, residual_statistics
from jaxem.assess.trust import calibrated, relative_contrast
from jaxem.model.appearances import IDENTITY, as_transforms
from jaxem.model.checks import as_fixed, as_params
from jaxem.model.expectation import expectation
from jaxem.model.frames import Frames, as_frames
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import positions_of
from jaxem.model.params import Params, num_hypotheses, to_internal_units, with_axes_of
from jaxem.model.predict import Located
from jaxem.model.workspace import ImageTotals, make_workspace
from jaxem.runtime.arguments import as_count
from jaxem.runtime.compilation import jit
from jaxem.solvers.options import cheapest_batch_size


class Evaluation(NamedTuple):
    """A fit seen by what it leaves out.

    ===============  =========  =============================================================================
    field            shape      meaning, unit
    ===============  =========  =============================================================================
    located          `Located`  where the template is in each image by the estimates of all others
    contrast         ()         |F - B under it|^2 / s^2 as far as images show it that F was not learned from:
                                noise that the template has fitted does not count, and correlated noise as
                                much as the template's filter sees of it
    noise_scale      () or      noise corrected for what template and background have fitted of it, pixel
                     (C,)       value
    standard_errors  `Params`   standard errors of template, background and noise, pixel value; NaN where
                                there is none
    residuals        `ResidualStatistics` of what the fit leaves of the images
    ===============  =========  =============================================================================
    """

    located: Located
    contrast: jax.Array
    noise_scale: jax.Array
    standard_errors: Params
    residuals: ResidualStatistics


def standard_errors(
    images: Any,
    params: Params,
    *,
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = IDENTITY,
    fixed: Any = (),
    batch_size: int | None = None,
) -> Params:
    """How far a fit's template, background and noise are likely to be off.

    Of the template by Louis' method, pixel by pixel, with posteriors that leave each image's own noise out; of the
    background as if the positions were known. 95 % of the true values lie within 1.96 of these.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values: those that the parameters were fitted to.
        params: what was fitted.
        weights: of the pixels, as for `fit`.
        frame_weights: of the images, as for `fit`.
        transforms: as for `fit`.
        fixed: as for `fit`; what was known has no error, and NaN is said of it.
        batch_size: images worked on at a time (static).

    Returns:
        `Params` of the same shapes, pixel value. NaN where there is no standard error: of a pixel that was never
        seen, or whose position is too uncertain; of prior, absence and support.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> errors = jaxem.standard_errors(images, jaxem.fit(images, truth).params)
        >>> round(float(errors.template.mean()), 3)  # 0.1 / sqrt(100)
        0.01

    Source: Louis (1982), *Finding the observed information matrix when using the EM algorithm*;
    ``docs/statistics.md``, *Standard errors*.
    """
    return evaluate(
        images,
        params,
        weights=weights,
        frame_weights=frame_weights,
        transforms=transforms,
        fixed=fixed,
        batch_size=batch_size,
    ).standard_errors


def evaluate(
    images: Any,
    params: Params,
    *,
    flat: bool = True,
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = IDENTITY,
    fixed: Any = (),
    batch_size: int | None = None,
) -> Evaluation:
    """All of it, by one pass over the images that costs as much as some six E-steps.

    Args:
        images: those that the parameters were fitted to.
        params: what was fitted.
        flat: whether all corners count as equally likely, or as often as other images show them.
        weights: as for `fit`, like all that follow.
        frame_weights: of the images.
        transforms: that a template may be under.
        fixed: what was known.
        batch_size: images worked on at a time.
    """
    frames, transforms = as_frames(images, weights, frame_weights), as_transforms(transforms)
    params = as_params(params, frames.pixels.shape[1:], frames.pixels.dtype, transforms)
    size = as_batch_size(batch_size, frames.pixels.shape)
    return _evaluate(frames, params, flat=bool(flat), transforms=transforms, fixed=as_fixed(fixed), batch_size=size)


def as_batch_size(batch_size: int | None, shape: tuple[int, ...]) -> int:
    """Images worked on at a time, of a stack of this shape; None for as many as is cheapest."""
    if batch_size is None:
        batch_size = cheapest_batch_size(shape[0], math.prod(shape[1:]))
    return as_count("batch_size", batch_size, at_least=1)


@partial(jit, static_argnames=("flat", "transforms", "fixed", "batch_size"))
def _evaluate(
    frames: Frames,
    params: Params,
    flat: bool,
    transforms: tuple[str, ...],
    fixed: tuple[str, ...],
    batch_size: int,
) -> Evaluation:
    workspace = make_workspace(frames, batch_size)
    internal = to_internal_units(params, workspace.images)
    expected = expectation(workspace, internal, hard=False, transforms=transforms)
    residuals = residual_statistics(workspace, internal, expected.best, transforms)
    inflation = jnp.maximum(residuals.inflation, 1)
    left, certainty = leave_one_out(
        workspace, internal, expected.statistics, inflation, flat=flat, transforms=transforms, fixed=fixed
    )
    return evaluation_of(workspace.images, workspace.totals, params, left, certainty, residuals, transforms, fixed)


def evaluation_of(
    images: CenteredImages,
    totals: ImageTotals,
    params: Params,
    left: LeftOut,
    certainty: Certainty,
    residuals: ResidualStatistics,
    transforms: tuple[str, ...],
    fixed: tuple[str, ...],
) -> Evaluation:
    """What follows from all passes over the images, to be traced.

    Args:
        images: of which only what they share counts, and how often each of them does.
        totals: of them.
        params: what was fitted, pixel value.
        left: each image by the estimates of all others.
        certainty: what all say of each pixel.
        residuals: what the fit leaves of them.
        transforms: that a template may be under (static).
        fixed: what was known (static).
    """
    internal, inflation = to_internal_units(params, images), jnp.maximum(residuals.inflation, 1)
    product, power = _mean_product_and_power(images, left)
    contrast = jnp.maximum(product, 0) ** 2 / power / inflation
    weight = jnp.clip(product / power, WEIGHTS_OF_EVIDENCE[0], 1)
    relative = relative_contrast(contrast, num_hypotheses(params))
    confidence = calibrated(jnp.exp(-_at_weight(weight, left.surprise)), relative, totals.num_images)
    presence = None if left.presence is None else _at_weight(weight, left.presence)
    corners, _, template, transform, present = positions_of(left.best, None, params, transforms)
    said: Any = (corners, left.log_evidence, confidence, template, transform, present, presence)
    correction = jnp.ones_like(params.noise_scale)
    if "noise_scale" not in fixed:
        weights = certainty.template_weight, certainty.background_weight
        correction = correction * noise_correction(totals, *weights, internal, fixed)
    scale = correction * internal.noise_scale
    errors = _standard_errors(totals, internal, certainty, scale, correction, fixed)
    unit = images.scale
    return Evaluation(Located(*said), contrast, unit * scale, _like(errors, params, unit), residuals)


def _mean_product_and_power(images: CenteredImages, left: LeftOut) -> tuple[jax.Array, jax.Array]:
    """Over the images with a template: how well they fit the others' template, and how strong that is.

    product^2 / power is the squared signal-to-noise ratio of the others' template as a filter: the power itself where
    the template is right, and where it has fitted noise alone no more than what the best of many places shows by
    chance. product / power is how much evidence such a template is worth of what it says.
    """
    counts = left.best.where_present(images.frames.counts(jnp.ones_like(left.product)))
    total = jnp.sum(counts)
    product, power = (
        jnp.sum(jnp.where(counts > 0, counts * part, 0)) / jnp.where(total > 0, total, 1)
        for part in (left.product, left.power)
    )
    return product, jnp.where(power > 0, power, 1)


def _at_weight(weight: jax.Array, values: jax.Array) -> jax.Array:
    """Values (K, T) between those at `WEIGHTS_OF_EVIDENCE`, (K,)."""
    known = jnp.array(WEIGHTS_OF_EVIDENCE, values.dtype)
    return jax.vmap(lambda row: jnp.interp(weight, known, row))(values)


def _standard_errors(
    totals: ImageTotals,
    params: Params,
    certainty: Certainty,
    noise_scale: jax.Array,
    correction: jax.Array,
    fixed: tuple[str, ...],
) -> Params:
    """In internal units, with all axes."""
    by_channel = jnp.broadcast_to(noise_scale, params.background.shape[:1])[:, None, None]

    def of_pixels(information: jax.Array, field: str) -> jax.Array:
        scale = jnp.broadcast_to(by_channel, information.shape)
        found = scale / jnp.sqrt(jnp.where(information > 0, information, 1))
        return jnp.where((information > 0) & (field not in fixed), found, jnp.nan)

    template = of_pixels(certainty.template_weight[:, None] * (1 - certainty.missing), "template")
    if params.opacity is not None:
        template = jnp.where(params.opacity > 0, template, jnp.nan)
    background = of_pixels(jnp.broadcast_to(certainty.background_weight[None], params.background.shape), "background")
    # Pixels less those that were learned: the correction is the root of their ratio.
    num_channels = len(params.background) if noise_scale.ndim == 0 else 1
    left = num_channels * totals.num_pixels.high / correction**2
    of_noise = noise_scale / jnp.sqrt(2 * left)
    return params._replace(
        template=template,
        background=background,
        noise_scale=jnp.full_like(of_noise, jnp.nan) if "noise_scale" in fixed else of_noise,
        prior=jnp.full_like(params.prior, jnp.nan),
        absent=None if params.absent is None else jnp.full_like(params.absent, jnp.nan),
    )


def _like(errors: Params, params: Params, scale: jax.Array) -> Params:
    """Standard errors in pixel values and the axes of the parameters; of the support there is none."""
    errors = errors._replace(
        template=scale * errors.template, background=scale * errors.background, noise_scale=scale * errors.noise_scale
    )
    found = with_axes_of(errors, params)
    return found._replace(opacity=None if params.opacity is None else jnp.full_like(params.opacity, jnp.nan))
