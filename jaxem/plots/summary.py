"""Pictures of what was found (extra ``app``); drawn without any global state of matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxem.model.checks import expect_one_rectangle
from jaxem.model.params import Params
from jaxem.solvers.result import Fit

DOTS_PER_INCH = 110  # at which the figure is made to be read
FOUND = "#d1495b"
WITH_FRAME: list[Any] = [["frame", "clean", "template"], ["background", "prior", "objective"]]
WITHOUT_FRAME: list[Any] = [["clean", "template", "background"], ["prior", "objective", "objective"]]


def summary_figure(frame: Any, corner: Any, params: Params, runs: Fit, best: int) -> Figure:
    """One frame beside everything that was recovered from all of them.

    Args:
        frame: (H, W), one of the images, or None where there is none to show.
        corner: (2,), where its template was found.
        params: what was found.
        runs: every restart, stacked, for their objectives.
        best: which of the runs the parameters come from.

    Returns:
        A figure of six panels: the noisy frame with the window found in it, the same frame without noise, the
        background, the template, the prior as a heat map, and the objective of every restart. Without a frame its
        panel is left out.

    Raises:
        IndexError: no such run.
    """
    expect_one_rectangle(params)
    template, background, _, prior = map(np.asarray, params[:4])
    corner = np.asarray(corner)
    height, width = template.shape
    clean = background.copy()
    clean[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = template
    grey = {"cmap": "gray", "vmin": clean.min(), "vmax": clean.max()}

    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplot_mosaic(WITHOUT_FRAME if frame is None else WITH_FRAME)
    if frame is not None:
        _picture(axes["frame"], np.asarray(frame), "one of the frames", cmap="gray")
    _picture(axes["clean"], clean, "a frame without noise" if frame is None else "the same without noise", **grey)
    for name in {"frame", "clean"} & set(axes):
        box = Rectangle((corner[1] - 0.5, corner[0] - 0.5), width, height, fill=False, edgecolor=FOUND, linewidth=1.5)
        axes[name].add_patch(box)
    _picture(axes["template"], template, f"template, {height} x {width}", **grey)
    _picture(axes["background"], background, "background", **grey)
    heat = _picture(axes["prior"], prior, "prior: probability of each corner", cmap="magma", vmin=0)
    figure.colorbar(heat, ax=axes["prior"], shrink=0.6)
    _objectives(axes["objective"], runs, best)
    return figure


def _picture(axis: Axes, pixels: np.ndarray, title: str, **style: Any) -> Any:
    axis.set_title(title)
    axis.set_axis_off()
    return axis.imshow(pixels, interpolation="nearest", **style)


def _objectives(axis: Axes, runs: Fit, best: int) -> None:
    """Each run's objective from its first iteration on; the start itself would flatten all that follows."""
    history, lengths = np.asarray(runs.history), np.asarray(runs.num_iterations)
    for run in [run for run in range(len(history)) if run != best] + [best]:
        style = {"color": FOUND, "zorder": 3, "label": "best"} if run == best else {"color": "0.6"}
        steps = np.arange(min(1, lengths[run]), lengths[run] + 1)
        axis.plot(steps, history[run][steps], linewidth=1.2, marker="o", markevery=[-1], markersize=4, **style)
    axis.set_title(f"objective of {len(history)} restart{'s' if len(history) > 1 else ''}")
    axis.set_xlabel("iteration")
    axis.set_ylabel("nats")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="lower right", frameon=False)
