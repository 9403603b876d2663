"""The two steps of EM.

E-step: `posterior` says where the template may be in each of a batch of images, `accumulate` sums up what a batch says,
`finalize` turns the sums of all batches into statistics. M-step: `update` finds the parameters that fit those best.
To go through the images in another way (from a stream, on several devices), add up what `accumulate` gives for each
batch with `double_word.add_trees`, then `finalize`. Derivations: ``docs/model.md``, *E-step* and *M-step*.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxem.model.appearances import IDENTITY, appearances_of, fold, geometry_of
from jaxem.model.frames import sum_over_images
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import (
    Hypotheses,
    SharedTerms,
    log_joint_at,
    log_odds,
    log_prior_at,
    sse_change_at,
)
from jaxem.model.objective import expected_sse, seen_weight, visible_weight
from jaxem.model.params import Params, hold, pseudo_counts
from jaxem.model.statistics import (
    BatchStatistics,
    LogLikelihoodRatio,
    PosteriorSummary,
    SufficientStatistics,
    UnnormalizedPosterior,
)
from jaxem.model.workspace import ImageTotals
from jaxem.ops import double_word
from jaxem.ops.windows import Geometry


def posterior(
    batch: CenteredImages, shared: SharedTerms, geometry: Geometry, *, hard: bool
) -> tuple[Hypotheses | UnnormalizedPosterior, PosteriorSummary]:
    """The posterior over hypotheses, and what else the log odds of the images say."""
    maps = log_odds(batch, shared, geometry)
    best, highest = _highest(maps)
    log_absent = shared.log_absent
    if log_absent is not None:
        # Not their maximum, whose gradient is half that of either where they are equal.
        best = best._replace(present=highest >= log_absent)
        highest = jnp.where(highest < log_absent, log_absent, highest)
    if hard:
        return best, PosteriorSummary(best, highest, jnp.zeros_like(highest), jnp.zeros_like(highest))
    flat = maps.reshape(len(maps), -1)
    finite = jnp.where(jnp.isfinite(highest), highest, 0)
    # Divided by their sum later: of log odds of 1e5, rounding of their logsumexp would change all probabilities by 1 %.
    below = flat - finite[:, None]
    masses = jnp.exp(below)
    total, deficit, absent = jnp.sum(masses, axis=1), _expected_deficit(masses, below), None
    if log_absent is not None:
        absent_below = log_absent - finite
        absent = jnp.exp(absent_below)
        total, deficit = total + absent, deficit + _expected_deficit(absent[:, None], absent_below[:, None])
        absent = absent / total
    log_mass = jnp.log(total)
    return (
        UnnormalizedPosterior(masses.reshape(maps.shape), 1 / total, absent),
        PosteriorSummary(best, highest, log_mass, log_mass + deficit / total),
    )


def _expected_deficit(masses: jax.Array, below: jax.Array) -> jax.Array:
    """Sum of masses times what their logarithms are below zero, (K, N) -> (K,)."""
    return -jnp.sum(masses * jnp.maximum(below, jnp.log(jnp.finfo(below.dtype).tiny)), axis=1)


def _highest(maps: jax.Array) -> tuple[Hypotheses, jax.Array]:
    """Where each image's first maximum is and its value, (K, Z, P, Q) -> (K,); by rows, which is twice as fast."""
    num_images, num_appearances, rows, columns = maps.shape
    by_row = maps.reshape(num_images, num_appearances * rows, columns)
    row = jnp.argmax(jnp.max(by_row, axis=2), axis=1)
    values = jnp.take_along_axis(by_row, row[:, None, None], axis=1)[:, 0]
    column = jnp.argmax(values, axis=1)
    appearance = None
    if num_appearances > 1:
        appearance, row = jnp.divmod(row, rows)
        appearance = appearance.astype(jnp.int32)
    corners = jnp.stack([row, column], axis=-1).astype(jnp.int32)
    return Hypotheses(corners, appearance), jnp.take_along_axis(values, column[:, None], axis=1)[:, 0]


def log_evidence(
    images: CenteredImages, params: Params, summary: PosteriorSummary, transforms: tuple[str, ...] = IDENTITY
) -> jax.Array:
    """ln p(X_k) of each image, in hard EM ln p(X_k, b_k), (K,), nats.

    The log joint of the best hypothesis is made from the pixels; only the log mass, which is small, is from transforms.
    """
    return log_joint_at(images, params, summary.best, transforms) + summary.log_mass


