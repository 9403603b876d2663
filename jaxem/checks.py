"""What the public functions accept.

Every public function passes its arguments through here first, so that a wrong shape, dtype or option ends in one
sentence that names the argument, what came and what to do, at the call and while tracing. Wrong *values* of arrays
cannot be seen under ``jit``; the fits report those in their status.
"""

from __future__ import annotations

import numbers
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.windows import Shape, positions_shape


def as_images(images: Any) -> jax.Array:
    """The stack as floating point numbers; half precision and integers are promoted."""
    images = _as_real_array("images", images)
    if images.ndim != 3:
        remedy = " For a single image pass images[None]." if images.ndim == 2 else ""
        raise ValueError(f"images must have shape (K, H, W), images first, but have shape {images.shape}.{remedy}")
    if 0 in images.shape:
        raise ValueError(f"images must hold at least one image of at least one pixel, but have shape {images.shape}.")
    dtype = _floating(images.dtype)
    if images.dtype.itemsize < np.dtype(dtype).itemsize:  # promoted on the device, so that the host keeps no copy
        images = jnp.asarray(images)
    return images.astype(dtype, copy=False)


def as_template_shape(template_shape: Any, image_shape: Shape) -> tuple[int, int]:
    """The template's (h, w) as two integers that fit in the image."""
    try:
        height, width = (operator.index(size) for size in template_shape)
    except (TypeError, ValueError):
        raise TypeError(f"template_shape must be two integers (h, w), but is {template_shape!r}.") from None
    if height < 1 or width < 1:
        raise ValueError(f"template_shape must be at least (1, 1), but is {(height, width)}.")
    if height > image_shape[0] or width > image_shape[1]:
        raise ValueError(
            f"template_shape {(height, width)} is larger than the images {image_shape}; "
            f"choose h <= {image_shape[0]} and w <= {image_shape[1]}."
        )
    return height, width


def as_params(params: Any, image_shape: Shape | None, dtype: Any = None) -> Any:
    """Params whose shapes agree with each other and the images, in the images' dtype.

    Without images (``image_shape=None``) the background gives the shape, and without ``dtype`` the background's own
    is taken.
    """
    for name in ("template", "background", "noise_scale", "prior"):
        if not hasattr(params, name):
            raise TypeError(f"params must be a jaxem.Params, but is {type(params).__name__}.")
    template, background, noise_scale, prior = (
        _as_real_array(f"params.{name}", leaf) for name, leaf in zip(params._fields, params, strict=True)
    )
    if background.ndim != 2 or (image_shape is not None and background.shape != image_shape):
        expected = "(H, W)" if image_shape is None else f"{image_shape}, that of one image,"
        raise ValueError(f"params.background must have shape {expected} but has shape {background.shape}.")
    if template.ndim != 2:
        raise ValueError(f"params.template must have shape (h, w) but has shape {template.shape}.")
    template_shape = as_template_shape(template.shape, background.shape)
    _expect_shape("params.noise_scale", noise_scale, (), "a scalar")
    _expect_shape(
        "params.prior", prior, positions_shape(background.shape, template_shape), "(H-h+1, W-w+1), one entry a corner"
    )
    dtype = _floating(background.dtype) if dtype is None else dtype
    leaves = (leaf.astype(dtype) for leaf in (template, background, noise_scale, prior))
    return type(params)(*leaves)


def as_probs(probs: Any, images: jax.Array, template_shape: Shape) -> jax.Array:
    """A soft posterior's probabilities, (K, P, Q)."""
    probs = _as_real_array("posterior.probs", probs)
    expected = (len(images), *positions_shape(images.shape[1:], template_shape))
    _expect_shape("posterior.probs", probs, expected, "(K, H-h+1, W-w+1)")
    return probs.astype(images.dtype)


