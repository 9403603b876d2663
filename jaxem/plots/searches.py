"""How a search went: every start and every stage, and how far below the best each of them ended."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from jaxem.plots.contents import Contents, Result, contents_of
from jaxem.plots.panels import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, axes_or_new
from jaxem.runtime.text import plural
from jaxem.search.progress import STAGE_NAMES
from jaxem.search.stage_record import StageRecord
from jaxem.search.stages import StageKind

STYLES = {
    StageKind.ANNEAL: ("o", BLUE),
    StageKind.TRIAL: ("v", GREY),
    StageKind.REINITIALIZE: ("^", PURPLE),
    StageKind.SPLIT: ("D", GREEN),
    StageKind.RESEED: ("P", ORANGE),
    StageKind.RECENTRE: ("s", SKY),
    StageKind.CENTRE: ("<", VERMILLION),
    StageKind.REACH: (">", ORANGE),
    StageKind.CONVERGE: ("*", BLACK),
}
MOST_NUMBERED = 10  # starts that bear their numbers


class StagePoints(NamedTuple):
    """The stages of a search that did something, as they are drawn.

    =======  =======  =======================================================================
    field    shape    meaning, unit
    =======  =======  =======================================================================
    kind     (n,)     a `StageKind`
    number   (n,)     of the start or the crop, or which attempt
    steps    (n,)     E-steps of the whole search at its end
    below    (n,)     objective there below the highest of all, nats an image; NaN of a failure
    is_best  (n,)     whether it was the highest so far
    =======  =======  =======================================================================
    """

    kind: np.ndarray
    number: np.ndarray
    steps: np.ndarray
    below: np.ndarray
    is_best: np.ndarray


def search_progress(result: Result, *, axes: Axes | None = None) -> Axes:
    """Every stage of a search at its end, or every run of plain restarts all along.

    Args:
        result: what was found.
        axes: where to draw; by default in a figure of its own.

    Returns:
        The axes. Downwards is how far an objective is below the highest, in nats an image, on a scale that is linear up
        to one nat of all images together and logarithmic beyond; to the right are the E-steps, one start after the
        other, wherever they were made side by side. Of a search on a sample both are of the sample; the fit to all
        images that follows is not drawn.

    Raises:
        ValueError, TypeError: no such result.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.fit_restarts(jax.random.key(1), images, (2, 3), search=None, num_restarts=3)
        >>> jaxem.plots.search_progress(found).get_ylabel()
        'nats an image below the best'
    """
    contents, axes = contents_of(result), axes_or_new(axes)
    stages = contents.stages
    deepest = _draw_runs(axes, contents) if stages is None else _draw_stages(axes, contents, stages)
    one_nat = 1 / len(contents.searched.corners)
    axes.set_yscale("symlog", linthresh=one_nat)
    axes.set_ylim(1.8 * max(deepest, one_nat), -0.4 * one_nat)
    axes.yaxis.set_major_locator(FixedLocator(_ticks(one_nat, deepest)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda below, _: f"{below:g}"))
    axes.set_xlim(left=0)
    axes.margins(x=0.06)
    axes.set_xlabel("E-steps, all together")
    axes.set_ylabel("nats an image below the best")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def stage_points(result: Result) -> StagePoints:
    """What `search_progress` draws of the stages of a search.

    Raises:
        ValueError: there are none.
    """
    contents = contents_of(result)
    if contents.stages is None:
        raise ValueError("result holds no stages of a search.")
    return _points(contents.stages, len(contents.searched.corners))


def _points(record: StageRecord, num_images: int) -> StagePoints:
    did_something = record.num_steps > 0
    finite = np.where(np.isfinite(record.elbo), record.elbo, np.nan)
    below = (np.nanmax(finite) if np.isfinite(finite).any() else np.nan) - finite.astype(np.float64)
    points = (record.kind, record.number, np.cumsum(record.num_steps), below / num_images, record.is_best)
    kept: list[Any] = [np.asarray(part)[did_something] for part in points]
    return StagePoints(*kept)


def _draw_stages(axes: Axes, contents: Contents, record: StageRecord) -> float:
    """Returns what is farthest below the best."""
    best = contents.searched
    num_images = len(best.corners)
    points = _points(record, num_images)
    is_best = points.is_best & np.isfinite(points.below)
    axes.step(points.steps[is_best], points.below[is_best], where="post", color="0.75", linewidth=1, zorder=1)
    is_hard = float(record.elbo[-1]) != float(best.elbo)  # hard EM has an objective of its own
    if not is_hard:
        length = int(best.num_iterations) + 1
        path = (float(best.elbo) - np.asarray(best.history[:length], np.float64)) / num_images
        axes.plot(points.steps[-1] - np.arange(length)[::-1], path, color=BLACK, linewidth=1, zorder=1.5)
    for kind in StageKind:
        here = points.kind == kind
        if not here.any():
            continue
        marker, colour = STYLES[kind]
        faces = [colour if best_so_far else "white" for best_so_far in points.is_best[here]]
        name = STAGE_NAMES[kind] + (f" ({int(here.sum())})" if here.sum() > 1 else "")
        axes.scatter(
            points.steps[here], points.below[here], marker=marker, edgecolors=colour, facecolors=faces, label=name,
            s=90 if kind == StageKind.CONVERGE else 34, zorder=3,
        )  # fmt: skip
    starts = [place for place in np.flatnonzero(points.kind == StageKind.ANNEAL) if np.isfinite(points.below[place])]
    for place in starts if len(starts) <= MOST_NUMBERED else []:
        _say(axes, str(points.number[place] + 1), points.steps[place], points.below[place])
    count = int((record.kind == StageKind.ANNEAL).sum())
    before = " before hard EM" if is_hard else ""
    sample = f" on {num_images} of {contents.num_images} frames" if num_images < contents.num_images else ""
    axes.set_title(f"the search{sample}{before}: {plural(count, 'start')}, {plural(int(points.steps[-1]), 'E-step')}")
    _legend(axes, "filled: best so far")
    return float(np.nanmax(points.below, initial=0.0))


def _draw_runs(axes: Axes, contents: Contents) -> float:
    """Each run from its first iteration on, one after the other; returns what is farthest below the best."""
    runs = contents.runs
    count, winner = len(runs.elbo), int(np.argmax(np.where(np.isfinite(runs.elbo), runs.elbo, -np.inf)))
    offset, deepest = 0, 0.0
    for run in range(count):
        length = int(runs.num_iterations[run]) + 1
        below = (float(runs.elbo[winner]) - np.asarray(runs.history[run, :length], np.float64)) / contents.num_images
        steps = offset + int(runs.num_scheduled[run]) + 1 + np.arange(length)
        style = {"color": VERMILLION, "zorder": 3} if run == winner else {"color": BLUE, "zorder": 2}
        first_other = int(winner == 0)
        name = {winner: "best run", first_other: "other runs"}.get(run)
        axes.plot(steps, below, linewidth=1.2, marker="o", markevery=[-1], markersize=5, label=name, **style)  # type: ignore[arg-type]
        if np.isfinite(below[-1]) and 1 < count <= MOST_NUMBERED:
            _say(axes, str(run + 1), steps[-1], below[-1])
        offset, deepest = int(steps[-1]), max(deepest, float(np.nanmax(below, initial=0.0)))
    what = plural(count, "plain run") if count > 1 else "the run"
    axes.set_title(f"{what}: {plural(offset, 'E-step')}")
    if count > 1:
        _legend(axes, "")
    return deepest


def _ticks(one_nat: float, deepest: float) -> list[float]:
    """Powers of ten, few enough to be read, and zero."""
    first, last = math.ceil(math.log10(2 * one_nat)), math.floor(math.log10(max(deepest, one_nat)))
    return [0.0, *(10.0**power for power in range(first, last + 1, max(1, (last - first + 1) // 5)))]


def _say(axes: Axes, words: str, steps: float, below: float) -> None:
    axes.annotate(words, (steps, below), (5, 4), textcoords="offset points", fontsize="small")


def _legend(axes: Axes, title: str) -> None:
    axes.legend(
        title=title, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small",
        title_fontsize="small", handletextpad=0.2, borderaxespad=0.2,
    )  # fmt: skip
