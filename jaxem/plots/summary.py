"""Pictures of what was found (extra ``app``); drawn without any global state of matplotlib."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxem.model.appearances import IDENTITY
from jaxem.model.params import Params, Positions
from jaxem.model.predict import reconstruct
from jaxem.plots.pictures import Palette, as_picture
from jaxem.solvers.result import Fit

DOTS_PER_INCH = 110  # at which the figure is made to be read
FOUND = "#d1495b"
MOST_SHOWN = 12  # templates
WITH_FRAME = [["frame", "clean", "templates"], ["background", "priors", "objective"]]
WITHOUT_FRAME = [["clean", "templates", "background"], ["priors", "objective", "objective"]]


def summary_figure(
    frame: Any, position: Positions, params: Params, runs: Fit, best: int, transforms: tuple[str, ...] = IDENTITY
) -> Figure:
    """One frame beside everything that was recovered from all of them.

    Args:
        frame: (H, W) or (H, W, C), one of the images, or None where there is none to show.
        position: what was found there, as of one image.
        params: what was found.
        runs: every restart, stacked, for their objectives.
        best: which of the runs the parameters come from.
        transforms: that templates may be under, names.

    Returns:
        A figure of six panels: the noisy frame with the window found in it, the same frame without noise, the
        background, the templates with their shares of the prior, the prior of each as a heat map, and the objective of
        every restart. Without a frame its panel is left out.

    Raises:
        IndexError: no such run.
    """
    given: tuple[Any, Any] = jax.tree.map(np.asarray, (params, position))
    params, position = given
    clean = next(iter(reconstruct(position, params, transforms)))
    stack, supports, priors = _by_template(params)
    palette = Palette.of([clean, *(template[support > 0] for template, support in zip(stack, supports, strict=True))])

    figure = Figure(figsize=(12, 7), layout="constrained")
    slots = WITHOUT_FRAME if frame is None else WITH_FRAME
    whole = figure.subplot_mosaic(
        [["" if name in ("templates", "priors") else name for name in row] for row in slots], empty_sentinel=""
    )
    grid: Any = whole["background"].get_gridspec()
    shapes = {"templates": stack.shape[1:3], "priors": priors.shape[1:]}
    parts = {
        name: grid[row, column].subgridspec(*_rows_and_columns(min(len(stack), MOST_SHOWN), shapes[name]))
        for row, names in enumerate(slots)
        for column, name in enumerate(names)
        if name in ("templates", "priors")
    }
    where = _words(position, params, transforms)
    if frame is not None:
        frame = np.asarray(frame)
        _picture(whole["frame"], as_picture(frame, Palette.of([frame])), f"one of the frames{where}")
    title = "the same without noise" if frame is not None else f"a frame without noise{where}"
    _picture(whole["clean"], as_picture(clean, palette), title)
    for name in {"frame", "clean"} & set(whole):
        _outline(whole[name], position, params)
    alone = "" if params.absent is None else f", alone in {100 * float(params.absent):.3g} % of the frames"
    _picture(whole["background"], as_picture(np.asarray(params.background), palette), f"background{alone}")
    _templates(figure, parts["templates"], stack, supports, priors, palette)
    _priors(figure, parts["priors"], priors)
    _objectives(whole["objective"], runs, best)
    if len(transforms) > 1:
        figure.suptitle(_transform_shares(params, transforms), fontsize="medium")
    return figure


def _by_template(params: Params) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Templates (M, h, w[, C]), their supports (M, h, w), and priors over all their transforms (M, P, Q)."""
    stack = params.template if params.template.ndim > params.background.ndim else params.template[None]
    shape = stack.shape[:3]
    supports = np.broadcast_to(1.0 if params.opacity is None else params.opacity, shape)
    priors = np.asarray(params.prior).reshape(len(stack), -1, *params.prior.shape[-2:]).sum(axis=1)
    return np.asarray(stack), supports, priors


def _rows_and_columns(count: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """Of pictures of one shape, so that all together are about square."""
    columns = min(count, max(1, math.ceil(math.sqrt(count * shape[0] / shape[1]) - 0.3)))
    return math.ceil(count / columns), columns


def _words(position: Positions, params: Params, transforms: tuple[str, ...]) -> str:
    """What is said of the frame that is shown, beyond its corner."""
    if position.present is not None and not position.present[0]:
        return ": nothing there"
    parts = [] if position.template is None else [f"template {position.template[0]}"]
    parts += [] if position.transform is None else [transforms[position.transform[0]]]
    return f": {', '.join(parts)}" if parts else ""


def _outline(axis: Axes, position: Positions, params: Params) -> None:
    """The window, also where it goes on at the other side."""
    if position.present is not None and not position.present[0]:
        return
    (row, column), (height, width) = position.corners[0], _window(params)
    rows, columns = params.background.shape[:2]
    for down in (0, rows) if row + height > rows else (0,):
        for right in (0, columns) if column + width > columns else (0,):
            corner = (column - right - 0.5, row - down - 0.5)
            box = Rectangle(corner, width, height, fill=False, edgecolor=FOUND, linewidth=1.5)
            axis.add_patch(box)


def _window(params: Params) -> tuple[int, int]:
    has_templates = params.template.ndim > params.background.ndim
    height, width = params.template.shape[int(has_templates) :][:2]
    return height, width


def _templates(
    figure: Figure, grid: Any, stack: np.ndarray, supports: np.ndarray, priors: np.ndarray, palette: Palette
) -> None:
    height, width = stack.shape[1:3]
    hidden = len(stack) - MOST_SHOWN
    for number, axis in enumerate(_axes(figure, grid, len(stack))):
        share = 100 * float(priors[number].sum())
        title = f"template {number}: {share:.3g} %" if len(stack) > 1 else f"template, {height} x {width}"
        title += f", and {hidden} more" if hidden > 0 and number == MOST_SHOWN - 1 else ""
        _picture(axis, as_picture(stack[number], palette, supports[number] > 0), title, _size_for(stack))


def _priors(figure: Figure, grid: Any, priors: np.ndarray) -> None:
    """One colour scale for all."""
    axes = _axes(figure, grid, len(priors))
    for number, axis in enumerate(axes):
        title = f"corners of template {number}" if len(priors) > 1 else "prior: probability of each corner"
        heat = _picture(axis, priors[number], title, _size_for(priors), cmap="magma", vmin=0, vmax=float(priors.max()))
    figure.colorbar(heat, ax=axes, shrink=0.6)


def _size_for(pictures: np.ndarray) -> str:
    return "large" if len(pictures) == 1 else "small"


def _axes(figure: Figure, grid: Any, count: int) -> list[Axes]:
    places = itertools.islice(np.ndindex(grid.get_geometry()), min(count, MOST_SHOWN))
    return [figure.add_subplot(grid[place]) for place in places]


def _transform_shares(params: Params, transforms: tuple[str, ...]) -> str:
    shares = params.prior.reshape(-1, len(transforms), params.prior.shape[-2] * params.prior.shape[-1]).sum(axis=(0, 2))
    return "templates as found and turned: " + ", ".join(
        f"{name} {100 * share:.3g} %" for name, share in zip(transforms, shares, strict=True)
    )


def _picture(axis: Axes, pixels: np.ndarray, title: str, fontsize: str = "large", **style: Any) -> Any:
    axis.set_title(title, fontsize=fontsize)
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
