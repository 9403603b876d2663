"""The two steps of EM.

E-step: `posterior` says where the template may be in each of a batch of images, `accumulate` sums up what a batch says,
`finalize` turns the sums of all batches into statistics. M-step: `update` finds the parameters that fit those best.
To go through the images in another way (from a stream, on several devices), add up what `accumulate` gives for each
batch with `double_word.add_trees`, then `finalize`. Derivations: ``docs/model.md``, *E-step* and *M-step*.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxem.model.images import CenteredImages, ImageTotals, Workspace, sum_over_images
from jaxem.model.likelihood import (
    SharedTerms,
    log_joint_at,
    log_odds,
    log_prior,
    shared_terms,
    sse_change_at,
)
from jaxem.model.objective import expected_sse, visible_counts
from jaxem.model.params import Params, Positions
from jaxem.model.statistics import (
    BatchStatistics,
    Expectation,
    LogLikelihoodRatio,
    PosteriorSummary,
    SufficientStatistics,
    UnnormalizedPosterior,
)
from jaxem.ops import double_word
from jaxem.ops.batching import over_batches, unbatch
from jaxem.ops.windows import Shape, gather, paste, positions_shape


def posterior(
    batch: CenteredImages, shared: SharedTerms, template_shape: Shape, *, hard: bool
) -> tuple[Positions | UnnormalizedPosterior, PosteriorSummary]:
    """The posterior over corners, and what else the log odds of the images say."""
    maps = log_odds(batch, shared, template_shape)
    corners, highest = _highest(maps)
    if hard:
        return Positions(corners), PosteriorSummary(corners, highest, jnp.zeros_like(highest))
    flat = maps.reshape(len(maps), -1)
    # Divided by their sum later: of log odds of 1e5, rounding of their logsumexp would change all probabilities by 1 %.
    masses = jnp.exp(flat - jnp.where(jnp.isfinite(highest), highest, 0)[:, None])
    total = jnp.sum(masses, axis=1)
    return (
        UnnormalizedPosterior(masses.reshape(maps.shape), 1 / total),
        PosteriorSummary(corners, highest, jnp.log(total)),
    )


def _highest(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Corner and value of each map's first maximum, (K, P, Q) -> (K, 2) int32, (K,); by rows, twice as fast."""
    row = jnp.argmax(jnp.max(maps, axis=2), axis=1)
    values = jnp.take_along_axis(maps, row[:, None, None], axis=1)[:, 0]
    column = jnp.argmax(values, axis=1)
    corners = jnp.stack([row, column], axis=-1).astype(jnp.int32)
    return corners, jnp.take_along_axis(values, column[:, None], axis=1)[:, 0]


def log_evidence(images: CenteredImages, params: Params, summary: PosteriorSummary) -> jax.Array:
    """ln p(X_k) of each image, in hard EM ln p(X_k, b_k), (K,), nats.

    The log joint at the best corner is made from the pixels; only the log mass, which is small, is from transforms.
    """
    return log_joint_at(images, params, summary.corners) + summary.log_mass


def accumulate(
    batch: CenteredImages, weights: jax.Array, params: Params, shared: SharedTerms, *, hard: bool
) -> tuple[tuple[BatchStatistics, LogLikelihoodRatio], jax.Array]:
    """One batch's sums, which add up over batches (`batching.over_batches`), and the best corner of each image.

    Args:
        batch: some of the images, n of them; offset, scale and mean image are those of the whole stack.
        weights: (n,), zero or one: whether an image counts.
        params: the parameters, in internal units.
        shared: their `shared_terms`.
        hard: whether only the best corner counts (static).
    """
    template_shape = params.template.shape
    found, summary = posterior(batch, shared, template_shape, hard=hard)
    statistics = batch_statistics(batch, found, weights, template_shape)
    return (statistics, _log_likelihood_ratio(batch, params, summary, weights)), summary.corners


