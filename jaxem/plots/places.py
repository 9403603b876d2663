"""Where templates are: how often at each corner, and how surely in each image."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jaxem.assess.remarks import of_counted
from jaxem.plots.contents import Result, contents_of
from jaxem.plots.panels import BLUE, SLENDER, axes_or_new, colour_bar

MOST_BLOCKS = 48  # a side: corners that few images choose would be specks


def prior(result: Result, number: int = 0, *, axes: Axes | None = None, bar: bool = True) -> Axes:
    """The probability of each corner of the window, of one template; where there are many corners, by blocks of them.

    Args:
        result: what was found.
        number: which of the templates.
        axes: where to draw; by default in a figure of its own.
        bar: whether to draw the colour scale beside it, which is the same for all templates.

    Returns:
        The axes; where corners differ in one coordinate alone, with a bar for each.

    Raises:
        ValueError, TypeError: no such result.
        IndexError: no such template.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> jaxem.plots.prior(jaxem.fit(images, truth)).get_title()
        "prior of the window's corner"
    """
    contents, axes = contents_of(result), axes_or_new(axes)
    rows, columns = contents.priors.shape[1:]
    block = math.ceil(max(rows, columns) / MOST_BLOCKS)
    by_block = [_sums(one, block) for one in contents.priors]
    label = "probability" if block == 1 else f"probability of {block} x {block} corners"
    highest = max(float(one.max()) for one in by_block) or 1.0
    if 1 in (rows, columns):
        label = label if block == 1 else f"probability of {block} corners"
        sums = by_block[number].ravel()
        axes.bar(block * np.arange(len(sums)) + (block - 1) / 2, sums, width=0.9 * block, color=BLUE)
        axes.set_xlim(-0.5, max(rows, columns) - 0.5)
        axes.set_ylim(0, 1.05 * highest)
        axes.set_xlabel("row of the corner, pixels" if columns == 1 < rows else "column of the corner, pixels")
        axes.set_ylabel(label)
    else:
        end_row, end_column = (block * size - 0.5 for size in by_block[number].shape)
        image = axes.imshow(
            by_block[number],
            extent=(-0.5, end_column, end_row, -0.5),
            interpolation="nearest",
            cmap="cividis",
            vmin=0,
            vmax=highest,
        )
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_xlabel("column of the corner, pixels")
        axes.set_ylabel("row, pixels")
        if bar:
            colour_bar(axes, image, label)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5 if SLENDER * rows > columns else 2))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5 if SLENDER * columns > rows else 2))
    axes.set_title(f"corner of template {number}" if len(by_block) > 1 else "prior of the window's corner")
    return axes


def confidence(result: Result, *, axes: Axes | None = None) -> Axes:
    """How surely the place in each image is right, the surest first; by what the other images say.

    Args:
        result: a `jaxem.Report`, which knows it.
        axes: where to draw; by default in a figure of its own.

    Returns:
        The axes. The area under the curve is the share of places that are right, if the model holds.

    Raises:
        ValueError, TypeError: no such result, or one without an assessment.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.fit_restarts(jax.random.key(1), images, (2, 3))
        >>> report = jaxem.Report(found, jaxem.assess_fit(images, found))
        >>> jaxem.plots.confidence(report).get_title()
        'about 100 of 100 places are right'
    """
    assessment = contents_of(result).assessment
    if assessment is None:
        raise ValueError("result does not know how sure its places are; give a jaxem.Report.")
    axes, located = axes_or_new(axes), assessment.located
    counted = np.isfinite(assessment.residuals.by_image)
    values = np.sort(of_counted(located, counted, np.asarray(located.confidence)))[::-1]
    count = len(values)
    edges = np.linspace(0, 100, count + 1)
    axes.stairs(values, edges, fill=True, color=BLUE, alpha=0.3)
    axes.stairs(values, edges, color=BLUE, linewidth=1.6)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 1.05)
    frames = "frames" if located.present is None else "frames with a template"
    axes.set_xlabel(f"{frames}, the surest first, %")
    axes.set_ylabel("probability that the place is right")
    axes.set_title(f"about {_right(values)} of {count} places are right" if count else "no frame shows a template")
    return axes


def _right(values: np.ndarray) -> str:
    """How many of them are expected to be right."""
    expected = float(values.sum())
    return f"{expected:.3g}" if expected < 10 else f"{expected:.0f}"


def _sums(probs: np.ndarray, block: int) -> np.ndarray:
    """Sums over blocks of corners, those at the end with what there is."""
    rows, columns = (-(-size // block) for size in probs.shape)
    wide = np.zeros((rows * block, columns * block))
    wide[: probs.shape[0], : probs.shape[1]] = probs
    return wide.reshape(rows, block, columns, block).sum(axis=(1, 3))
