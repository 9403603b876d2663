"""What is said of each image by a model that has not seen it: its own share of every estimate is taken out first.

A fit has seen its images: a part of each one's noise is in the template, the background and the prior, which makes its
posteriors overconfident. Source: ``docs/statistics.md``, *Leave one out*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

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
from jaxem.model.objective import seen_weight, visible_weight
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
    geometry, supports = geometry_of(params), appearances_of(params, transforms).supports
    shared = shared_terms(images, params, transforms)
    scene = _Scene(images, totals, params, theirs, transforms, fixed, flat)

    def of_one(own: Any) -> tuple[LeftOut, jax.Array]:
        one = with_own_spectra(images._replace(frames=images.frames.batch(jax.tree.map(lambda leaf: leaf[None], own))))
        counts = one.frames.counts(jnp.ones(1, params.template.dtype))
        found, _ = posterior(one, shared, geometry, hard=False)
        assert isinstance(found, UnnormalizedPosterior)
        sums = batch_statistics(one, found, counts, geometry, len(params.prior), shared.kernels.supports)
        mine = finalize(one, sums, geometry, supports, hard=False, transforms=transforms)
        others = scene.without(one, counts[0], mine)
        tempered = others._replace(noise_scale=others.noise_scale * jnp.sqrt(inflation))
        terms = shared_terms(one, tempered, transforms)
        left, summary = posterior(one, terms, geometry, hard=False)
        assert isinstance(left, UnnormalizedPosterior)
        surprise, presence = _at_all_weights(one, tempered, terms, summary.best)
        said = LeftOut(
            summary.best,
            surprise,
            log_evidence(one, others, summary, transforms),
            *scene.product_and_power(one, others, mine, summary.best),
            presence,
        )
        variance = _window_variance(one, params, left, geometry, transforms)
        variance = jnp.where(summary.log_mass[0] < CERTAIN_LOG_MASS, 0, variance)
        return jax.tree.map(lambda leaf: leaf[0], said), jnp.where(counts[0] > 0, counts[0] * variance, 0)

    def one_batch(own: Any, weights: jax.Array, _: None) -> tuple[jax.Array, LeftOut]:
        said, variances = jax.vmap(of_one)(own)
        return jnp.tensordot(weights, variances, 1), said

    variance, said = over_batches(one_batch, images.frames.own, workspace.batch_size)
    said = jax.tree.map(lambda pieces: unbatch(pieces, images.frames.num_images), said)
    weight = scene.template_weight[:, None]
    missing = variance / (jnp.where(weight > 0, weight, 1) * channel_variances(params)[None, :, None, None])
    return said, Certainty(scene.template_weight, missing, scene.background_weight[0])


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


class _Scene(NamedTuple):
    """What all images say together, from which one image's share is taken out."""

    images: CenteredImages
    totals: ImageTotals
    params: Params
    theirs: SufficientStatistics
    transforms: tuple[str, ...]
    fixed: tuple[str, ...]
    flat: bool

    @property
    def template_weight(self) -> jax.Array:
        """(M, h, w)."""
        weight = self.theirs.template_weight
        weight = self.totals.num_images if weight is None else seen_weight(weight)
        templates = self.params.template
        return jnp.broadcast_to(weight, (len(templates), *templates.shape[-2:]))

    @property
    def background_weight(self) -> jax.Array:
        """(1, H, W)."""
        weight = visible_weight(self.theirs.covered_weight[None], self.totals.total_weight)
        return jnp.broadcast_to(weight, (1, *self.images.image_shape))

    def without(self, one: CenteredImages, count: jax.Array, mine: SufficientStatistics) -> Params:
        """The estimates of all other images, and noise that makes up for how little they are."""
        params, num_images = self.params, self.totals.num_images
        template, background = params.template, params.background
        if "template" not in self.fixed:
            own = count if mine.template_weight is None else mine.template_weight[:, None]
            total = self.template_weight[:, None]
            left = _left(total, own)
            shown = template - (mine.template_sum - own * template) / jnp.where(left > 0, left, 1)
            template = jnp.where(left > 0, shown, 0)
            if params.opacity is not None:
                template = jnp.where(params.opacity > 0, template, params.template)
        if "background" not in self.fixed:
            background = self._background_without(one, count, mine)
        scale = params.noise_scale
        if "noise_scale" not in self.fixed:
            scale = scale * self.correction
        # Estimates from so few carry noise of their own, which a new image does not share.
        others = jnp.maximum(num_images - count, 1)
        prior, absent = self._prior_without(mine, others)
        return params._replace(
            template=template,
            background=background,
            noise_scale=scale * jnp.sqrt(1 + 1 / others),
            prior=prior,
            absent=absent,
        )

    @property
    def correction(self) -> jax.Array:
        """What a noise scale is too low by, since template and background were fitted to the same noise."""
        return noise_correction(self.totals, self.template_weight, self.background_weight, self.params, self.fixed)

    def _own_background(
        self, one: CenteredImages, count: jax.Array, mine: SufficientStatistics
    ) -> tuple[jax.Array, jax.Array]:
        """Weight with which an image shows the background, (1, H, W), and its residuals there, (C, H, W)."""
        weights = one.frames.pixel_weights
        seen = count * (jnp.ones_like(mine.covered_weight[None]) if weights is None else weights[0])
        residuals = jnp.where(count > 0, count, 0) * one.frames.weighted(one.residuals)[0]
        return jnp.maximum(seen - mine.covered_weight[None], 0), residuals - mine.covered_sum

    def _background_without(self, one: CenteredImages, count: jax.Array, mine: SufficientStatistics) -> jax.Array:
        background, mean_image = self.params.background, self.images.mean_image
        own, residual = self._own_background(one, count, mine)
        left = _left(self.background_weight, own)
        shown = background - (residual - own * (background - mean_image)) / jnp.where(left > 0, left, 1)
        # Where no other image shows it, their mean image stands for it, as it does in the fit.
        weights = one.frames.pixel_weights
        whole = count * (jnp.ones_like(own) if weights is None else weights[0])
        rest = _left(jnp.broadcast_to(self.totals.total_weight, own.shape), whole)
        residuals = one.frames.weighted(one.residuals)[0]
        mean = mean_image - jnp.where(rest > 0, count * residuals / jnp.where(rest > 0, rest, 1), 0)
        return jnp.where(left > 0, shown, mean)

    def _prior_without(self, mine: SufficientStatistics, others: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Flat over the corners, or as often as they are seen; one image more is shared out evenly in either case."""
        params = self.params
        if "prior" in self.fixed:
            return params.prior, params.absent
        counts = jnp.maximum(self.theirs.counts - mine.counts, 0)
        if self.flat:
            by_template = counts.reshape(len(params.template), -1)
            shares = jnp.sum(by_template, axis=1, keepdims=True) / by_template.shape[1]
            counts = jnp.broadcast_to(shares, by_template.shape).reshape(counts.shape)
        if params.absent is None or self.theirs.absent is None or mine.absent is None:
            return (counts + 1 / counts.size) / (others + 1), None
        if "absent" in self.fixed:
            present = 1 - params.absent
            return present * (counts + 1 / counts.size) / (jnp.sum(counts) + 1), params.absent
        absent = (jnp.maximum(self.theirs.absent - mine.absent, 0) + 0.5) / (others + 1)
        return (1 - absent) * (counts + 0.5 / counts.size) / (jnp.sum(counts) + 0.5), absent

    def product_and_power(
        self, one: CenteredImages, others: Params, mine: SufficientStatistics, where: Hypotheses
    ) -> tuple[jax.Array, jax.Array]:
        """See `LeftOut`; F and B are those of the others, (1,) each."""
        geometry = geometry_of(others)
        templates, supports = appearances_of(others, self.transforms).entry(where.appearance)
        behind = one.gather(others.background[None], where.corners, geometry)
        left = _left(self.background_weight, self._own_background(one, jnp.ones(()), mine)[0])
        weight = one.gather(left[None], where.corners, geometry)
        # The background is in both factors, with its noise.
        variances = channel_variances(others)[None, :, None, None]
        noise = jnp.where(weight > 0, 1 / jnp.where(weight > 0, weight, 1), 0)
        if "background" in self.fixed:
            noise = jnp.zeros_like(noise)
        shown, stands_out = one.pixels_at(where.corners, geometry) - behind, templates - behind
        weights = one.weights_at(where.corners, geometry)

        def over_window(values: jax.Array) -> jax.Array:
            values = values if weights is None else weights * values
            return jnp.sum(where.where_present(values if supports is None else supports * values), axis=(1, 2, 3))

        return over_window(shown * stands_out / variances - noise), over_window(stands_out**2 / variances)


def noise_correction(
    totals: ImageTotals,
    template_weight: jax.Array,
    background_weight: jax.Array,
    params: Params,
    fixed: tuple[str, ...],
) -> jax.Array:
    """sqrt(n / (n - p)) of n pixels, p of which were learned from them: of template and background where they show."""
    num_pixels = totals.num_pixels.high
    learned = jnp.zeros_like(num_pixels)
    if "template" not in fixed:
        seen = template_weight > 0
        seen = seen if params.opacity is None else seen & (params.opacity[:, 0] > 0)
        learned = learned + jnp.sum(seen.astype(learned.dtype))
    if "background" not in fixed:
        learned = learned + jnp.sum((background_weight > 0).astype(learned.dtype))
    return jnp.sqrt(num_pixels / jnp.maximum(num_pixels - learned, 1))


def _left(total: jax.Array, own: jax.Array) -> jax.Array:
    """A weight less an image's own; zero where only rounding is left of it."""
    left = total - own
    return jnp.where(left > 1e-3 * own, left, 0)


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
