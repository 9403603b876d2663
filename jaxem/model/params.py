"""What the model is made of: its parameters, and where it says the template is.

Symbols: ``docs/model.md``, *The model*.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.images import CenteredImages
from jaxem.ops import double_word
from jaxem.ops.printing import short_repr
from jaxem.ops.windows import Shape, positions_shape

# A prior whose sum is off one by so many times the machine epsilon is taken as it is.
NORMAL_EPS = 64


class Params(NamedTuple):
    """What is to be found. A field that is None is not in the model, and costs nothing.

    ===========  ======  =====================  ===============================================================
    field        symbol  shape                  meaning, unit
    ===========  ======  =====================  ===============================================================
    template     F       (h, w), or (M, h, w)   the template or templates, pixel value
    background   B       (H, W)                 the background, pixel value
    noise_scale  s       () or (C,)             standard deviation of the noise, of all channels or of each,
                                                pixel value
    prior        A       (P, Q), with more      probability of each corner
                         templates or
                         transforms (M, P, Q),
                         (G, P, Q) or
                         (M, G, P, Q)
    absent       A_0     () or None             probability that an image shows no template; None: each shows one
    opacity      S       (h, w) or (M, h, w),   the template's support: one where it hides the background, zero
                         or None                where not; held as it is. None: one everywhere
    ===========  ======  =====================  ===============================================================

    Prior and absent sum to one. Images with channels, (K, H, W, C), have templates (h, w, C) or (M, h, w, C) and a
    background (H, W, C). Along an axis of the image, the prior's size says how windows meet its edges: one of H - h + 1
    rows of corners has them inside, one of H rows has them go round.
    """

    template: jax.Array
    background: jax.Array
    noise_scale: jax.Array
    prior: jax.Array
    absent: jax.Array | None = None
    opacity: jax.Array | None = None

    def __repr__(self) -> str:
        return short_repr(self)


class Posterior(NamedTuple):
    """Where the template sits in each image, as probabilities (soft EM).

    ============  =========  ===================  ============================================================
    field         symbol     shape                meaning, unit
    ============  =========  ===================  ============================================================
    probs         q_k(d)     (K, *prior.shape)    probability of each corner, of each template and transform
    log_evidence  ln p(X_k)  (K,) or None         log density of each image, nats
    absent        q_k(0)     (K,) or None         probability that there is no template; with it, all sum to one
    ============  =========  ===================  ============================================================
    """

    probs: jax.Array
    log_evidence: jax.Array | None = None
    absent: jax.Array | None = None

    def __repr__(self) -> str:
        return short_repr(self)


class Positions(NamedTuple):
    """Where the template sits in each image, as one corner (hard EM).

    =========  ==============  ==================  ===============================================================
    field      symbol          shape               meaning, unit
    =========  ==============  ==================  ===============================================================
    corners    b_k             (K, 2) int32        row and column of the window's upper left pixel; of the likeliest
                                                   window also where no template is present
    log_joint  ln p(X_k, b_k)  (K,) or None        log density of each image and what is said of it here, nats
    template                   (K,) int32 or None  number of the template; None: there is one
    transform                  (K,) int32 or None  number of the transform; None: there is one
    present                    (K,) bool or None   whether there is a template; None: there always is
    =========  ==============  ==================  ===============================================================
    """

    corners: jax.Array
    log_joint: jax.Array | None = None
    template: jax.Array | None = None
    transform: jax.Array | None = None
    present: jax.Array | None = None

    def __repr__(self) -> str:
        return short_repr(self)


def with_all_axes(params: Params) -> Params:
    """Parameters in which every axis is there, of size one if need be, and channels come first.

    Templates (M, C, h, w), the background (C, H, W), the prior (Z, P, Q) for Z = M G appearances, opacities
    (M, 1, h, w).
    """
    has_channels = params.background.ndim == 3
    template, background = (
        jnp.moveaxis(pixels, -1, -3) if has_channels else jnp.expand_dims(pixels, -3)
        for pixels in (params.template, params.background)
    )
    template = template.reshape(-1, *template.shape[-3:])
    opacity = params.opacity
    if opacity is not None:
        opacity = jnp.broadcast_to(opacity.reshape(-1, 1, *opacity.shape[-2:]), (len(template), 1, *opacity.shape[-2:]))
    return Params(
        template,
        background,
        params.noise_scale,
        params.prior.reshape(-1, *params.prior.shape[-2:]),
        params.absent,
        opacity,
    )


def to_internal_units(params: Params, images: CenteredImages) -> Params:
    """Pixel values in internal units, those of centred images, with all axes; noise at least what numbers resolve.

    Pixels that are not in the model, outside a support or nowhere observed, become zero: they may be anything.
    """
    params = with_all_axes(params)
    template = (params.template - images.offset_beside(params.template)) / images.scale
    background = (params.background - images.offset_beside(params.background)) / images.scale
    least = images.least_variance(params.noise_scale)
    return params._replace(
        template=template if params.opacity is None else jnp.where(params.opacity > 0, template, 0),
        background=background if images.mean_weights is None else jnp.where(images.observed, background, 0),
        noise_scale=jnp.sqrt(jnp.maximum((params.noise_scale / images.scale) ** 2, least)),
    )


def to_pixel_values(params: Params, images: CenteredImages, like: Params) -> Params:
    """Internal units in pixel values, with the axes of others that are in them, and their pixels outside the model."""
    template, background = map(images.to_pixel_values, (params.template, params.background))
    noise_scale = images.scale * params.noise_scale
    found = params._replace(template=template, background=background, noise_scale=noise_scale)
    return with_axes_of(_outside_as(with_all_axes(like), found, images), like)


def with_mean_outside(params: Params, images: CenteredImages) -> Params:
    """Parameters whose pixels outside the model are the mean of the images' pixels."""
    if params.opacity is None and images.mean_weights is None:
        return params
    flat = with_all_axes(with_mean_pixels(params, images))
    return with_axes_of(_outside_as(flat, with_all_axes(params), images), params)


