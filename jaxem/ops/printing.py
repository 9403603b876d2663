"""How results print: by the shapes of their arrays and the values of their numbers, not by thousands of pixels.

In a line for programmers, in a few for everybody, and with a picture in notebooks. Imports no JAX.
"""

from __future__ import annotations

import base64
import enum
import html
import io
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxem.runtime.pictures import figure_of

LINE_LENGTH, MOST_LINES = 100, 5
DOTS_PER_INCH = 72  # of a figure in a notebook, which is stored with it
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


def summarized(result: Any, number: Any, lines: Callable[[Any], list[str]]) -> str:
    """A result in a few lines for everybody; like its repr where a number that it surely has is not known yet."""
    if number_of(number) is None:
        return short_repr(result)
    first, *others = lines(result)
    indented = [textwrap.fill(line, LINE_LENGTH, initial_indent="  ", subsequent_indent="    ") for line in others]
    return "\n".join([f"{type(result).__name__}: {first}", *indented])


def html_repr(result: Any, number: Callable[[], Any]) -> str | None:
    """Summary and picture for a notebook; without the picture where it cannot be drawn, None where nothing can be said.

    Never raises: a notebook would show the error in place of the result.

    Args:
        result: what to show.
        number: gives a number of it that is one and known where there is one result to draw.
    """
    try:
        text = f"<pre>{html.escape(result.summary())}</pre>"
        is_one = number_of(number()) is not None
    except Exception:
        return None
    if is_one:
        try:
            pixels = io.BytesIO()
            figure_of(result).savefig(pixels, format="png", dpi=DOTS_PER_INCH)
        except Exception:  # above all where matplotlib is not installed, or while tracing
            return text
        picture = base64.b64encode(pixels.getvalue()).decode()
        text += f'<img src="data:image/png;base64,{picture}" style="max-width: 100%" alt="the result as a figure">'
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
