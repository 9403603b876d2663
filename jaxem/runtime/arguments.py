"""Arguments that are plain numbers, checked without JAX; arrays are checked in `ops.validation`."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError


def as_template_shape(template_shape: Any, image_shape: tuple[int, ...] | None = None) -> tuple[int, int]:
    """The template's (h, w) as two integers that fit in the image, if that is known."""
    try:
        height, width = (operator.index(size) for size in template_shape)
    except (TypeError, ValueError):
        square = isinstance(template_shape, int) and template_shape > 0
        remedy = f"; a square is ({template_shape}, {template_shape})" if square else ""
        problem = f"must be two integers (h, w), but is {template_shape!r}{remedy}."
        raise ArgumentTypeError("template_shape", problem) from None
    if height < 1 or width < 1:
        raise ArgumentValueError("template_shape", f"must be at least (1, 1), but is {(height, width)}.")
    if image_shape is not None and (height > image_shape[0] or width > image_shape[1]):
        raise ArgumentValueError(
            "template_shape",
            f"{(height, width)} is larger than the images {image_shape}; "
            f"choose h <= {image_shape[0]} and w <= {image_shape[1]}.",
        )
    return height, width


def as_names(names: Any) -> tuple[str, ...] | None:
    """One name, which stands for itself alone, or several; None where it is neither."""
    if isinstance(names, str):
        return (names,)
    try:
        several = tuple(names)
    except TypeError:
        return None
    return several if all(isinstance(name, str) for name in several) else None


def as_count(name: str, value: Any, *, at_least: int, at_most: int = 2**31 - 2) -> int:
    """A static whole number."""
    try:
        count = operator.index(value)
    except TypeError:
        raise ArgumentTypeError(name, f"must be a whole number known before tracing, but is {value!r}.") from None
    if count < at_least:
        raise ArgumentValueError(name, f"must be at least {at_least}, but is {count}.")
    if count > at_most:
        raise ArgumentValueError(name, f"must be at most {at_most}, but is {count}.")
    return count


def as_seed(seed: Any) -> int:
    """A number that `jax.random.key` tells from all others with 32 bits."""
    return as_count("seed", seed, at_least=0, at_most=2**32 - 1)


def as_fraction(name: str, value: Any) -> float:
    """A static number above 0, up to 1."""
    if not (isinstance(value, numbers.Real) and 0 < float(value) <= 1):
        raise ArgumentValueError(
            name, f"must be a number above 0 and at most 1, known before tracing, but is {value!r}."
        )
    return float(value)


def as_positive(name: str, value: Any) -> float:
    """A static number above 0."""
    if isinstance(value, bool) or not hasattr(value, "__float__") or not 0 < float(value) < math.inf:
        raise ArgumentValueError(name, f"must be a finite number above 0, but is {value!r}.")
    return float(value)