def with_mean_pixels(params: Params, images: CenteredImages) -> Params:
    """Parameters of which all pixels are the mean of the images' pixels."""
    mean = images.offset if params.background.ndim == 3 else images.offset[0]
    return params._replace(
        template=jnp.broadcast_to(mean, params.template.shape),
        background=jnp.broadcast_to(mean, params.background.shape),
    )


def _outside_as(given: Params, params: Params, images: CenteredImages) -> Params:
    """Parameters with the pixels of others outside the support and where nothing was observed; both with all axes."""
    template, background = params.template, params.background
    if given.opacity is not None:
        template = jnp.where(given.opacity > 0, template, given.template)
    if images.mean_weights is not None:
        background = jnp.where(images.observed, background, given.background)
    return params._replace(template=template, background=background)


def with_axes_of(params: Params, like: Params) -> Params:
    """Parameters with all axes, in the axes of others."""
    has_channels = like.background.ndim == 3
    template, background = (
        jnp.moveaxis(pixels, -3, -1) if has_channels else jnp.squeeze(pixels, -3)
        for pixels in (params.template, params.background)
    )
    return Params(
        template.reshape(like.template.shape),
        background,
        params.noise_scale,
        params.prior.reshape(like.prior.shape),
        params.absent,
        like.opacity,
    )


def uniform_prior(image_shape: Shape, template_shape: Shape, dtype: Any) -> jax.Array:
    """A prior that favours no corner, (P, Q)."""
    rows, columns = positions_shape(image_shape, template_shape)
    return jnp.full((rows, columns), 1 / (rows * columns), dtype)


def disc_support(template_shape: Shape) -> np.ndarray:
    """The ellipse inscribed in a template, as an opacity (h, w): one where a pixel's centre lies in it, else zero."""
    rows, columns = (((np.arange(size) - (size - 1) / 2) / (size / 2)) ** 2 for size in template_shape)
    return (rows[:, None] + columns <= 1).astype(np.float32)