def accumulate(
    batch: CenteredImages,
    weights: jax.Array,
    params: Params,
    shared: SharedTerms,
    *,
    hard: bool,
    transforms: tuple[str, ...] = IDENTITY,
) -> tuple[tuple[BatchStatistics, LogLikelihoodRatio], Hypotheses]:
    """One batch's sums, which add up over batches (`batching.over_batches`), and the best hypothesis of each image.

    Args:
        batch: some of the images, n of them; offset, scale and mean image are those of the whole stack.
        weights: (n,), zero or one: whether an image counts; its frequency comes on top.
        params: the parameters, in internal units.
        shared: their `shared_terms`.
        hard: whether only the best hypothesis counts (static).
        transforms: that templates may be under (static).
    """
    geometry, counts = geometry_of(params), batch.frames.counts(weights)
    found, summary = posterior(batch, shared, geometry, hard=hard)
    supports = appearances_of(params, transforms).supports if hard else shared.kernels.supports
    statistics = batch_statistics(batch, found, counts, geometry, len(params.prior), supports)
    return (statistics, _log_likelihood_ratio(batch, params, summary, counts, transforms)), summary.best


def batch_statistics(
    batch: CenteredImages,
    found: Hypotheses | UnnormalizedPosterior,
    weights: jax.Array,
    geometry: Geometry,
    num_appearances: int,
    supports: jax.Array | None,
) -> BatchStatistics:
    """A posterior's sums over a batch; hard hypotheses gather windows where soft ones need transforms.

    The supports are those of the appearances, for a soft posterior as `CenteredImages.transform_template` gives them.
    """
    if isinstance(found, Hypotheses):
        return _hard_statistics(batch, found, weights, geometry, num_appearances, supports)
    masses, shares = found.masses, found.shares * weights
    counts = sum_over_images(masses, shares)
    back = batch.backproject(masses * shares[:, None, None, None], supports, geometry)
    if back.hidden is None:
        hidden = batch.coverage(jnp.sum(masses, axis=1), geometry)
    else:
        hidden, shares = back.hidden, jnp.ones_like(shares)
    residuals, pixel_weights = batch.frames.weighted(batch.residuals), batch.frames.weights
    return BatchStatistics(
        counts,
        None if found.absent is None else jnp.sum(found.absent * weights),
        back.residuals,
        back.weights,
        sum_over_images(hidden[:, None] * residuals, shares),
        None if pixel_weights is None else sum_over_images(hidden * pixel_weights, shares),
    )


def _hard_statistics(
    batch: CenteredImages,
    found: Hypotheses,
    weights: jax.Array,
    geometry: Geometry,
    num_appearances: int,
    supports: jax.Array | None,
) -> BatchStatistics:
    corners, present = found.corners, found.where_present(weights)
    appearance = 0 if found.appearance is None else found.appearance
    counts = jnp.zeros((num_appearances, *geometry.positions), weights.dtype)
    counts = counts.at[appearance, corners[:, 0], corners[:, 1]].add(present)

    def by_appearance(windows: jax.Array) -> jax.Array:
        if found.appearance is None:
            return jnp.sum(windows, axis=0)[None]
        return jax.ops.segment_sum(windows, found.appearance, num_appearances)

    def cut(images: jax.Array) -> jax.Array:
        return batch.gather(images, corners, geometry) * present[:, None, None, None]

    def hides(windows: jax.Array) -> jax.Array:
        if supports is None:
            return windows
        return windows * (supports if found.appearance is None else supports[found.appearance])

    deviations, pixel_weights = batch.weight_deviations, batch.frames.weights
    residuals = cut(batch.frames.weighted(batch.residuals))
    shown = residuals if deviations is None else cut(batch.weighted_residuals)
    covered_weight = None
    if pixel_weights is not None:
        covered_weight = batch.paste(hides(cut(pixel_weights[:, None])), corners, geometry)[0]
    return BatchStatistics(
        counts,
        None if found.present is None else jnp.sum(jnp.where(found.present, 0, weights)),
        by_appearance(shown),
        None if deviations is None else by_appearance(cut(deviations)),
        batch.paste(hides(residuals), corners, geometry),
        covered_weight,
    )


