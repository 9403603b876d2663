"""Images of one row or one column as lines: their pixels, standard errors, and the parts of them that matter."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jaxem.plots.panels import UNSEEN, channel_colours, runs_of

SURE = 1.96  # standard errors on either side that hold 95 %


def is_row(shape: tuple[int, ...]) -> bool:
    """Whether an image (H, W[, C]) that is a line lies along a row."""
    return shape[0] == 1


def along(pixels: np.ndarray) -> np.ndarray:
    """An image (1, W[, C]) or (H, 1[, C]) as (n, C)."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    return np.asarray(pixels, np.float64).reshape(-1, channels)


def line(
    axes: Axes,
    pixels: np.ndarray,
    *,
    errors: np.ndarray | None = None,
    noisy: bool = False,
    label: str | None = None,
    row: bool = True,
) -> None:
    """A line a channel, with a band of two standard errors where there are some.

    Args:
        axes: where to draw.
        pixels: (1, W) or (H, 1), with or without channels, pixel values.
        errors: standard errors of them, likewise.
        noisy: whether these are noisy pixels, which are drawn thin.
        label: what they are, for a legend.
        row: whether they are along a row.
    """
    values = along(pixels)
    places, (count, channels) = np.arange(len(values)), values.shape
    style = {"linewidth": 0.8, "alpha": 0.45} if noisy else {"linewidth": 1.8}
    for channel, colour in enumerate(channel_colours(channels)):
        words = [] if label is None else [label]
        words += [f"channel {channel}"] if channels > 1 else []
        marker = "o" if count == 1 else None
        shown, name = values[:, channel], ", ".join(words) or None
        axes.plot(places, shown, color=colour, marker=marker, label=name, **style)  # type: ignore[arg-type]
        if errors is not None:
            off = SURE * along(errors)[:, channel]
            axes.fill_between(places, shown - off, shown + off, color=colour, alpha=0.25, linewidth=0)
    axes.set_xlabel("column, pixels" if row else "row, pixels")
    axes.set_ylabel("pixel value")
    axes.set_xlim(-0.5, count - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))


def spans(axes: Axes, mask: np.ndarray) -> None:
    """Cover the parts of a line that are in a mask (n,)."""
    for left, right in runs_of(mask):
        axes.axvspan(left, right, **UNSEEN, gid="unseen")


def legend(axes: Axes) -> None:
    """What the lines are, where there are several."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        axes.legend(
            handles, labels, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small",
            borderaxespad=0.2,
        )  # fmt: skip