def with_uniform_prior(params: Params) -> Params:
    """Parameters that favour no corner, template or transform; absence is as likely as before."""
    size = params.prior.size
    share = jnp.full((), 1 / size, params.prior.dtype)
    if params.absent is not None:
        share = (1 - params.absent) / size
    return params._replace(prior=jnp.broadcast_to(share, params.prior.shape))


def blank_params(
    images: jax.Array,
    template_shape: Shape,
    *,
    num_templates: int = 1,
    num_transforms: int = 1,
    has_absent: bool = False,
    goes_round: bool = False,
    opacity: jax.Array | None = None,
) -> Params:
    """Parameters for images with a uniform prior, half of it absence; of the rest only shapes mean anything."""
    image_shape, channels, dtype = images.shape[1:3], images.shape[3:], images.dtype
    stacked = (num_templates,) * (num_templates > 1)
    positions = image_shape if goes_round else positions_shape(image_shape, template_shape)
    shape = (*stacked, *(num_transforms,) * (num_transforms > 1), *positions)
    return Params(
        jnp.zeros((*stacked, *template_shape, *channels), dtype),
        jnp.zeros((*image_shape, *channels), dtype),
        jnp.ones((), dtype),
        jnp.full(shape, (0.5 if has_absent else 1) / math.prod(shape), dtype),
        jnp.full((), 0.5, dtype) if has_absent else None,
        opacity,
    )


def normalized(params: Params, fixed: tuple[str, ...] = ()) -> Params:
    """Prior and absent divided by their sum, if more than rounding sets it off one; what is fixed stays."""
    if "prior" in fixed:
        return params
    total = double_word.total(params.prior.ravel())
    absent, wanted = params.absent, jnp.ones_like(total.high)
    if absent is not None and "absent" in fixed:
        wanted = wanted - absent
    elif absent is not None:
        total = double_word.add(total, double_word.double_word(absent))
    off = jnp.abs((total.high - wanted) + total.low)
    factor = jnp.where((total.high > 0) & (off > NORMAL_EPS * jnp.finfo(off.dtype).eps), wanted / total.high, 1)
    if absent is not None and "absent" not in fixed:
        absent = absent * factor
    return params._replace(prior=params.prior * factor, absent=absent)


def pseudo_counts(params: Params, prior_smoothing: jax.Array) -> tuple[jax.Array, jax.Array | float]:
    """What smoothing adds to the expected count of each corner, and to that of absence: half of it, where it may be.

    So while the prior is held, a template and none are equally likely.
    """
    if params.absent is None:
        return prior_smoothing / params.prior.size, 0.0
    return prior_smoothing / (2 * params.prior.size), prior_smoothing / 2


def num_hypotheses(params: Params) -> int:
    """Between how many hypotheses an image decides: every corner of every appearance, and that it shows none."""
    return params.prior.size + (params.absent is not None)


def keep_possible(new: Params, old: Params) -> Params:
    """Keep the prior above zero where it was.

    Probabilities below the smallest number round to zero, and a prior of zero is never left again: in single precision
    that would freeze the first positions that a run hits on.
    """
    smallest = jnp.finfo(new.prior.dtype).tiny

    def keep(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.maximum(new, jnp.where(old > 0, smallest, 0))

    absent = None if new.absent is None or old.absent is None else keep(new.absent, old.absent)
    return new._replace(prior=keep(new.prior, old.prior), absent=absent)


def hold(params: Params, before: Params, fixed: tuple[str, ...]) -> Params:
    """Parameters in which fixed fields are those before, and prior and absent still sum to one."""
    held = {name: getattr(before, name) for name in fixed}
    if "prior" in fixed:
        held["absent"] = before.absent
    elif "absent" in fixed and before.absent is not None:
        present = jnp.sum(params.prior)
        scaled = params.prior * ((1 - before.absent) / jnp.where(present > 0, present, 1))
        held["prior"] = jnp.where(present > 0, scaled, before.prior)
    return params._replace(**held)