def _log_likelihood_ratio(
    batch: CenteredImages,
    params: Params,
    summary: PosteriorSummary,
    weights: jax.Array,
    transforms: tuple[str, ...],
) -> LogLikelihoodRatio:
    sse_change = sum_over_images(sse_change_at(batch, params, summary.best, transforms), weights)
    at_best = log_prior_at(params, summary.best)
    # The log odds themselves are rounded too much to be used, but they tell of a NaN outside the best window.
    at_best = jnp.where(jnp.isnan(summary.best_log_odds), jnp.nan, at_best)

    def counted(values: jax.Array) -> jax.Array:
        return jnp.where(weights > 0, weights * values, 0)

    return LogLikelihoodRatio(
        double_word.total(jnp.sum(sse_change, axis=2)),
        double_word.total(counted(at_best)),
        double_word.total(counted(summary.log_mass)),
        jnp.sum(counted(summary.entropy)),
    )


def finalize(
    images: CenteredImages,
    sums: BatchStatistics,
    geometry: Geometry,
    supports: jax.Array | None,
    *,
    hard: bool,
    transforms: tuple[str, ...] = IDENTITY,
) -> SufficientStatistics:
    """The statistics of the whole stack, from the sums of all batches."""
    counts, absent, backprojection, weight_projection, covered_sum, covered_weight = sums
    transformed = None if supports is None else images.transform_template(supports)
    mean = images.backproject_mean(counts, transformed, geometry)

    def with_mean(own: jax.Array, shared: jax.Array) -> jax.Array:
        windows = own if hard else images.template_of(own, geometry)
        return windows + images.template_of(shared, geometry)

    template_sum = fold(with_mean(backprojection, mean.residuals), transforms)
    template_weight = None
    if mean.weights is not None:
        shared_weight = images.template_of(mean.weights, geometry)
        whole = shared_weight if weight_projection is None else with_mean(weight_projection, mean.weights)
        template_weight = fold(whole[:, 0], transforms)
    elif absent is not None or len(template_sum) > 1:
        template_weight = fold(jnp.sum(counts, axis=(-2, -1), keepdims=True), transforms)
    if covered_weight is None:
        hidden = images.coverage(jnp.sum(counts, axis=0), geometry) if mean.hidden is None else mean.hidden[0]
        covered_weight = hidden if images.mean_weights is None else images.mean_weights * hidden
    return SufficientStatistics(counts, absent, template_weight, template_sum, covered_weight, covered_sum)


def update(
    images: CenteredImages,
    totals: ImageTotals,
    statistics: SufficientStatistics,
    prior_smoothing: jax.Array,
    before: Params,
    *,
    fixed: tuple[str, ...] = (),
) -> Params:
    """M-step: the parameters that maximise the expected log joint plus alpha mean ln A, given its statistics.

    Args:
        images: what the statistics are of.
        totals: of the images.
        statistics: of the posterior.
        prior_smoothing: alpha, pseudo-counts.
        before: the parameters before, in internal units; pixels that were never seen keep their values.
        fixed: fields that keep their values, too (static).
    """
    num_images = totals.num_images
    counts, absent, template_weight, template_sum, covered_weight, covered_sum = statistics
    per_corner, for_absence = pseudo_counts(before, prior_smoothing)
    prior = (counts + per_corner) / (num_images + prior_smoothing)
    absent = None if absent is None else (absent + for_absence) / (num_images + prior_smoothing)
    template = before.template
    if "template" not in fixed:
        template = template_sum / num_images
        if template_weight is not None:
            weight = seen_weight(template_weight)[:, None]
            template = jnp.where(weight > 0, template_sum / jnp.where(weight > 0, weight, 1), before.template)
        if before.opacity is not None:
            template = jnp.where(before.opacity > 0, template, before.template)

    background = before.background
    if "background" not in fixed:
        visible = visible_weight(covered_weight[None], totals.total_weight)
        shift = (totals.residual_sum - covered_sum) / jnp.where(visible > 0, visible, 1)
        background = images.mean_image + jnp.where(visible > 0, shift, 0)

    noise_scale = before.noise_scale
    if "noise_scale" not in fixed:
        sse = expected_sse(images, totals, statistics, template, background, before.opacity)
        variance = sse / totals.num_pixels.high
        if noise_scale.ndim == 0:
            variance = jnp.mean(variance)
        noise_scale = jnp.sqrt(jnp.maximum(variance, images.least_variance(noise_scale)))
    return hold(Params(template, background, noise_scale, prior, absent, before.opacity), before, fixed)
