"""What the model is made of: its parameters, and where it says the template is.

Symbols: ``docs/model.md``, *The model*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.images import CenteredImages
from jaxem.ops.validation import as_real_array, expect_shape, floating
from jaxem.ops.windows import Shape, positions_shape
from jaxem.runtime.arguments import as_template_shape
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError


class Params(NamedTuple):
    """What is to be found.

    ===========  ======  ==================  ==============================================
    field        symbol  shape               meaning, unit
    ===========  ======  ==================  ==============================================
    template     F       (h, w)              the template, pixel value
    background   B       (H, W)              the background, pixel value
    noise_scale  s       ()                  standard deviation of the noise, pixel value
    prior        A       (H-h+1, W-w+1)      probability of each corner, sums to one
    ===========  ======  ==================  ==============================================
    """

    template: jax.Array
    background: jax.Array
    noise_scale: jax.Array
    prior: jax.Array


class Posterior(NamedTuple):
    """Where the template sits in each image, as probabilities (soft EM).

    ============  =========  ======================  =========================================
    field         symbol     shape                   meaning, unit
    ============  =========  ======================  =========================================
    probs         q_k(d)     (K, H-h+1, W-w+1)       probability of each corner, each sums to one
    log_evidence  ln p(X_k)  (K,) or None            log density of each image, nats
    ============  =========  ======================  =========================================
    """

    probs: jax.Array
    log_evidence: jax.Array | None = None


class Positions(NamedTuple):
    """Where the template sits in each image, as one corner (hard EM).

    =========  ==============  ==============  ===============================================
    field      symbol          shape           meaning, unit
    =========  ==============  ==============  ===============================================
    corners    b_k             (K, 2) int32    row and column of the window's upper left pixel
    log_joint  ln p(X_k, b_k)  (K,) or None    log density of each image and its corner, nats
    =========  ==============  ==============  ===============================================
    """

    corners: jax.Array
    log_joint: jax.Array | None = None


def to_internal_units(params: Params, images: CenteredImages) -> Params:
    """Pixel values in internal units, those of centred images; the noise is at least what their numbers resolve."""
    return Params(
        (params.template - images.offset) / images.scale,
        (params.background - images.offset) / images.scale,
        jnp.sqrt(jnp.maximum((params.noise_scale / images.scale) ** 2, images.variance_floor)),
        params.prior,
    )


def to_pixel_values(params: Params, images: CenteredImages) -> Params:
    """Internal units in pixel values."""
    return Params(
        images.offset + images.scale * params.template,
        images.offset + images.scale * params.background,
        images.scale * params.noise_scale,
        params.prior,
    )


def uniform_prior(image_shape: Shape, template_shape: Shape, dtype: Any) -> jax.Array:
    """A prior that favours no corner, (P, Q)."""
    rows, columns = positions_shape(image_shape, template_shape)
    return jnp.full((rows, columns), 1 / (rows * columns), dtype)


def as_params(params: Any, image_shape: Shape | None, dtype: Any = None) -> Params:
    """Params whose shapes agree with each other and the images, in the images' dtype.

    Without images (``image_shape=None``) the background gives the shape, and without ``dtype`` the background's own
    is taken.
    """
    if not all(hasattr(params, name) for name in Params._fields):
        raise ArgumentTypeError("params", f"must be a jaxem.Params, but is {type(params).__name__}.")
    template, background, noise_scale, prior = (
        as_real_array(f"params.{name}", getattr(params, name)) for name in Params._fields
    )
    if background.ndim != 2 or (image_shape is not None and background.shape != image_shape):
        expected = "(H, W)" if image_shape is None else f"{image_shape}, that of one image,"
        raise ArgumentValueError("params.background", f"must have shape {expected} but has shape {background.shape}.")
    if template.ndim != 2:
        raise ArgumentValueError("params.template", f"must have shape (h, w) but has shape {template.shape}.")
    template_shape = as_template_shape(template.shape, background.shape)
    expect_shape("params.noise_scale", noise_scale, (), "a scalar")
    expect_shape(
        "params.prior", prior, positions_shape(background.shape, template_shape), "(H-h+1, W-w+1), one entry a corner"
    )
    dtype = floating(background.dtype) if dtype is None else dtype
    return Params(*(leaf.astype(dtype) for leaf in (template, background, noise_scale, prior)))


def as_posterior(posterior: Any, images: jax.Array, template_shape: Shape) -> Posterior | Positions:
    """A posterior that fits the images; of it what the formulas use, probabilities or corners."""
    if isinstance(posterior, Posterior):
        return Posterior(_as_probs(posterior.probs, images, template_shape))
    if isinstance(posterior, Positions):
        return Positions(_as_corners(posterior.corners, images, template_shape))
    raise ArgumentTypeError(
        "posterior", f"must be a jaxem.Posterior or jaxem.Positions, but is {type(posterior).__name__}."
    )


def _as_probs(probs: Any, images: jax.Array, template_shape: Shape) -> jax.Array:
    probs = as_real_array("posterior.probs", probs)
    expected = (len(images), *positions_shape(images.shape[1:], template_shape))
    expect_shape("posterior.probs", probs, expected, "(K, H-h+1, W-w+1)")
    return probs.astype(images.dtype)


def _as_corners(corners: Any, images: jax.Array, template_shape: Shape) -> jax.Array:
    """(K, 2) int32, inside the image as far as can be seen before tracing."""
    corners = as_real_array("positions.corners", corners)
    if not jnp.issubdtype(corners.dtype, jnp.integer):
        raise ArgumentTypeError(
            "positions.corners", f"must be integers (row, column), but came with dtype {corners.dtype}."
        )
    expect_shape("positions.corners", corners, (len(images), 2), "(K, 2)")
    if not isinstance(corners, jax.core.Tracer):
        last = np.array(positions_shape(images.shape[1:], template_shape)) - 1
        outside = (np.asarray(corners) < 0) | (np.asarray(corners) > last)
        if outside.any():
            k = int(outside.any(axis=1).argmax())
            raise ArgumentValueError(
                "positions.corners",
                f"must lie between (0, 0) and {tuple(last.tolist())}, "
                f"but image {k} has {tuple(np.asarray(corners)[k].tolist())}.",
            )
    return corners.astype(jnp.int32)
