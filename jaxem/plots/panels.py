"""What the panels of figures have in common: colours, hatching, colour bars, axes of their own.

The colours are those of Okabe and Ito (2008), *Color Universal Design*, which nobody confuses.
"""

from __future__ import annotations

import itertools
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from jaxem.plots.pictures import Palette, as_picture

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip
GREY = "#999999"
CHANNELS = {1: (BLACK,), 2: (ORANGE, BLUE), 3: (VERMILLION, GREEN, BLUE)}
UNSEEN: dict[str, Any] = {"facecolor": "#c8c8c8", "edgecolor": "#505050", "hatch": "////", "linewidth": 0}
BAR_SIZE, BAR_GAP = 0.04, 0.03  # of a colour bar, as shares of the picture's width, of a tall one's height
SLENDER = 3.0  # times longer than wide, from which a picture needs a layout of its own


def axes_or_new(axes: Axes | None) -> Axes:
    """The axes given, or those of a new figure, which is theirs: nothing of matplotlib's state is touched."""
    return Figure(layout="constrained").add_subplot() if axes is None else axes


def channel_colours(num_channels: int) -> tuple[str, ...]:
    """A colour for the line of each channel."""
    every = (BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE)
    return CHANNELS.get(num_channels) or tuple(itertools.islice(itertools.cycle(every), num_channels))


def picture(
    axes: Axes, pixels: np.ndarray, palette: Palette, seen: np.ndarray | None = None, *, bar: bool = True
) -> None:
    """Pixels as a picture; of those in grey with what black and white are."""
    shown = as_picture(pixels, palette, seen)
    axes.imshow(shown, interpolation="antialiased")
    _without_ticks(axes)
    if bar and (pixels.ndim == 2 or pixels.shape[2] in (1, 4) or pixels.shape[2] > 4):
        colour_bar(axes, ScalarMappable(Normalize(palette.low, palette.high), "gray"), "pixel value")


def heat(axes: Axes, values: np.ndarray, label: str | None, **style: Any) -> None:
    """Numbers (H, W) as colours, with a colour bar unless it has no label; NaN is left blank."""
    image = axes.imshow(values, interpolation="antialiased" if np.isfinite(values).all() else "nearest", **style)
    _without_ticks(axes)
    if label is not None:
        colour_bar(axes, image, label)


def colour_bar(axes: Axes, colours: ScalarMappable, label: str) -> None:
    """Beside a picture, and as high as it is."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    height_by_width = abs(high - low) / abs(right - left)
    slender = max(1.0, height_by_width)
    inset = axes.inset_axes((1 + BAR_GAP * slender, 0, BAR_SIZE * slender, 1))
    bar = axes.figure.colorbar(colours, cax=inset)
    if height_by_width * SLENDER < 1:  # upright, the words would be longer than the bar
        label = "\n".join(textwrap.wrap(label, 11))
        bar.set_label(label, fontsize="small", rotation=0, ha="left", va="center")
        inset.yaxis.set_major_locator(MaxNLocator(nbins=3))
    else:
        bar.set_label(label, fontsize="small")
    inset.tick_params(labelsize="small")
    bar.formatter.set_powerlimits((-3, 4))  # type: ignore[attr-defined]


def hatch(axes: Axes, mask: np.ndarray) -> None:
    """Cover the pixels of a picture that are in a mask (H, W): to the pixel, and whatever is below."""
    corners = []
    for row, pixels in enumerate(mask):
        top, bottom = row - 0.5, row + 0.5
        for left, right in runs_of(pixels):
            corners.append([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
    if corners:
        squares = Path.make_compound_path(*(Path(np.array(one), closed=True) for one in corners))
        axes.add_patch(PathPatch(squares, **UNSEEN, gid="unseen"))


def runs_of(mask: np.ndarray) -> list[tuple[float, float]]:
    """Edges of the runs of true entries of a mask (n,), half a pixel outside the first and the last of each."""
    steps = np.diff(np.concatenate([[0], np.asarray(mask, np.int8), [0]]))
    firsts, ends = (np.flatnonzero(steps == step) for step in (1, -1))
    return [(first - 0.5, end - 0.5) for first, end in zip(firsts, ends, strict=True)]


def _without_ticks(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
