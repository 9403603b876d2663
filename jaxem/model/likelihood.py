"""The generative model: one of a few templates, or none, at an unknown place over one background, and Gaussian noise.

    X_k(r) = F(r - d_k) if r lies in the window at d_k, else B(r);  plus s * N(0, 1);  d_k drawn from A

Here is its log joint density of an image and what is hidden behind it: a *hypothesis*, which is a corner and an
appearance, or that there is no template. It is split in two, ln p(X_k, d) = log_background(k) + log_odds(k, d): the
first term is large and the same for every hypothesis, and would drown their differences in single precision if it were
added. All parameters here are in internal units (`to_internal_units`); log densities are those of pixel values.
Derivations: ``docs/model.md``, *The log joint*.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.appearances import IDENTITY, appearances_of, geometry_of
from jaxem.model.images import CenteredImages, Kernels
from jaxem.model.params import Params, Positions
from jaxem.ops.windows import Geometry, gather


class Hypotheses(NamedTuple):
    """What is said of each image.

    ==========  ==================  =====================================================================
    field       shape               meaning
    ==========  ==================  =====================================================================
    corners     (K, 2) int32        row and column of the window's upper left pixel
    appearance  (K,) int32 or None  number of the appearance there; None: there is but one
    present     (K,) bool or None   whether there is a template at all; None: there always is
    ==========  ==================  =====================================================================
    """

    corners: jax.Array
    appearance: jax.Array | None = None
    present: jax.Array | None = None

    def where_present(self, values: jax.Array) -> jax.Array:
        """Values (K, ...), zero where there is no template."""
        if self.present is None:
            return values
        return jnp.where(self.present.reshape(-1, *[1] * (values.ndim - 1)), values, 0)


def positions_of(
    found: Hypotheses, log_joint: jax.Array | None, params: Params, transforms: tuple[str, ...]
) -> Positions:
    """Hypotheses with the numbers of template and transform instead of that of an appearance."""
    template, transform = found.appearance, None
    if len(transforms) > 1:
        appearance = jnp.zeros(len(found.corners), jnp.int32) if found.appearance is None else found.appearance
        template, transform = jnp.divmod(appearance, len(transforms))
    if params.template.ndim == params.background.ndim:
        template = None
    elif template is None:
        template = jnp.zeros(len(found.corners), jnp.int32)
    return Positions(found.corners, log_joint, template, transform, found.present)


def hypotheses_of(positions: Positions, num_transforms: int) -> Hypotheses:
    """What positions say, template and transform as one number."""
    appearance = positions.template
    if positions.transform is not None:
        appearance = positions.transform + (0 if appearance is None else num_transforms * appearance)
    return Hypotheses(positions.corners, appearance, positions.present)


def log_prior(prior: jax.Array) -> jax.Array:
    """ln A, minus infinity where A = 0 (there with a zero gradient: such a corner stays impossible); NaN stays NaN."""
    possible = prior > 0
    return jnp.where(possible, jnp.log(jnp.where(possible, prior, 1)), jnp.where(jnp.isnan(prior), jnp.nan, -jnp.inf))


def log_prior_at(params: Params, where: Hypotheses) -> jax.Array:
    """ln A of each image's hypothesis, (K,)."""
    appearance = 0 if where.appearance is None else where.appearance
    there = log_prior(params.prior)[appearance, where.corners[:, 0], where.corners[:, 1]]
    if where.present is None or params.absent is None:
        return there
    return jnp.where(where.present, there, log_prior(params.absent))


def channel_variances(params: Params) -> jax.Array:
    """s^2 of each channel, (C,)."""
    return jnp.broadcast_to(params.noise_scale**2, params.background.shape[:1])


def log_background(images: CenteredImages, params: Params) -> jax.Array:
    """ln N(X_k; B, s^2), the log density of each image (K,) if it showed the background alone, nats."""
    return _log_normal(images, params, _without_template(images, params), images.frames.pixel_weights)


def log_joint_at(
    images: CenteredImages, params: Params, where: Hypotheses, transforms: tuple[str, ...] = IDENTITY
) -> jax.Array:
    """ln p(X_k, d) of each image and one hypothesis, (K,), nats; from errors of all pixels, so nothing cancels."""
    errors = errors_at(images, params, where, transforms)
    return log_prior_at(params, where) + _log_normal(images, params, errors, images.frames.pixel_weights)


