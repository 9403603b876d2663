"""What public functions accept: one sentence for whatever does not fit.

Every public function passes its arguments through here first, so that a wrong shape, dtype or option ends in an
`ArgumentError` that says what was expected, what came and what to do, at the call and while tracing. Wrong *values* of
arrays are told outside of ``jit`` alone; inside they cannot be seen, and the fits report those in their status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxem.ops.sharding import Shards
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError
from jaxem.runtime.text import plural

IMAGES_PER_PASS = 32  # in passes over pixels that leave as many truth values behind


def as_images(images: Any, *, with_channels: bool = False, shards: Shards | None = None) -> jax.Array:
    """The stack as floating point numbers, shared out over devices if so asked; half and integers are promoted."""
    if hasattr(images, "_fields") or _is_key(images):
        came = type(images).__name__ if hasattr(images, "_fields") else "a random key"
        order = "images come before params" if hasattr(images, "_fields") else "a key comes before the images"
        raise ArgumentTypeError("images", f"must be an array of pixels, but is {came}: {order}.")
    images = as_real_array("images", images)
    if images.ndim != 3 and not (with_channels and images.ndim == 4):
        remedy = ""
        if images.ndim == 2:
            remedy = (
                " One image is a stack as images[None], though one alone does not tell what moves; rows of pixels "
                "(K, W) are images one pixel high as images[:, None, :]."
            )
        shapes = "(K, H, W) or, with channels, (K, H, W, C)" if with_channels else "(K, H, W)"
        raise ArgumentValueError(
            "images", f"must have shape {shapes}, images first, but have shape {images.shape}.{remedy}"
        )
    if 0 in images.shape:
        raise ArgumentValueError(
            "images", f"must hold at least one image of at least one pixel, but have shape {images.shape}."
        )
    if shards is not None:
        images = shards.place(images)
    dtype = floating(images.dtype)
    if images.dtype.itemsize < np.dtype(dtype).itemsize:  # promoted on the device, so that the host keeps no copy
        images = jnp.asarray(images)
    with np.errstate(over="ignore"):  # what does not fit is infinite, which `expect_finite` tells
        return images.astype(dtype, copy=False)


def expect_finite(images: Any, weights: Any, frame_weights: Any) -> None:
    """Raise where a pixel that counts is NaN or infinite, in one pass over the pixels where they are.

    Args:
        images: (K, H, W) or (K, H, W, C).
        weights: (K, H, W) or (H, W), where a pixel of weight zero may hold anything; or None.
        frame_weights: (K,), where all pixels of an image of weight zero may; or None.
    """
    if any(isinstance(array, jax.core.Tracer) for array in (images, weights, frame_weights)):
        return
    if not is_on_host(images):
        with jax.ensure_compile_time_eval():
            bad = np.asarray(_everywhere(count_bad_pixels, images)(images, weights, frame_weights))
    else:
        pixels = np.asarray(images)
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(pixels.sum()):  # NaN and infinity stay in a sum
                return
        weights, frame_weights = (None if one is None else np.asarray(one) for one in (weights, frame_weights))
        bad = np.concatenate(
            [
                count_bad_pixels(
                    pixels[some],
                    weights if weights is None or weights.ndim == 2 else weights[some],
                    None if frame_weights is None else frame_weights[some],
                )
                for some in (slice(first, first + IMAGES_PER_PASS) for first in range(0, len(pixels), IMAGES_PER_PASS))
            ]
        )
    count = int(bad.sum())
    if count > 0:
        finite = "jnp.isfinite(images)" + (".all(axis=-1)" if images.ndim == 4 else "")
        raise ArgumentValueError(
            "images",
            f"hold NaN or infinity in {plural(count, 'pixel')}, first in image {int(bad.argmax())}: give pixels that "
            f"are missing the weight zero, as weights={finite} does.",
        )


def _everywhere(function: Callable[..., Any], images: jax.Array) -> Callable[..., Any]:
    """A compiled function of images whose result each process has, also where others hold some of the images."""
    if images.is_fully_addressable:
        return jax.jit(function)
    return jax.jit(function, out_shardings=NamedSharding(cast(NamedSharding, images.sharding).mesh, PartitionSpec()))


def count_bad_pixels(pixels: Any, weights: Any, frame_weights: Any) -> Any:
    """How many pixels of each image count and are not finite, (K,)."""
    numpy: Any = np if isinstance(pixels, np.ndarray) else jnp
    bad = ~numpy.isfinite(pixels)
    bad = bad.any(axis=-1) if bad.ndim == 4 else bad
    if weights is not None:
        bad = bad & (weights.reshape(-1, *weights.shape[-2:]) > 0)
    count = bad.sum(axis=(1, 2))
    return count if frame_weights is None else numpy.where(frame_weights > 0, count, 0)


def is_on_host(array: Any) -> bool:
    """Whether NumPy can look at an array where it is, without a copy or a wait for a device."""
    if isinstance(array, jax.core.Tracer):
        return False
    return not isinstance(array, jax.Array) or _is_host_memory(array)


def _is_host_memory(array: jax.Array) -> bool:
    return array.is_fully_addressable and [device.platform for device in array.devices()] == ["cpu"]


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
    if not isinstance(number, jax.core.Tracer):
        number = np.asarray(number)
        if at_least is not None and not number >= at_least:
            raise ArgumentValueError(name, f"must be at least {at_least:g}, but is {number}.")
        if np.isnan(number):
            raise ArgumentValueError(name, "must be a number, but is NaN.")
        if at_least is not None and number > jnp.finfo(dtype).max:
            raise ArgumentValueError(name, f"must be finite in {jnp.dtype(dtype)}, but is {number}.")
    return number.astype(dtype)


def as_key(key: Any) -> jax.Array:
    """One random key of the new style, whichever it was, so that both share a compiled program."""
    is_typed = _is_key(key)
    if is_typed and key.ndim == 0:
        return key
    if isinstance(key, jax.Array) and key.dtype == jnp.uint32 and key.ndim == 1:
        try:
            return jax.random.wrap_key_data(key)
        except (TypeError, ValueError):  # of another length than the keys of the generator in use
            pass
    came = repr(key)
    if hasattr(key, "shape"):
        came = f"an array of shape {key.shape} and dtype {key.dtype}"
        came += ": a key comes before the images" if not is_typed and len(key.shape) > 2 else ""
    raise ArgumentTypeError("key", f"must be one random key such as jax.random.key(0), but is {came}.")


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def as_real_array(name: str, value: Any) -> Any:
    """A JAX array as it is, anything else as a NumPy array: checks and casts of those compile nothing."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        remedy = f"{name}.filled(0) with weights=~{name}.mask" if name == "images" else "an array without a mask"
        raise ArgumentTypeError(name, f"must not be masked, since the mask would be lost: give {remedy}.")
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError:
        raise ArgumentTypeError(
            name, f"must be one array, but a {type(value).__name__} came whose parts have different shapes."
        ) from None
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
