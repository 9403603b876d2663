"""How far to trust a result: what the runs say about each other, and what the best says of itself.

Source: ``docs/statistics.md``, *Diagnostics*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxem.model.appearances import IDENTITY, appearances_of, geometry_of
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, channel_variances, hypotheses_of
from jaxem.model.objective import visible_weight
from jaxem.model.params import Params, pseudo_counts, to_internal_units, with_all_axes
from jaxem.model.workspace import Workspace
from jaxem.ops import fourier
from jaxem.ops.printing import short_repr
from jaxem.ops.windows import coverage_in_stages, roll_up
from jaxem.runtime.compilation import jit
from jaxem.runtime.remarks import Remark, warning
from jaxem.runtime.text import plural
from jaxem.solvers.result import Fit, Status

# What raises a warning: a larger share of the positions left open, a contrast of less than so many times
# 2 ln(number of positions), and so many runs of which only one found the best.
OPEN_POSITIONS_SHARE, LEAST_RELATIVE_CONTRAST, FEWEST_RUNS_TO_COMPARE = 0.2, 1.0, 3
NEAR_FLOOR = 1.01  # times the smallest variance that the numbers resolve


class Diagnostics(NamedTuple):
    """How far to trust the best of several runs.

    Runs agree where the root mean square difference of their templates is below the standard error of a template's
    pixel at known positions, s / sqrt(K), of one that not all images show s / sqrt(its share of K).

    ===================  ==========  ==========================================================================
    field                shape       meaning, unit
    ===================  ==========  ==========================================================================
    gap                  ()          objective of the best less that of the best run that does not agree with it,
                                     infinite where all agree; a run that was left after its annealing counts with
                                     the objective it had there; of a sample what it was there, nats
    num_agreeing         () int32    runs that agree with the best, itself included
    num_steps            () int32    E-steps of all runs; of a search on a sample those on all images, after it
    effective_positions  ()          exponential of the mean entropy of the posteriors: positions an image that the
                                     best run leaves open
    contrast             ()          mean over the images of rho |F - B under it|^2 / s^2 at their best positions,
                                     with the pixels' mean weights rho, the least of several templates; what stands
                                     out of noise has more than 2 ln(number of positions)
    num_hidden           () int32    background pixels that the template covers in every image
    at_noise_floor       () bool     whether the noise is below what the pixels' precision resolves
    unseen               (H, W)      whether no image shows a background pixel: those that the template covers,
                         bool        and those whose weight is zero in all; None: not known
    num_sample_steps     () int32    E-steps on the sample that was searched, and on what else of a stream was in
                         or None     memory; None: all images were searched
    ===================  ==========  ==========================================================================
    """

    gap: jax.Array
    num_agreeing: jax.Array
    num_steps: jax.Array
    effective_positions: jax.Array
    contrast: jax.Array
    num_hidden: jax.Array
    at_noise_floor: jax.Array
    unseen: jax.Array | None = None
    num_sample_steps: jax.Array | None = None

    def __repr__(self) -> str:
        return short_repr(self)


def diagnose(
    workspace: Workspace,
    best: Fit,
    runs: Fit,
    num_steps: jax.Array,
    prior_smoothing: jax.Array,
    transforms: tuple[str, ...] = IDENTITY,
) -> Diagnostics:
    """Diagnostics of the best of the runs, which are stacked along a leading axis; to be traced."""
    images, num_images = workspace.images, workspace.totals.num_images
    params = to_internal_units(best.params, images)
    differences = jax.vmap(partial(largest_difference, params, transforms=transforms))(
        jax.vmap(lambda other: to_internal_units(other, images))(runs.params)
    )
    agree = (differences <= jnp.mean(params.noise_scale**2) / num_images) | (runs.elbo == best.elbo)
    others = jnp.where(jnp.isfinite(runs.elbo) & ~agree, runs.elbo, -jnp.inf)
    visible = _visible(params, num_images, prior_smoothing, transforms)
    observed = images.observed[0]
    return Diagnostics(
        best.elbo - jnp.max(others),
        jnp.sum(agree, dtype=jnp.int32),
        num_steps,
        jnp.exp(best.entropy),
        contrast(images, params, hypotheses_of(best.positions, len(transforms)), transforms),
        jnp.sum((visible == 0) & observed, dtype=jnp.int32),
        jnp.all(params.noise_scale**2 <= NEAR_FLOOR * images.least_variance(params.noise_scale)),
        (visible == 0) | ~observed,
    )


def largest_difference(one: Params, other: Params, transforms: tuple[str, ...]) -> jax.Array:
    """Mean square by which templates differ times their share of the images, the largest, in internal units.

    Which number a template has, and which of its turns is called the identity, makes no difference to the likelihood:
    each is compared with the appearance of the other run that is most like it.
    """
    appearances = appearances_of(other, transforms).templates
    if len(appearances) == 1 and one.opacity is None and one.absent is None:
        return jnp.mean((appearances - one.template) ** 2)

    def nearest(template: jax.Array, opacity: jax.Array | None, prior: jax.Array) -> jax.Array:
        squares = (appearances - template[None]) ** 2
        weights = jnp.ones_like(template[:1]) if opacity is None else opacity
        means = jnp.sum(weights[None] * squares, axis=(1, 2, 3)) / (jnp.sum(weights) * len(template))
        return jnp.sum(prior) * jnp.min(means)

    priors = one.prior.reshape(len(one.template), -1)
    return jnp.max(jax.vmap(nearest)(one.template, one.opacity, priors))


def contrast(images: CenteredImages, params: Params, where: Hypotheses, transforms: tuple[str, ...]) -> jax.Array:
    """Mean over the images of rho |F - B under it|^2 / s^2 at a hypothesis of each, the least of all templates.

    Of differences of pixels, in internal units: multiplied out, it would cancel where the background's range is large
    against the noise. The weights rho are the images' mean ones.
    """
    geometry, appearances = geometry_of(params), appearances_of(params, transforms)
    shared = None if images.mean_weights is None else images.mean_weights[None, None]

    def of_one(one: Hypotheses) -> jax.Array:
        where = jax.tree.map(lambda leaf: leaf[None], one)
        templates, supports = appearances.entry(where.appearance)
        squares = (templates - images.gather(params.background[None], where.corners, geometry)) ** 2
        squares = squares if supports is None else supports * squares
        squares = squares if shared is None else images.gather(shared, where.corners, geometry) * squares
        return jnp.sum(jnp.sum(squares, axis=(0, 2, 3)) / channel_variances(params))

    counts = where.where_present(images.frames.counts(jnp.ones(len(where.corners), params.template.dtype)))
    shown = jnp.stack([counts, jnp.where(counts > 0, counts * lax.map(of_one, where), 0)], axis=1)
    if where.appearance is None:
        sums = jnp.sum(shown, axis=0)[None]
    else:
        sums = jax.ops.segment_sum(shown, where.appearance // len(transforms), len(params.template))
    count, total = sums[:, 0], sums[:, 1]
    return jnp.min(jnp.where(count > 0, total / jnp.where(count > 0, count, 1), jnp.inf))


@partial(jit, static_argnames="transforms", is_small=True)
def covered_always(params: Params, num_images: Any, transforms: tuple[str, ...] = IDENTITY) -> jax.Array:
    """Which background pixels a template covers in every image, (H, W), as far as parameters tell without smoothing."""
    params, count = with_all_axes(params), jnp.asarray(num_images, params.prior.dtype)
    return _visible(params, count, jnp.zeros_like(count), transforms) == 0


def _visible(
    params: Params, num_images: jax.Array, prior_smoothing: jax.Array, transforms: tuple[str, ...]
) -> jax.Array:
    """How many images show each background pixel, (H, W), expected; of parameters with all axes."""
    counts = params.prior * (num_images + prior_smoothing) - pseudo_counts(params, prior_smoothing)[0]
    return visible_weight(_hidden(counts, params, transforms), num_images)


def _hidden(counts: jax.Array, params: Params, transforms: tuple[str, ...]) -> jax.Array:
    """How many templates hide each pixel, (H, W), by how many are at each corner (Z, P, Q)."""
    geometry, supports = geometry_of(params), appearances_of(params, transforms).supports
    if supports is None:
        return roll_up(coverage_in_stages(jnp.sum(counts, axis=0), geometry.template), geometry)
    spectra = fourier.transform_pairs(counts[None], geometry.image)[0]
    spread = spectra * jnp.conj(fourier.transform_template(supports[:, 0], geometry.image))
    return fourier.pairs_of(jnp.sum(spread, axis=0)[None], geometry.image)[0]


def remarks(best: Fit, diagnostics: Diagnostics, num_runs: int) -> list[Remark]:
    """What there is to know of the best of so many runs, and reasons not to trust it, by what the runs themselves say.

    `assess.assessment` says more, by looking at the images again.
    """
    return [*_of_the_run(best, diagnostics), *_of_the_model(best, diagnostics, num_runs), *_unused(best)]


def _of_the_run(best: Fit, diagnostics: Diagnostics) -> Iterator[Remark]:
    status, num_hidden = Status(int(best.status)), int(diagnostics.num_hidden)
    if status != Status.CONVERGED:
        yield warning("not-converged", f"The best run did not converge. {status.explanation}")
    if bool(diagnostics.at_noise_floor):
        yield warning(
            "noise-floor",
            "The noise is below what the pixels' numbers resolve; frames all alike leave the template's place open.",
        )
    # A template as large as the images that goes round their edges is meant to leave no background.
    image_shape = best.params.background.shape[:2]
    covers_all = best.params.prior.shape[-2:] == image_shape and num_hidden == math.prod(image_shape)
    if best.params.prior.shape[-2:] == (1, 1) and image_shape != (1, 1):
        yield warning(
            "one-place",
            "The template is as large as the frames: it has one place, where nothing tells it from the background. "
            "Choose a smaller template_shape.",
        )
    elif num_hidden > 0 and not covers_all:
        yield warning(
            "hidden-background",
            f"The template covers {plural(num_hidden, 'background pixel')} in every frame; there the mean frame is "
            "shown.",
            num_hidden / math.prod(image_shape),
        )


def _of_the_model(best: Fit, diagnostics: Diagnostics, num_runs: int) -> Iterator[Remark]:
    params, num_positions = best.params, best.params.prior.size
    the_template = "The template" if best.best_template is None else "A template"
    found, needed = float(diagnostics.contrast), 2 * math.log(num_positions)
    # Even at known places the mean of so many windows differs from the template by noise.
    own_noise = params.template.size / max(1, len(best.corners))
    if found < LEAST_RELATIVE_CONTRAST * needed + own_noise:
        yield warning(
            "low-contrast",
            f"{the_template} hardly stands out of the noise: its contrast is {found:.3g}, of which {own_noise:.3g} is "
            f"noise of its own, and what chance finds among {num_positions} positions has {needed:.3g}. "
            f"jaxem.detection_test tells whether there is one.",
            found,
        )
    effective_positions = float(diagnostics.effective_positions)
    if num_positions > 1 and effective_positions > OPEN_POSITIONS_SHARE * num_positions:
        yield warning(
            "open-positions",
            f"The frames do not tell where the template is: each leaves {effective_positions:.3g} of {num_positions} "
            "positions open.",
            effective_positions / num_positions,
        )
    gap = float(diagnostics.gap)
    if num_runs >= FEWEST_RUNS_TO_COMPARE and int(diagnostics.num_agreeing) == 1 and gap < math.inf:
        yield warning(
            "runs-disagree",
            f"Only one of {num_runs} runs found the best; the next template is {gap:.3g} nats lower. More runs may "
            "find a better one.",
            gap,
        )


def _unused(best: Fit) -> Iterator[Remark]:
    """Which templates hardly any image shows, and whether hardly any shows one."""
    params, num_images = best.params, len(best.corners)
    if params.template.ndim > params.background.ndim:
        shares = np.asarray(params.prior).reshape(len(params.prior), -1).sum(axis=1)
        for number in np.flatnonzero(num_images * shares < 1):
            words = f"Template {number} is in hardly any frame; look for fewer templates."
            yield warning("unused-template", words, float(shares[number]))
    if params.absent is not None and num_images * (1 - float(params.absent)) < 1:
        yield warning("nothing-present", "Hardly any frame shows a template.", 1 - float(params.absent))