def as_corners(corners: Any, images: jax.Array, template_shape: Shape) -> jax.Array:
    """Hard positions' corners, (K, 2) int32, inside the image as far as can be seen before tracing."""
    corners = _as_real_array("positions.corners", corners)
    if not jnp.issubdtype(corners.dtype, jnp.integer):
        raise TypeError(f"positions.corners must be integers (row, column), but came with dtype {corners.dtype}.")
    _expect_shape("positions.corners", corners, (len(images), 2), "(K, 2)")
    if not isinstance(corners, jax.core.Tracer):
        last = np.array(positions_shape(images.shape[1:], template_shape)) - 1
        outside = (np.asarray(corners) < 0) | (np.asarray(corners) > last)
        if outside.any():
            k = int(outside.any(axis=1).argmax())
            raise ValueError(
                f"positions.corners must lie between (0, 0) and {tuple(last.tolist())}, "
                f"but image {k} has {tuple(np.asarray(corners)[k].tolist())}."
            )
    return corners.astype(jnp.int32)


def as_number(name: str, value: Any, dtype: Any, *, at_least: float | None = None) -> jax.Array:
    """A real scalar as a strongly typed array, so that a new value compiles nothing."""
    number = _as_real_array(name, value)
    _expect_shape(name, number, (), "a scalar")
    if at_least is not None and not isinstance(number, jax.core.Tracer):
        number = np.asarray(number)
        if not number >= at_least:
            raise ValueError(f"{name} must be at least {at_least:g}, but is {number}.")
        if number > jnp.finfo(dtype).max:
            raise ValueError(f"{name} must be finite in {jnp.dtype(dtype)}, but is {number}.")
    return number.astype(dtype)


def as_schedule(schedule: Any, dtype: Any) -> Any:
    """A schedule's two rows of real numbers, one entry a step."""
    rows = []
    for field, value in zip(schedule._fields, schedule, strict=True):
        name, row = f"schedule.{field}", _as_real_array(f"schedule.{field}", value)
        if row.ndim != 1 or row.shape != np.shape(schedule[0]):
            raise ValueError(f"{name} must have shape (n,), as many as the other has, but has shape {row.shape}.")
        if not isinstance(row, jax.core.Tracer):
            values = np.asarray(row)
            is_share = field == "inverse_temperature"
            right = (values > 0) & (values <= 1) if is_share else (values >= 0) & np.isfinite(values)
            if not right.all():
                expected = "above 0 and at most 1" if is_share else "finite and not below 0"
                raise ValueError(f"{name} must be {expected}, but holds {values[~right][0]}.")
        rows.append(row.astype(dtype))
    return type(schedule)(*rows)


def as_count(name: str, value: Any, *, at_least: int, at_most: int = 2**31 - 2) -> int:
    """A static whole number."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number known before tracing, but is {value!r}.") from None
    if count < at_least:
        raise ValueError(f"{name} must be at least {at_least}, but is {count}.")
    if count > at_most:
        raise ValueError(f"{name} must be at most {at_most}, but is {count}.")
    return count


def as_share(name: str, value: Any) -> float:
    """A static number above 0, up to 1."""
    if not (isinstance(value, numbers.Real) and 0 < float(value) <= 1):
        raise ValueError(f"{name} must be a number above 0 and at most 1, known before tracing, but is {value!r}.")
    return float(value)


def as_key(key: Any) -> jax.Array:
    """One random key, of the new style or the old."""
    is_key = isinstance(key, jax.Array) and (
        (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0)
        or (key.dtype == jnp.uint32 and key.ndim == 1)
    )
    if not is_key:
        came = f"an array of shape {key.shape} and dtype {key.dtype}" if hasattr(key, "shape") else repr(key)
        raise TypeError(f"key must be one random key such as jax.random.key(0), but is {came}.")
    return key


def _as_real_array(name: str, value: Any) -> Any:
    """A JAX array as it is, anything else as a NumPy array: checks and casts of those compile nothing."""
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise TypeError(f"{name} must be real numbers, but came with dtype {array.dtype}.")
    return array


def _floating(dtype: Any) -> Any:
    """The dtype to compute in: the given one if JAX computes in it here, else the default."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return jnp.result_type(float)
    return jax.dtypes.canonicalize_dtype(np.float64 if jnp.finfo(dtype).bits >= 64 else np.float32)


def _expect_shape(name: str, array: jax.Array, expected: tuple[int, ...], meaning: str) -> None:
    if array.shape != expected:
        raise ValueError(f"{name} must have shape {expected} ({meaning}), but has shape {array.shape}.")
