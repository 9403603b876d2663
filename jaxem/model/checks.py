"""Parameters and posteriors as they come from outside: one sentence for whatever does not fit."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.appearances import IDENTITY
from jaxem.model.params import Params, Positions, Posterior
from jaxem.ops.validation import as_real_array, expect_shape, floating, is_on_host
from jaxem.ops.windows import Shape, positions_shape
from jaxem.runtime.arguments import as_names, as_template_shape
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError


def as_fixed(fixed: Any) -> tuple[str, ...]:
    """Names of fields of `Params` that keep their values, checked."""
    names = as_names(fixed)
    if names is None or not all(name in Params._fields for name in names):
        raise ArgumentValueError("fixed", f"must be names of fields of jaxem.Params, but is {fixed!r}.")
    return names


def as_params(
    params: Any, image_shape: Shape | None, dtype: Any = None, transforms: tuple[str, ...] = IDENTITY
) -> Params:
    """Params whose shapes agree with each other and the images, in the images' dtype.

    Without images (``image_shape=None``) the background gives the shape, and without ``dtype`` the background's own
    is taken.
    """
    if not all(hasattr(params, name) for name in Params._fields):
        raise ArgumentTypeError("params", f"must be a jaxem.Params, but is {type(params).__name__}{_remedy(params)}.")
    fields: dict[str, Any] = {name: getattr(params, name) for name in Params._fields}
    arrays: Any = {
        name: None if value is None else as_real_array(f"params.{name}", value) for name, value in fields.items()
    }
    given = Params(**arrays)
    _expect_background(given.background, image_shape)
    template_shape = _expect_template(given.template, given.background, transforms)
    stacked = given.template.shape[: given.template.ndim - given.background.ndim]
    channels = given.background.shape[2:]
    if given.noise_scale.shape != () and given.noise_scale.shape != channels:
        expected = "()" if not channels else f"() or {channels}"
        meaning = "a scalar" if not channels else "one number, or one a channel"
        came = f"has shape {given.noise_scale.shape}."
        raise ArgumentValueError("params.noise_scale", f"must have shape {expected} ({meaning}), but {came}")
    _expect_prior(given.prior, stacked, given.background.shape[:2], template_shape, transforms)
    if given.absent is not None:
        expect_shape("params.absent", given.absent, (), "a scalar")
    if given.opacity is not None:
        _expect_opacity(given.opacity, stacked, template_shape)
    _expect_not_negative(given)
    dtype = floating(given.background.dtype) if dtype is None else dtype
    return jax.tree.map(lambda leaf: leaf.astype(dtype), given)


def _remedy(params: Any) -> str:
    """What else was meant, where that can be told."""
    if hasattr(params, "best"):
        return "; its parameters are in .best.params"
    if hasattr(params, "params"):
        return "; its parameters are in .params"
    if hasattr(params, "shape"):
        return "; images come before params"
    return "; a tuple of its fields is made one by jaxem.Params(*fields)" if isinstance(params, tuple) else ""


def _expect_not_negative(given: Params) -> None:
    """Raise where noise or probabilities are below zero, as far as can be seen without waiting for a device."""
    for name in ("noise_scale", "prior", "absent"):
        values = getattr(given, name)
        if values is not None and is_on_host(values) and np.any(np.asarray(values) < 0):
            meaning = "a standard deviation" if name == "noise_scale" else "probabilities"
            lowest = float(np.nanmin(np.asarray(values)))
            raise ArgumentValueError(f"params.{name}", f"must not be negative ({meaning}), but is {lowest:g}.")


def _expect_background(background: jax.Array, image_shape: Shape | None) -> None:
    fits = background.ndim in (2, 3) if image_shape is None else background.shape == image_shape
    if not fits or 0 in background.shape:
        expected = "(H, W) or (H, W, C)" if image_shape is None else f"{image_shape}, that of one image,"
        raise ArgumentValueError("params.background", f"must have shape {expected} but has shape {background.shape}.")


def _expect_template(template: jax.Array, background: jax.Array, transforms: tuple[str, ...]) -> Shape:
    """(h, w)."""
    channels = background.shape[2:]
    has_stack = template.ndim == background.ndim + 1
    if (template.ndim != background.ndim and not has_stack) or template.shape[
        template.ndim - len(channels) :
    ] != channels:
        one = "(h, w)" if not channels else f"(h, w, {channels[0]})"
        several = one.replace("(", "(M, ")
        raise ArgumentValueError(
            "params.template", f"must have shape {one} or, for M templates, {several}, but has shape {template.shape}."
        )
    shape = as_template_shape(template.shape[int(has_stack) :][:2], background.shape[:2])
    expect_turns(transforms, shape)
    return shape


def expect_turns(transforms: tuple[str, ...], template_shape: Shape) -> None:
    """Raise where a template that is not square is to make quarter turns."""
    if template_shape[0] != template_shape[1] and any("90" in name or "270" in name for name in transforms):
        raise ArgumentValueError(
            "transforms",
            f"hold quarter turns, which need a square template, but it is {template_shape}; choose a square one, such "
            f"as {(max(template_shape), max(template_shape))}.",
        )


def _expect_prior(
    prior: jax.Array, stacked: Shape, image_shape: Shape, template_shape: Shape, transforms: tuple[str, ...]
) -> None:
    leading = (*stacked, *((len(transforms),) if len(transforms) > 1 else ()))
    inside = positions_shape(image_shape, template_shape)
    fits = prior.ndim == len(leading) + 2 and prior.shape[:-2] == leading
    if not fits or any(size not in ends for size, *ends in zip(prior.shape[-2:], inside, image_shape, strict=True)):
        axes = "".join(name for name, there in (("M, ", stacked), ("G, ", len(transforms) > 1)) if there)
        raise ArgumentValueError(
            "params.prior",
            f"must have shape {(*leading, *inside)} (({axes}H-h+1, W-w+1), one entry a corner; H or W where windows go "
            f"round the edges), but has shape {prior.shape}.",
        )


def _expect_opacity(opacity: jax.Array, stacked: Shape, template_shape: Shape) -> None:
    if opacity.shape not in (template_shape, (*stacked, *template_shape)):
        raise ArgumentValueError(
            "params.opacity",
            f"must have shape {template_shape}, as the template without channels, but has shape {opacity.shape}.",
        )
    if not isinstance(opacity, jax.core.Tracer) and not np.isin(np.asarray(opacity), (0, 1)).all():
        raise ArgumentValueError(
            "params.opacity", "must be 0 or 1 everywhere; pixels in between are not supported yet."
        )


def expect_one_rectangle(params: Params) -> None:
    """Raise where parameters hold what pictures and tables of places do not know yet."""
    template, background, _, prior, absent, opacity = params
    inside = np.ndim(template) == np.ndim(background) == 2 and np.shape(prior) == positions_shape(
        np.shape(background), np.shape(template)
    )
    if not inside or absent is not None or opacity is not None:
        raise ArgumentValueError(
            "params",
            "hold more than one rectangular template inside grey images, which this does not know; e_step and fit do.",
        )


def as_posterior(posterior: Any, images: jax.Array, expected: PosteriorShape) -> Posterior | Positions:
    """A posterior that fits the images; of it what the formulas use, probabilities or what is said of each image."""
    if isinstance(posterior, Posterior):
        probs = as_real_array("posterior.probs", posterior.probs)
        shape = (len(images), *expected.prior)
        expect_shape("posterior.probs", probs, shape, expected.meaning)
        absent = _expect_absent("posterior.absent", posterior.absent, len(images), expected.has_absent)
        return Posterior(probs.astype(images.dtype), None, None if absent is None else absent.astype(images.dtype))
    if isinstance(posterior, Positions):
        corners = _as_corners(posterior.corners, images, expected.prior[-2:])
        template, transform = (
            _as_numbers(f"positions.{name}", getattr(posterior, name), len(images), count)
            for name, count in (("template", expected.num_templates), ("transform", expected.num_transforms))
        )
        present = _expect_absent("positions.present", posterior.present, len(images), expected.has_absent)
        return Positions(corners, None, template, transform, None if present is None else present.astype(bool))
    raise ArgumentTypeError(
        "posterior", f"must be a jaxem.Posterior or jaxem.Positions, but is {type(posterior).__name__}."
    )


class PosteriorShape(NamedTuple):
    """What a posterior must look like.

    ==============  ==================================================================
    field           meaning
    ==============  ==================================================================
    prior           shape of the prior, (P, Q) with what comes before
    num_templates   how many; None: one, without an axis of its own
    num_transforms  how many; None: one, without an axis of its own
    has_absent      whether an image may be without a template
    ==============  ==================================================================
    """

    prior: Shape
    num_templates: int | None = None
    num_transforms: int | None = None
    has_absent: bool = False

    @property
    def meaning(self) -> str:
        """The axes of the probabilities."""
        axes = "".join(name for name, there in (("M, ", self.num_templates), ("G, ", self.num_transforms)) if there)
        return f"(K, {axes}H-h+1, W-w+1)"


def _expect_absent(name: str, values: Any, num_images: int, needed: bool) -> Any:
    if (values is not None) != needed:
        problem = (
            "is missing: the parameters have `absent`" if needed else "must be None: the parameters have no `absent`"
        )
        raise ArgumentValueError(name, f"{problem}.")
    if values is not None:
        values = as_real_array(name, values)
        expect_shape(name, values, (num_images,), "(K,)")
    return values


def _as_numbers(name: str, numbers: Any, num_images: int, count: int | None) -> jax.Array | None:
    """(K,) int32, which of so many; None where there is one."""
    if (numbers is not None) != (count is not None):
        problem = "must be None: there is one" if count is None else f"is missing: there are {count}"
        raise ArgumentValueError(name, f"{problem}.")
    if numbers is None or count is None:
        return None
    numbers = as_real_array(name, numbers)
    if not jnp.issubdtype(numbers.dtype, jnp.integer):
        raise ArgumentTypeError(name, f"must be integers, but came with dtype {numbers.dtype}.")
    expect_shape(name, numbers, (num_images,), "(K,)")
    if not isinstance(numbers, jax.core.Tracer) and ((np.asarray(numbers) < 0) | (np.asarray(numbers) >= count)).any():
        raise ArgumentValueError(name, f"must lie between 0 and {count - 1}.")
    return numbers.astype(jnp.int32)


def _as_corners(corners: Any, images: jax.Array, positions: Shape) -> jax.Array:
    """(K, 2) int32, inside the image as far as can be seen before tracing."""
    corners = as_real_array("positions.corners", corners)
    if not jnp.issubdtype(corners.dtype, jnp.integer):
        raise ArgumentTypeError(
            "positions.corners", f"must be integers (row, column), but came with dtype {corners.dtype}."
        )
    expect_shape("positions.corners", corners, (len(images), 2), "(K, 2)")
    if not isinstance(corners, jax.core.Tracer):
        last = np.array(positions) - 1
        outside = (np.asarray(corners) < 0) | (np.asarray(corners) > last)
        if outside.any():
            k = int(outside.any(axis=1).argmax())
            raise ArgumentValueError(
                "positions.corners",
                f"must lie between (0, 0) and {tuple(last.tolist())}, "
                f"but image {k} has {tuple(np.asarray(corners)[k].tolist())}.",
            )
    return corners.astype(jnp.int32)
