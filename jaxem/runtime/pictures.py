"""Who draws results: told from above, so that what is drawn need not know the folder of figures.

A result shows itself in a notebook, and lies below `plots`, which may import it and not the other way round. The
package itself says here who draws, when it is imported; nothing is drawn or imported before a notebook asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_drawers: list[Callable[[Any], Any]] = []


def draw_with(drawer: Callable[[Any], Any]) -> None:
    """Let results be drawn by a function from a result to a `matplotlib.figure.Figure`."""
    _drawers[:] = [drawer]


def figure_of(result: Any) -> Any:
    """The figure of a result.

    Raises:
        Exception: whatever keeps it from being drawn, above all an ImportError where matplotlib is not installed.
    """
    (drawer,) = _drawers
    return drawer(result)
