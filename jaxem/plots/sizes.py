"""Sizes of the template that were tried, as a picture (extra ``app``); drawn without any global state of matplotlib."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxem.assess.shape_choice import SURE_OF_SIZE, ShapeChoice, in_words

CHOSEN = "#d1495b"


def sizes_figure(choice: ShapeChoice) -> Figure:
    """How well each size explains the frames.

    Args:
        choice: what `jaxem.choose_shape` gave.

    Returns:
        A figure of two panels: the BIC of each size that was fitted above the lowest, by height and width, with the one
        chosen outlined; and the log likelihood of held-out frames of the best few, with two standard errors of their
        differences from it.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    heights, widths = choice.shapes.T
    above = np.where(np.isfinite(choice.bic), choice.bic - choice.bic[0], np.nan)
    shown = np.maximum(above, 1.0)
    highest = max(float(np.nanmax(shown)), 10.0)
    dots = left.scatter(widths, heights, c=shown, norm=LogNorm(1.0, highest), cmap="viridis_r", s=120, marker="s")
    left.scatter(widths[:1], heights[:1], s=200, marker="s", facecolors="none", edgecolors=CHOSEN, linewidths=2)
    left.set_xlim(choice.smallest[1] - 0.7, choice.largest[1] + 0.7)
    left.set_ylim(choice.smallest[0] - 0.7, choice.largest[0] + 0.7)
    left.set_aspect("equal", adjustable="box")
    left.set_title(f"BIC above that of {in_words(choice.shapes[0])}")
    left.set_xlabel("width")
    left.set_ylabel("height")
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(dots, ax=left)

    judged = np.flatnonzero(np.isfinite(choice.held_out))
    behind = choice.held_out[judged] - choice.held_out[0]
    errors = SURE_OF_SIZE * choice.held_out_error[judged]
    places = np.arange(len(judged))[::-1]
    right.errorbar(behind, places, xerr=errors, fmt="o", color="0.3", capsize=3)
    right.plot(behind[:1], places[:1], "o", color=CHOSEN, zorder=3)
    right.axvline(0, color="0.7", linewidth=1)
    right.set_yticks(places, [in_words(choice.shapes[place]) for place in judged])
    right.set_ylim(-0.6, len(judged) - 0.4)
    right.set_title(f"held-out frames: log likelihood above that of {in_words(choice.shapes[0])}, nats")
    right.title.set_fontsize("medium")
    return figure