def errors_at(
    images: CenteredImages, params: Params, where: Hypotheses, transforms: tuple[str, ...] = IDENTITY
) -> jax.Array:
    """What is left of each image when what is said of it is taken away, (K, C, H, W); zero where not observed."""
    geometry, appearances = geometry_of(params), appearances_of(params, transforms).entry(where.appearance)
    in_front = images.pixels_at(where.corners, geometry) - appearances.templates
    errors = put_in_front(_without_template(images, params), in_front, appearances.supports, where, geometry)
    return images.frames.observed(errors)


def put_in_front(
    behind: jax.Array, windows: jax.Array, supports: jax.Array | None, where: Hypotheses, geometry: Geometry
) -> jax.Array:
    """Images (K, C, H, W) with windows (K or 1, C, h, w) in their place, where they hide what is behind."""
    corners, rolls = where.corners, geometry.goes_round
    if any(rolls):  # so that no window is cut
        shifts = jnp.where(jnp.array(rolls)[None], corners, 0)
        whole = put_in_front(
            _rolled(behind, -shifts), windows, supports, where._replace(corners=corners - shifts), geometry.inside
        )
        return _rolled(whole, shifts)
    windows = jnp.broadcast_to(windows, (len(behind), *windows.shape[1:]))
    if supports is not None or where.present is not None:
        covers = where.where_present(jnp.ones_like(windows) if supports is None else supports + jnp.zeros_like(windows))
        windows = jnp.where(covers > 0, windows, gather(behind, corners, geometry.template))

    def put(image: jax.Array, window: jax.Array, corner: jax.Array) -> jax.Array:
        return lax.dynamic_update_slice(image, window, (jnp.zeros_like(corner[0]), corner[0], corner[1]))

    return jax.vmap(put)(behind, windows, corners)


def clean_images(params: Params, where: Hypotheses, transforms: tuple[str, ...] = IDENTITY) -> jax.Array:
    """What images show without their noise, (K, C, H, W): the background, and in front of it what is said of each."""
    templates, supports = appearances_of(params, transforms).entry(where.appearance)
    behind = jnp.broadcast_to(params.background[None], (len(where.corners), *params.background.shape))
    return put_in_front(behind, templates, supports, where, geometry_of(params))


def _rolled(images: jax.Array, shifts: jax.Array) -> jax.Array:
    return jax.vmap(lambda image, shift: jnp.roll(image, (shift[0], shift[1]), axis=(-2, -1)))(images, shifts)


def _without_template(images: CenteredImages, params: Params) -> jax.Array:
    """X_k - B, (K, C, H, W), in internal units; zero where not observed."""
    errors = images.residuals - (params.background - images.mean_image)[None]
    return images.frames.observed(errors)


def _log_normal(images: CenteredImages, params: Params, errors: jax.Array, weights: jax.Array | None) -> jax.Array:
    """ln N of each image in pixel values, from errors in internal units: the density of each pixel over the scale."""
    variances = channel_variances(params)
    log_pixel = jnp.log(images.scale) + jnp.log(2 * jnp.pi * variances) / 2
    if weights is None:
        height, width = images.image_shape
        terms = -height * width * log_pixel[None] - jnp.sum(errors**2, axis=(-2, -1)) / (2 * variances)[None]
        return jnp.sum(terms, axis=1)
    seen = weights > 0
    num_pixels = jnp.sum(seen.astype(errors.dtype), axis=(-2, -1))
    log_weight = jnp.sum(jnp.log(jnp.where(seen, weights, 1)), axis=(-2, -1)) / 2
    squares = jnp.sum(weights * errors**2, axis=(-2, -1)) / (2 * variances)[None]
    return jnp.sum(log_weight - num_pixels * log_pixel[None] - squares, axis=1)


class SharedTerms(NamedTuple):
    """What `log_odds` needs of the parameters, made once for all images.

    =================  ============  ===================================================================
    field              shape         meaning
    =================  ============  ===================================================================
    shared_log_odds    (Z, P, Q)     the part of the log odds that all images share
    log_absent         () or None    ln A_0, the log odds of an image without a template
    kernels            `Kernels`     F / s^2 and what else images are correlated with
    scaled_background  (C, H, W)     B / s^2
    scaled_square      (H, W)        B (2 B0 - B) / 2 s^2, for weights off their mean; None where shared
                       or None
    =================  ============  ===================================================================
    """

    shared_log_odds: jax.Array
    log_absent: jax.Array | None
    kernels: Kernels
    scaled_background: jax.Array
    scaled_square: jax.Array | None


