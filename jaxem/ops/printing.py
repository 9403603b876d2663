"""How results print: by the shapes of their arrays and the values of their numbers, not by thousands of pixels.

Imports no JAX.
"""

from __future__ import annotations

import enum
import textwrap
from typing import Any

import numpy as np

LINE_LENGTH, MOST_LINES = 100, 5
KINDS = {"float": "f", "int": "i", "uint": "u", "bool": "bool", "complex": "c"}


def short_repr(result: Any) -> str:
    """A named tuple of arrays in one to five lines; what is None in it is left out.

    Arrays print as in f32[60,84], numbers as they are, results inside of results by their names alone where all of them
    would not fit. A result may say by `printed` what is to stand for its fields.
    """
    text = ""
    for depth in (2, 1, 0):
        lines = textwrap.wrap(_brief(result, depth), LINE_LENGTH, subsequent_indent="    ", break_on_hyphens=False)
        text = "\n".join(lines)
        if len(lines) <= MOST_LINES:
            break
    return text


def _brief(value: Any, depth: int) -> str:
    if hasattr(value, "_fields"):
        name = type(value).__name__
        if depth < 0:
            return f"{name}(...)"
        shown = value.printed() if hasattr(value, "printed") else value
        there = [(field, part) for field, part in zip(value._fields, shown, strict=True) if part is not None]
        return f"{name}({', '.join(f'{field}={_brief(part, depth - 1)}' for field, part in there)})"
    if isinstance(value, enum.Enum):
        return value.name
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        number = number_of(value)
        return _of_shape(value) if number is None else _brief(number, depth)
    return f"{value:.7g}" if isinstance(value, float) else repr(value)


def number_of(array: Any) -> Any:
    """The one number of an array; None where there are several, or none that is known: traced, or given away."""
    if np.ndim(array) or not hasattr(array, "__array__"):
        return None
    try:
        return np.asarray(array).item()
    except (TypeError, RuntimeError):
        return None


def _of_shape(array: Any) -> str:
    name = str(array.dtype)
    kind = name.rstrip("0123456789")
    return f"{KINDS.get(kind, kind)}{name[len(kind) :]}[{','.join(map(str, array.shape))}]"
