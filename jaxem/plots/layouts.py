"""Where the panels of a figure go, by the shape of the images, and titles that keep out of each other's way."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec

from jaxem.plots.panels import SLENDER

WIDTH, CELL, TITLE, CHART, AXIS = 12.5, 4.2, 0.75, 3.3, 0.6  # inches
COLUMNS = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3, 7: 3, 8: 3, 9: 3}  # of so many panels
MOST_ROUNDS = 8
MANY = 4  # pictures in a panel, beyond which it is larger


class Panel(NamedTuple):
    """A part of a figure.

    ======  =========================  ==================================================================
    field   type                       meaning
    ======  =========================  ==================================================================
    name    str                        what it is
    draw    of axes and a number       draws one of its pictures
    shape   (rows, columns) or None    of its pictures, pixels; None: a chart, which fits wherever it goes
    number  int                        how many pictures it has, all of one shape
    ======  =========================  ==================================================================
    """

    name: str
    draw: Callable[[Axes, int], Any]
    shape: tuple[int, int] | None = None
    number: int = 1


def figure_of(panels: Sequence[Panel], image_shape: tuple[int, int], title: str) -> Figure:
    """All panels in a figure that suits images of that shape."""
    rows, columns = image_shape
    arrange = _in_lines if min(rows, columns) == 1 else _in_rows if columns > SLENDER * rows else None
    arrange = _in_columns if arrange is None and rows > SLENDER * columns else arrange or _in_cells
    figure = Figure(layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.02, hspace=0.02)  # type: ignore[union-attr, call-arg]
    for panel, slot in zip(panels, arrange(figure, panels, image_shape), strict=True):
        grid = slot.subgridspec(*rows_and_columns(panel.number, panel.shape or (1, 1)))
        _, a_row = grid.get_geometry()
        for place in range(panel.number):
            axes = figure.add_subplot(grid[divmod(place, a_row)])
            panel.draw(axes, place)
            if panel.number > 1:  # there is little room
                axes.title.set_fontsize("small")
                axes.set_xlabel("")
                axes.set_ylabel("")
                if panel.shape is not None:
                    axes.set_xticks([])
                    axes.set_yticks([])
    figure.suptitle(title, fontsize="medium")
    keep_titles_apart(figure)
    figure.set_layout_engine("none")  # it is done: writing the figure need not do it again
    return figure


def rows_and_columns(count: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Of so many pictures of one shape, so that all together are about square."""
    columns = min(count, max(1, math.ceil(math.sqrt(count * shape[0] / shape[1]) - 0.3)))
    return math.ceil(count / columns), columns


