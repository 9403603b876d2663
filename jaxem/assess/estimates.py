"""Estimates without one of the images they were made from.

Source: ``docs/statistics.md``, *Leave one out*.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.model.appearances import appearances_of, geometry_of
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, channel_variances
from jaxem.model.objective import seen_weight, visible_weight
from jaxem.model.params import Params
from jaxem.model.statistics import SufficientStatistics
from jaxem.model.workspace import ImageTotals


class Estimates(NamedTuple):
    """What all images say together, and what is left of it without one of them."""

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
        self, one: CenteredImages, others: Params, count: jax.Array, mine: SufficientStatistics, where: Hypotheses
    ) -> tuple[jax.Array, jax.Array]:
        """See `LeftOut`; F and B are those of the others, (1,) each."""
        geometry = geometry_of(others)
        templates, supports = appearances_of(others, self.transforms).entry(where.appearance)
        behind = one.gather(others.background[None], where.corners, geometry)
        left = _left(self.background_weight, self._own_background(one, count, mine)[0])
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
