"""What is said of each image by a model that has not seen it: its own share of every estimate is taken out first.

A fit has seen its images: a part of each one's noise is in the template, the background and the prior, which makes its
posteriors overconfident. Source: ``docs/statistics.md``, *Leave one out*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial

from jaxem.assess.estimates import Estimates
from jaxem.model.appearances import appearances_of, fold, geometry_of
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import (
    Hypotheses,
    SharedTerms,
    channel_variances,
    log_odds,
    log_prior,
    log_prior_at,
    shared_terms,
)
from jaxem.model.params import Params
from jaxem.model.statistics import SufficientStatistics, UnnormalizedPosterior
from jaxem.model.steps import batch_statistics, finalize, log_evidence, posterior
from jaxem.model.workspace import ImageTotals, Workspace, with_own_spectra
from jaxem.ops import fourier
from jaxem.ops.batching import over_batches, unbatch
from jaxem.ops.windows import Geometry

# Posteriors whose best hypothesis is that certain leave a window no variance but rounding.
CERTAIN_LOG_MASS = 1e-4
# A template that is partly noise is worth less evidence than it says; by how much is known at the end alone.
WEIGHTS_OF_EVIDENCE = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0)


class LeftOut(NamedTuple):
    """Each image under the estimates from all others.

    ============  =================  =====================================================================
    field         shape              meaning, unit
    ============  =================  =====================================================================
    best          `Hypotheses`       the likeliest hypothesis of each
    surprise      (K, T)             -ln of its probability, nats, where log likelihoods count for as much as
                                     each of `WEIGHTS_OF_EVIDENCE` says
    log_evidence  (K,)               log density of each image, nats
    product       (K,)               sum over the window there of (X_k - B) (F - B) / s^2: |F - B|^2 / s^2 on
                                     average, if it is the right one
    power         (K,)               |F - B|^2 / s^2 there, with the noise that is in F and B
    presence      (K, T) or None     probability that there is a template; None: there always is
    ============  =================  =====================================================================
    """

    best: Hypotheses
    surprise: jax.Array
    log_evidence: jax.Array
    product: jax.Array
    power: jax.Array
    presence: jax.Array | None


class Certainty(NamedTuple):
    """How much the images together say of each pixel.

    =================  =============  =====================================================================
    field              shape          meaning
    =================  =============  =====================================================================
    template_weight    (M, h, w)      N, expected weight of the images under each template's pixels
    missing            (M, C, h, w)   share of what known positions would say of the template that is
                                      missing, as posteriors leave the positions open
    background_weight  (H, W)         expected weight with which images show the background
    =================  =============  =====================================================================
    """

    template_weight: jax.Array
    missing: jax.Array
    background_weight: jax.Array


def leave_one_out(
    workspace: Workspace,
    params: Params,
    theirs: SufficientStatistics,
    inflation: jax.Array,
    *,
    flat: bool,
    transforms: tuple[str, ...],
    fixed: tuple[str, ...],
) -> tuple[LeftOut, Certainty]:
    """Posterior of each image by the estimates of all others, to be traced.

    Args:
        workspace: the images that the parameters were fitted to.
        params: those, in internal units.
        theirs: the statistics of all images there.
        inflation: variance of what the template's filter sees of the noise, over that of white noise: log odds are
            divided by it.
        flat: whether all corners count as equally likely, or as often as other images show them (static).
        transforms: that templates may be under (static).
        fixed: fields that were known and not learned from these images (static).
    """
    images, totals, _ = workspace
    shared, shards = shared_terms(images, params, transforms), images.frames.shards

    def estimates(arrays: tuple[CenteredImages, ImageTotals, Params, SufficientStatistics]) -> Estimates:
        return Estimates(*arrays, transforms, fixed, flat)

    def one_batch(
        arrays: Any, shared: SharedTerms, inflation: jax.Array, own: Any, weights: jax.Array, _: None
    ) -> tuple[jax.Array, LeftOut]:
        return leave_out_each(estimates(arrays), shared, inflation, own, weights)

    arrays = (images.of_none, totals, params, theirs)
    one = Partial(one_batch, arrays, shared, inflation)
    variance, said = over_batches(one, images.frames.own, workspace.batch_size, shards=shards)
    said = jax.tree.map(lambda pieces: unbatch(pieces, images.frames.num_images, shards), said)
    return said, certainty_of(estimates(arrays), variance)


def leave_out_each(
    estimates: Estimates, shared: SharedTerms, inflation: jax.Array, own: Any, weights: jax.Array
) -> tuple[jax.Array, LeftOut]:
    """What a batch adds to the variance of the windows, for `certainty_of`, and each of its images.

    Args:
        estimates: of all images.
        shared: the `shared_terms` of their parameters.
        inflation: as for `leave_one_out`.
        own: what each image of the batch has for itself, as `Frames.own`.
        weights: (n,), zero or one: whether an image counts.
    """
    images, params, transforms = estimates.images, estimates.params, estimates.transforms
    geometry, supports = geometry_of(params), appearances_of(params, transforms).supports

    def of_one(own: Any) -> tuple[LeftOut, jax.Array]:
        one = with_own_spectra(images._replace(frames=images.frames.batch(jax.tree.map(lambda leaf: leaf[None], own))))
        counts = one.frames.counts(jnp.ones(1, params.template.dtype))
        found, _ = posterior(one, shared, geometry, hard=False)
        assert isinstance(found, UnnormalizedPosterior)
        sums = batch_statistics(one, found, counts, geometry, len(params.prior), shared.kernels.supports)
        mine = finalize(one, sums, geometry, supports, hard=False, transforms=transforms)
        others = estimates.without(one, counts[0], mine)
        tempered = others._replace(noise_scale=others.noise_scale * jnp.sqrt(inflation))
        terms = shared_terms(one, tempered, transforms)
        left, summary = posterior(one, terms, geometry, hard=False)
        assert isinstance(left, UnnormalizedPosterior)
        surprise, presence = _at_all_weights(one, tempered, terms, summary.best)
        said = LeftOut(
            summary.best,
            surprise,
            log_evidence(one, others, summary, transforms),
            *estimates.product_and_power(one, others, counts[0], mine, summary.best),
            presence,
        )
        variance = _window_variance(one, params, left, geometry, transforms)
        variance = jnp.where(summary.log_mass[0] < CERTAIN_LOG_MASS, 0, variance)
        return jax.tree.map(lambda leaf: leaf[0], said), jnp.where(counts[0] > 0, counts[0] * variance, 0)

    said, variances = jax.vmap(of_one)(own)
    return jnp.tensordot(weights, variances, 1), said


def certainty_of(estimates: Estimates, variance: jax.Array) -> Certainty:
    """By the variance of the windows (M, C, h, w), summed over the posteriors of all images."""
    weight = estimates.template_weight[:, None]
    variances = channel_variances(estimates.params)[None, :, None, None]
    missing = variance / (jnp.where(weight > 0, weight, 1) * variances)
    return Certainty(estimates.template_weight, missing, estimates.background_weight[0])


def _at_all_weights(
    one: CenteredImages, params: Params, terms: SharedTerms, best: Hypotheses
) -> tuple[jax.Array, jax.Array | None]:
    """`LeftOut.surprise` and `LeftOut.presence` of one image, (1, T) each."""
    geometry = geometry_of(params)
    prior = log_prior(params.prior)[None]
    evidence = log_odds(one, terms, geometry) - prior
    at_best = log_prior_at(params, best)
    number = 0 if best.appearance is None else best.appearance[0]
    evidence_there = best.where_present(evidence[:, number, best.corners[0, 0], best.corners[0, 1]])

    def at(weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        present = jax.nn.logsumexp((prior + weight * evidence).reshape(1, -1), axis=1)
        total = present if terms.log_absent is None else jnp.logaddexp(present, terms.log_absent[None])
        return total - at_best - weight * evidence_there, jnp.exp(present - total)

    surprise, presence = lax.map(at, jnp.array(WEIGHTS_OF_EVIDENCE, evidence.dtype))
    return surprise.T, None if terms.log_absent is None else presence.T


def _window_variance(
    one: CenteredImages,
    params: Params,
    found: UnnormalizedPosterior,
    geometry: Geometry,
    transforms: tuple[str, ...],
) -> jax.Array:
    """Var of z rho (X - F) over the posterior, where z says whether it is this template's turn, (M, C, h, w).

    The variance of the complete data's score, times s^4.
    """
    weights = one.frames.pixel_weights
    weights = jnp.ones((1, 1, *one.image_shape), params.template.dtype) if weights is None else weights
    pixels = one.frames.observed(one.residuals + one.mean_image[None])
    maps = fourier.transform_pairs(found.masses * found.shares[:, None, None, None], one.image_shape)

    def back(image: jax.Array) -> jax.Array:
        spectra = fourier.backproject_pairs(fourier.transform_pairs(image, one.image_shape), maps)
        return fold(fourier.template_of(spectra, geometry.template), transforms)

    def moments(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        shown = back(jnp.concatenate([weights * pixels, weights], axis=1))
        return shown[:, :-1], shown[:, -1:]

    template = params.template
    first, weight = moments(weights)
    twice, twice_weight = (first, weight) if one.frames.pixel_weights is None else moments(weights**2)
    square = back(weights**2 * pixels**2) - 2 * template * twice + template**2 * twice_weight
    return jnp.maximum(square - (first - template * weight) ** 2, 0)