def _in_cells(figure: Figure, panels: Sequence[Panel], image_shape: tuple[int, int]) -> list[SubplotSpec]:
    """Cells of one size, the last panel over what is left of its row."""
    columns = COLUMNS.get(len(panels), 4)
    rows = -(-len(panels) // columns)
    height = min(max(0.8 * CELL * image_shape[0] / image_shape[1], 2.4), 4.4) + TITLE
    scale = 1.5 if max(panel.number for panel in panels) > MANY else 1.0
    figure.set_size_inches(scale * columns * CELL, scale * rows * height + 0.3)
    return _filled(GridSpec(rows, columns, figure=figure), len(panels), 0)


def _in_lines(figure: Figure, panels: Sequence[Panel], _: tuple[int, int]) -> list[SubplotSpec]:
    """The first panel, which is the signal, over the whole width, then two a row."""
    rows = 1 + -(-(len(panels) - 1) // 2)
    figure.set_size_inches(WIDTH, 2.9 * rows + 0.3)
    grid = GridSpec(rows, 2, figure=figure)
    return [grid[0, :], *_filled(grid, len(panels) - 1, 1)]


def _in_rows(figure: Figure, panels: Sequence[Panel], image_shape: tuple[int, int]) -> list[SubplotSpec]:
    """Wide pictures one or two a row, below them the others side by side."""
    slender = [panel for panel in panels if _length(panel.shape) > SLENDER]
    others = [panel for panel in panels if panel not in slender]
    columns = 2 if image_shape[1] < 2.5 * SLENDER * image_shape[0] else 1
    rows = -(-len(slender) // columns)
    height = max(0.9 * WIDTH / columns * image_shape[0] / image_shape[1], 0.5) + TITLE
    heights = [height] * (rows - 1) + [height + AXIS] + [CHART] * bool(others)
    figure.set_size_inches(WIDTH, sum(heights) + 0.3)
    grid = GridSpec(len(heights), 1, figure=figure, height_ratios=heights)
    upper = _filled(grid[:rows, 0].subgridspec(rows, columns), len(slender), 0)
    shares = [1.0 if panel.shape else 1.5 for panel in others] or [1.0]
    lower = _filled(grid[-1, 0].subgridspec(1, len(shares), width_ratios=shares), len(others), 0)
    return _in_order(panels, slender, upper, others, lower)


def _in_columns(figure: Figure, panels: Sequence[Panel], image_shape: tuple[int, int]) -> list[SubplotSpec]:
    """Tall pictures side by side, the others in a column at their right."""
    slender = [panel for panel in panels if panel.shape is not None and _length(panel.shape[::-1]) > SLENDER]
    others = [panel for panel in panels if panel not in slender]
    height = max(2.7 * len(others), 7.5)
    width = max(height * image_shape[1] / image_shape[0], 0.7) + 1.4
    widths = [(width + AXIS * (panel.name == "prior")) * panel.number for panel in slender] + [1.25 * CELL] * bool(
        others
    )
    figure.set_size_inches(sum(widths), height)
    grid = GridSpec(1, len(widths), figure=figure, width_ratios=widths)
    left = [grid[0, place] for place in range(len(slender))]
    right = grid[0, -1].subgridspec(max(1, len(others)), 1)
    return _in_order(panels, slender, left, others, [right[place, 0] for place in range(len(others))])


def _length(shape: tuple[int, int] | None) -> float:
    """How many times wider than high."""
    return 0.0 if shape is None else shape[1] / shape[0]


def _filled(grid: Any, count: int, first_row: int) -> list[SubplotSpec]:
    """So many cells row by row, the last up to the end of its row."""
    _, columns = grid.get_geometry()
    places = [(first_row + place // columns, place % columns) for place in range(count)]
    return [grid[row, column] for row, column in places[:-1]] + [grid[row, column:] for row, column in places[-1:]]


def _in_order(
    panels: Sequence[Panel], some: list[Panel], places: list[Any], others: list[Panel], more: list[Any]
) -> list[SubplotSpec]:
    by_name = {panel.name: place for panel, place in zip([*some, *others], [*places, *more], strict=True)}
    return [by_name[panel.name] for panel in panels]


def keep_titles_apart(figure: Figure) -> None:
    """Break titles into lines until none of them runs into another panel, or out of the figure."""
    titles = {axes: axes.get_title() for axes in figure.axes if axes.get_title()}
    lengths = {axes: len(title) for axes, title in titles.items()}
    for _ in range(MOST_ROUNDS):
        figure.draw_without_rendering()
        boxes = {axes: axes.get_tightbbox() for axes in figure.axes}
        too_long = [axes for axes in titles if _is_in_the_way(axes, boxes, figure)]
        if not too_long:
            return
        for axes in too_long:
            longest = max(map(len, axes.get_title().splitlines()))
            lengths[axes] = max(8, int(0.8 * min(lengths[axes], longest)))
            lines = textwrap.wrap(titles[axes], lengths[axes], break_long_words=False)
            axes.set_title("\n".join(lines), fontsize=axes.title.get_fontsize())


def _is_in_the_way(axes: Axes, boxes: Mapping[Axes, Any], figure: Figure) -> bool:
    box = axes.title.get_window_extent()
    if box.x0 < figure.bbox.x0 or box.x1 > figure.bbox.x1:
        return True
    padded = box.padded(2)
    return any(padded.overlaps(other) for one, other in boxes.items() if one is not axes and other is not None)
