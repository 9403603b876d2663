"""What public functions accept: one sentence for whatever does not fit.

Every public function passes its arguments through here first, so that a wrong shape, dtype or option ends in an
`ArgumentError` that says what was expected, what came and what to do, at the call and while tracing. Wrong *values* of
arrays cannot be seen under ``jit``; the fits report those in their status.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError


def as_images(images: Any, *, with_channels: bool = False) -> jax.Array:
    """The stack as floating point numbers; half precision and integers are promoted."""
    images = as_real_array("images", images)
    if images.ndim != 3 and not (with_channels and images.ndim == 4):
        remedy = " For a single image pass images[None]." if images.ndim == 2 else ""
        shapes = "(K, H, W) or, with channels, (K, H, W, C)" if with_channels else "(K, H, W)"
        raise ArgumentValueError(
            "images", f"must have shape {shapes}, images first, but have shape {images.shape}.{remedy}"
        )
    if 0 in images.shape:
        raise ArgumentValueError(
            "images", f"must hold at least one image of at least one pixel, but have shape {images.shape}."
        )
    dtype = floating(images.dtype)
    if images.dtype.itemsize < np.dtype(dtype).itemsize:  # promoted on the device, so that the host keeps no copy
        images = jnp.asarray(images)
    return images.astype(dtype, copy=False)


def as_weights(name: str, weights: Any, dtype: Any) -> jax.Array:
    """Numbers that are not negative, in the dtype of what they weigh."""
    weights = as_real_array(name, weights)
    with np.errstate(over="ignore"):
        weights = weights.astype(dtype)
    if weights.size and not isinstance(weights, jax.core.Tracer):
        smallest, largest = (np.asarray(end(weights)) for end in (jnp.min, jnp.max))
        if not (smallest >= 0 and np.isfinite(largest)):
            raise ArgumentValueError(name, "must be finite and not negative.")
    return weights


def as_number(name: str, value: Any, dtype: Any, *, at_least: float | None = None) -> jax.Array:
    """A real scalar as a strongly typed array, so that a new value compiles nothing."""
    number = as_real_array(name, value)
    expect_shape(name, number, (), "a scalar")
    if at_least is not None and not isinstance(number, jax.core.Tracer):
        number = np.asarray(number)
        if not number >= at_least:
            raise ArgumentValueError(name, f"must be at least {at_least:g}, but is {number}.")
        if number > jnp.finfo(dtype).max:
            raise ArgumentValueError(name, f"must be finite in {jnp.dtype(dtype)}, but is {number}.")
    return number.astype(dtype)


def as_key(key: Any) -> jax.Array:
    """One random key, of the new style or the old."""
    is_key = isinstance(key, jax.Array) and (
        (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0)
        or (key.dtype == jnp.uint32 and key.ndim == 1)
    )
    if not is_key:
        came = f"an array of shape {key.shape} and dtype {key.dtype}" if hasattr(key, "shape") else repr(key)
        raise ArgumentTypeError("key", f"must be one random key such as jax.random.key(0), but is {came}.")
    return key


def as_real_array(name: str, value: Any) -> Any:
    """A JAX array as it is, anything else as a NumPy array: checks and casts of those compile nothing."""
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ArgumentTypeError(name, f"must be real numbers, but came with dtype {array.dtype}.")
    return array


def floating(dtype: Any) -> Any:
    """The dtype to compute in: the given one if JAX computes in it here, else the default."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return jnp.result_type(float)
    return jax.dtypes.canonicalize_dtype(np.float64 if jnp.finfo(dtype).bits >= 64 else np.float32)


def expect_shape(name: str, array: jax.Array, expected: tuple[int, ...], meaning: str) -> None:
    """Raise where an array has another shape."""
    if array.shape != expected:
        raise ArgumentValueError(name, f"must have shape {expected} ({meaning}), but has shape {array.shape}.")