def shared_terms(images: CenteredImages, params: Params, transforms: tuple[str, ...] = IDENTITY) -> SharedTerms:
    """Everything in the log odds that is the same for all images.

    The log odds are ln A(d) - 1/(2 s^2) sum over the window of (X_k - F)^2 - (X_k - B)^2, here with X_k = B0 + R_k
    multiplied out into one map for all images and one correlation and one window sum of the small residuals.
    """
    geometry, appearances = geometry_of(params), appearances_of(params, transforms)
    background, variances = params.background, channel_variances(params)
    masked, supports = appearances.masked, appearances.supports
    transformed = images.transform_template(masked)
    squares = masked * appearances.templates
    behind = background * (2 * images.mean_image - background)
    sse_change = (
        images.correlate_mean_weights(squares, geometry)
        - 2 * images.correlate_mean_image(transformed, geometry)
        + _hidden_sums(images, behind, supports, geometry)
    )
    shared = log_prior(params.prior) - jnp.sum(sse_change / (2 * variances)[None, :, None, None], axis=1)
    shared = jnp.where(jnp.any(jnp.isnan(shared)), jnp.nan, shared)  # one is enough: a maximum on a CPU may skip it
    by_variance = (1 / variances)[:, None, None]
    own_weights = images.weight_deviations is not None
    kernels = Kernels(
        transformed * by_variance[None].astype(transformed.dtype),
        images.transform_template(jnp.sum(squares * by_variance[None], axis=1, keepdims=True) / 2)
        if own_weights
        else None,
        None if supports is None else images.transform_template(supports),
    )
    return SharedTerms(
        shared,
        None if params.absent is None else log_prior(params.absent),
        kernels,
        background / variances[:, None, None],
        jnp.sum(behind * by_variance, axis=0) / 2 if own_weights else None,
    )


def _hidden_sums(
    images: CenteredImages, behind: jax.Array, supports: jax.Array | None, geometry: Geometry
) -> jax.Array:
    """Sums of mean(w) times an image (C, H, W) over what each appearance hides, (Z or 1, C, P, Q)."""
    weighted = behind if images.mean_weights is None else images.mean_weights[None] * behind
    if supports is None:
        return images.window_sums(weighted, geometry)[None]
    return images.correlate_with(weighted, images.transform_template(supports), geometry)


def log_odds(images: CenteredImages, shared: SharedTerms, geometry: Geometry) -> jax.Array:
    """ln p(X_k, d) - ln N(X_k; B, s^2) for every image, appearance and corner, (K, Z, P, Q), nats."""
    by_channel = images.frames.weighted(images.residuals) * shared.scaled_background[None]
    # Not by `jnp.sum`, of which XLA for CPU makes a product of matrices that takes ten times as long as the rest.
    behind = reduce(jnp.add, (by_channel[:, channel] for channel in range(by_channel.shape[1])))
    if shared.scaled_square is not None:
        deviations = images.weight_deviations
        assert deviations is not None
        behind = behind + deviations[:, 0] * shared.scaled_square[None]
    return shared.shared_log_odds[None] + images.correlate(shared.kernels, behind, geometry)


def sse_change_at(
    images: CenteredImages, params: Params, where: Hypotheses, transforms: tuple[str, ...] = IDENTITY
) -> jax.Array:
    """rho_k ((X_k - F)^2 - (X_k - B)^2) in each hypothesis' window, (K, C, h, w); zero without a template.

    As (B - F) (2 X_k - F - B), so that nothing large cancels.
    """
    geometry, appearances = geometry_of(params), appearances_of(params, transforms).entry(where.appearance)
    templates, supports = appearances
    behind = images.gather(params.background[None], where.corners, geometry)
    change = (behind - templates) * (2 * images.pixels_at(where.corners, geometry) - templates - behind)
    weights = images.weights_at(where.corners, geometry)
    change = change if weights is None else weights * change
    return where.where_present(change if supports is None else supports * change)