def batch_statistics(
    batch: CenteredImages, found: Positions | UnnormalizedPosterior, weights: jax.Array, template_shape: Shape
) -> BatchStatistics:
    """A posterior's sums over a batch; hard positions gather windows where soft ones need transforms."""
    if isinstance(found, Positions):
        corners = found.corners
        windows = gather(batch.residuals, corners, template_shape) * weights[:, None, None]
        counts = jnp.zeros(positions_shape(batch.image_shape, template_shape), windows.dtype)
        counts = counts.at[corners[:, 0], corners[:, 1]].add(weights)
        return BatchStatistics(counts, jnp.sum(windows, axis=0), paste(windows, corners, batch.image_shape))
    masses, shares = found.masses, found.shares * weights
    counts = sum_over_images(masses, shares)
    backprojection = batch.backproject(masses * shares[:, None, None])
    return BatchStatistics(counts, backprojection, batch.covered_sum(masses, shares, template_shape))


def _log_likelihood_ratio(
    batch: CenteredImages, params: Params, summary: PosteriorSummary, weights: jax.Array
) -> LogLikelihoodRatio:
    sse_change = sum_over_images(sse_change_at(batch, params, summary.corners), weights)
    at_best = log_prior(params.prior)[summary.corners[:, 0], summary.corners[:, 1]]
    # The log odds themselves are rounded too much to be used, but they tell of a NaN outside the best window.
    at_best = jnp.where(jnp.isnan(summary.best_log_odds), jnp.nan, at_best)
    counted = (jnp.where(weights > 0, values, 0) for values in (at_best, summary.log_mass))
    return LogLikelihoodRatio(double_word.total(jnp.sum(sse_change, axis=1)), *map(double_word.total, counted))


def finalize(
    images: CenteredImages, sums: BatchStatistics, template_shape: Shape, *, hard: bool
) -> SufficientStatistics:
    """The statistics of the whole stack, from the sums of all batches."""
    counts, backprojection, covered_sum = sums
    own = backprojection if hard else images.template_of(backprojection, template_shape)
    template_sum = own + images.template_of(images.backproject_mean_image(counts), template_shape)
    return SufficientStatistics(counts, images.coverage(counts, template_shape), template_sum, covered_sum)


def expectation(workspace: Workspace, params: Params, *, hard: bool) -> Expectation:
    """E-step on all images, batch by batch."""
    images, template_shape = workspace.images, params.template.shape
    spectra, shared = images.spectra, shared_terms(images, params)
    assert spectra is not None

    def one_batch(
        pixels: jax.Array, weights: jax.Array, pairs: jax.Array
    ) -> tuple[tuple[BatchStatistics, LogLikelihoodRatio], jax.Array]:
        batch = images._replace(pixels=pixels, spectra=spectra._replace(pairs=pairs))
        return accumulate(batch, weights, params, shared, hard=hard)

    (sums, ratio), corners = over_batches(one_batch, images.pixels, workspace.batch_size, along=spectra.pairs)
    statistics = finalize(images, sums, template_shape, hard=hard)
    return Expectation(statistics, ratio, unbatch(corners, len(images.pixels)))


def update(
    images: CenteredImages, totals: ImageTotals, statistics: SufficientStatistics, prior_smoothing: jax.Array
) -> Params:
    """M-step: the parameters that maximise the expected log joint plus (alpha / PQ) sum ln A, given its statistics."""
    num_images, residual_sum, _ = totals
    counts, covered, template_sum, covered_sum = statistics

    prior = (counts + prior_smoothing / counts.size) / (num_images + prior_smoothing)
    template = template_sum / num_images
    visible = visible_counts(covered, num_images)
    shift = jnp.where(visible > 0, (residual_sum - covered_sum) / jnp.where(visible > 0, visible, 1), 0)
    background = images.mean_image + shift

    sse = expected_sse(images, totals, statistics, template, background)
    variance = sse / (num_images * background.size)
    return Params(template, background, jnp.sqrt(jnp.maximum(variance, images.variance_floor)), prior)
