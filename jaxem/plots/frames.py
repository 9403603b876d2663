"""Images, as they were observed and without their noise, and the window that was found in them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from jaxem.model.params import Positions
from jaxem.plots.contents import Contents, Result, contents_of
from jaxem.plots.lines import is_row, legend, line
from jaxem.plots.panels import ORANGE, axes_or_new, picture
from jaxem.plots.pictures import Palette

CUT = 0.005  # share of the pixels of a noisy frame that may be beyond black, and beyond white


def frame(
    image: Any,
    result: Result,
    position: int | Positions | None = None,
    *,
    axes: Axes | None = None,
    palette: Palette | None = None,
) -> Axes:
    """An image as it was observed, with the window that was found in it.

    Args:
        image: (H, W) or (H, W, C), pixel value; NaN where nothing was observed, which is left blank.
        result: what was found.
        position: of the window: the number of the image in the fit, or `Positions` of one; None: not drawn.
        axes: where to draw; by default in a figure of its own.
        palette: the pixel values that are black and white; by default all but the outermost of the image.

    Returns:
        The axes. An image of one row or one column is a thin line, and its window a span.

    Raises:
        ValueError, TypeError: no such result, or an image that is not of its size.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> jaxem.plots.frame(images[3], jaxem.fit(images, truth), 3).get_title()
        'frame 3 as observed'
    """
    contents, image = contents_of(result), np.asarray(image)
    axes, words = axes_or_new(axes), _named(position)
    if image.shape != contents.background.shape:
        expected = " x ".join(map(str, contents.background.shape))
        raise ValueError(f"image must be of the shape {expected}, but is of {' x '.join(map(str, image.shape))}.")
    where = contents.position(position) if isinstance(position, int | np.integer) else position
    if contents.is_line:
        line(axes, image, noisy=True, label="observed", row=is_row(image.shape))
    else:
        picture(axes, image, palette or Palette.of([image], cut=CUT))
    axes.set_title(f"{words} as observed{_of_window(where, contents)}")
    return _with_window(axes, where, contents)


def clean_frame(
    result: Result, position: int | Positions = 0, *, axes: Axes | None = None, palette: Palette | None = None
) -> Axes:
    """The background with the template in front where it was found: an image without its noise.

    Args:
        result: what was found.
        position: the number of an image in the fit, or `Positions` of one.
        axes: where to draw, for a line also over the same image as it was observed; by default in a figure of its own.
        palette: the pixel values that are black and white; by default those of template and background.

    Returns:
        The axes.

    Raises:
        ValueError, TypeError: no such result.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> jaxem.plots.clean_frame(jaxem.fit(images, truth), 3).get_title()
        'frame 3 without noise'
    """
    contents, axes = contents_of(result), axes_or_new(axes)
    where = position if isinstance(position, Positions) else contents.position(position)
    clean = contents.without_noise(where)
    if contents.is_line:
        line(axes, clean, label="without noise", row=is_row(clean.shape))
        legend(axes)
    else:
        picture(axes, clean, palette or contents.palette)
    axes.set_title(f"{_named(position)} without noise{_of_window(where, contents)}")
    return _with_window(axes, where, contents)


def _named(position: Any) -> str:
    return f"frame {int(position)}" if isinstance(position, int | np.integer) else "a frame"


def _is_absent(position: Positions) -> bool:
    return position.present is not None and not bool(position.present[0])


def _of_window(position: Positions | None, contents: Contents) -> str:
    """What is said of it beyond its corner."""
    if position is None:
        return ""
    if _is_absent(position):
        return ": no template in it"
    parts = [] if position.template is None else [f"template {int(position.template[0])}"]
    parts += [] if position.transform is None else [contents.transforms[int(position.transform[0])]]
    return f": {', '.join(parts)}" if parts else ""


def _with_window(axes: Axes, position: Positions | None, contents: Contents) -> Axes:
    """The window, also where it goes on at the other side."""
    if position is None or _is_absent(position):
        return axes
    position = jax.tree.map(np.asarray, position)
    (row, column), (height, width) = position.corners[0], contents.templates.shape[1:3]
    rows, columns = contents.background.shape[:2]
    is_along_row = is_row(contents.background.shape)
    for down in (0, rows) if row + height > rows else (0,):
        for right in (0, columns) if column + width > columns else (0,):
            left, top = column - right - 0.5, row - down - 0.5
            if contents.is_line:
                first, size = (left, width) if is_along_row else (top, height)
                end = (columns if is_along_row else rows) - 0.5
                ends = max(first, -0.5), min(first + size, end)
                axes.axvspan(*ends, color=ORANGE, alpha=0.25, linewidth=0, gid="window")
                continue
            box = Rectangle((left, top), width, height, fill=False, edgecolor=ORANGE, linewidth=1.5, gid="window")
            box.set_path_effects([patheffects.withStroke(linewidth=3, foreground="black")])
            axes.add_patch(box)
    return axes
