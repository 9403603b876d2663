"""`jaxem.stream.fit_restarts`: a search on a random sample of the frames, and a fit of all of them from there.

Source: ``docs/stream.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.appearances import IDENTITY
from jaxem.model.workspace import Workspace
from jaxem.ops.trees import entry
from jaxem.ops.validation import as_key
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_count, as_template_shape
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.compilation import jit
from jaxem.runtime.processes import from_first, together
from jaxem.search.arguments import as_task
from jaxem.search.choosing import best_run
from jaxem.search.parallel import fit_restarts_parallel
from jaxem.search.progress import Progress
from jaxem.search.restarts import DEFAULT_SEARCH, Restarts, keep_fit_to_all
from jaxem.search.strategy import Search, release_of_prior
from jaxem.search.structure import Structure
from jaxem.search.subsampling import (
    AUTO,
    LEAST_RATIO_AGAIN,
    as_sample,
    draw_numbers,
    options_on_all,
    start_on_all,
    sufficient_size,
    usual_size,
)
from jaxem.solvers.options import EMOptions
from jaxem.solvers.result import Fit
from jaxem.solvers.schedule import as_schedule
from jaxem.stream.out_of_core import fit_from, streamed_options
from jaxem.stream.passes import as_devices
from jaxem.stream.sources import FrameStream, as_stream, read_sample

MOST_PIXELS_AT_ONCE = 2**29  # of more a sample is searched even if it is nearly all of them
TIMES_IN_MEMORY = LEAST_RATIO_AGAIN * 2  # so many times the frames that are searched, of which a sample can be doubled
FRAMES_BETWEEN = 8  # read for nothing rather than to begin anew


def fit_restarts(
    key: jax.Array,
    source: Any,
    template_shape: Shape,
    *,
    sample: int | str | None = AUTO,
    largest_sample: int | None = None,
    num_restarts: int | None = None,
    hard: bool = False,
    prior_smoothing: Any = 0.0,
    max_iterations: int = 50,
    tolerance: Any = 1e-3,
    batch_size: int | None = None,
    num_threads: int | None = None,
    search: Search | None = DEFAULT_SEARCH,
    callback: Callable[[Progress], None] | None = None,
    progress: bool = False,
    checkpointer: Checkpointer | None = None,
    num_templates: int = 1,
    absent: bool = False,
    support: Any = None,
    boundary: str = "inside",
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = IDENTITY,
    fixed: Mapping[str, Any] | None = None,
    init: Any = None,
    devices: Any = None,
) -> Restarts:
    """`jaxem.fit_restarts` of frames that are read from a source: a search on a sample in memory, then a fit of all.

    Args:
        key: random key; it draws the sample, too.
        source: the frames, as for `jaxem.stream.fit`.
        template_shape: (h, w).
        sample: how many frames are searched, drawn at random; "auto" for as many as a search needs, and twice as many
            where what was found hardly stands out of noise; None for all.
        largest_sample: at most so many are in memory; by default what half a billion pixels are. What was found in a
            sample is fitted to four times as many frames first, if those are no more.
        num_restarts: as for `jaxem.fit_restarts_parallel`, like all up to `init`.
        hard: hard EM.
        prior_smoothing: pseudo-counts.
        max_iterations: of the sample, and then of all frames.
        tolerance: nats per image.
        batch_size: frames worked on at a time.
        num_threads: runs at a time.
        search: how to look for the highest local maximum.
        callback: called with the `Progress` of each run, and then of the fit of all frames.
        progress: whether to show a bar.
        checkpointer: what the same call has done before, and where to save what is done.
        num_templates: M.
        absent: whether a frame may show no template.
        support: where in its rectangle the template is.
        boundary: how windows meet the edges.
        weights: of the pixels, as for `jaxem.stream.fit`.
        frame_weights: (K,); frames of weight zero are not drawn.
        transforms: that a template may be under.
        fixed: what is known, with its values.
        init: a picture of the template to start from.
        devices: as for `jaxem.stream.fit`.

    Returns:
        `Restarts`: `best` is the fit of all frames; `runs`, `stages`, and of the diagnostics how the runs compare, are
        those of the sample.

    Raises:
        ValueError, TypeError: as `jaxem.fit_restarts_parallel` and `jaxem.stream.fit`.
        Exception: whatever the source raises, with a note that names the frames.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 300)
        >>> found = jaxem.stream.fit_restarts(jax.random.key(1), np.asarray(images), (2, 3), sample=100)
        >>> found.best.corners.shape, found.runs.corners.shape
        ((300, 2), (2, 100, 2))

    Source: ``docs/stream.md``.
    """
    key, stream, devices = as_key(key), as_stream(source, weights, frame_weights), as_devices(devices)
    num_templates = as_count("num_templates", num_templates, at_least=1)
    template_shape = as_template_shape(template_shape, stream.image_shape)
    times = 1 if search is None else TIMES_IN_MEMORY
    size = _as_size(sample, largest_sample, times, stream, template_shape, num_templates, absent)
    how: Any = {
        "hard": hard,
        "prior_smoothing": prior_smoothing,
        "max_iterations": max_iterations,
        "tolerance": tolerance,
        "batch_size": batch_size,
    }
    watching: Any = {"callback": callback, "progress": progress, "checkpointer": checkpointer or Checkpointer()}
    numbers = np.asarray(draw_numbers(key, stream.num_images, stream.frame_weights, size.in_memory))
    with together():
        frames = read_sample(stream, numbers, FRAMES_BETWEEN)
        what: Any = {
            "num_templates": num_templates,
            "absent": absent,
            "support": support,
            "boundary": boundary,
            "weights": frames.shared_weights if frames.weights is None else frames.weights,
            "frame_weights": frames.frame_weights,
            "transforms": transforms,
            "fixed": fixed,
            "init": init,
        }
        found = fit_restarts_parallel(
            key,
            frames.pixels,
            template_shape,
            num_restarts=num_restarts,
            num_threads=num_threads,
            search=search,
            sample=size.searched,
            **how,
            **what,
            **watching,
        )
    found = from_first(found)
    if len(numbers) == stream.num_images:
        return found
    _, structure, options = as_task(frames.pixels, template_shape, **how, **what)
    del frames
    start = from_first(entry(start_on_all(found.best.params, structure).params, 0))
    schedule = as_schedule(release_of_prior(), stream.dtype)
    options = options_on_all(streamed_options(options, stream, batch_size))
    best, workspace = fit_from(
        stream,
        start,
        options,
        schedule,
        devices=devices,
        **watching,
        start=int(best_run(found.runs)),
    )
    if found.sample is not None:
        numbers = numbers[np.asarray(found.sample)]
    return _kept(found, numbers, best, workspace, stream, structure, options)


class _Size(NamedTuple):
    """How many frames are searched, as `fit_restarts_parallel` takes it, and how many are in memory."""

    searched: int | str | None
    in_memory: int


def _as_size(
    sample: Any, largest: Any, times: int, stream: FrameStream, template_shape: Shape, num_templates: int, absent: bool
) -> _Size:
    """What is found in a sample is fitted to several times as many frames first, which tell whether to search more of
    them, and whether the template is off by a pixel.
    """
    sample, num_images, frame_weights = as_sample(sample), stream.num_images, stream.frame_weights
    if largest is None:
        largest = max(1, MOST_PIXELS_AT_ONCE // math.prod(stream.source.shape[1:]))
    largest = as_count("largest_sample", largest, at_least=1)
    counted = num_images if frame_weights is None else int(np.count_nonzero(frame_weights))
    if sample is None:
        return _Size(None, num_images)
    if isinstance(sample, int):
        return _Size(sample, min(max(sample, min(times * sample, largest)), counted))
    what = template_shape, math.prod(stream.source.shape[3:]), num_templates, absent
    size = usual_size(counted, *what)
    if size is None and num_images <= largest:
        return _Size(AUTO, num_images)
    return _Size(AUTO, min(times * sufficient_size(*what), largest, counted))


def _kept(
    found: Restarts,
    numbers: np.ndarray,
    best: Fit,
    workspace: Workspace,
    stream: FrameStream,
    structure: Structure,
    options: EMOptions,
) -> Restarts:
    """What was found in the sample, with the fit of all frames in place of its best; how runs compare, it tells."""
    if found.diagnostics.num_sample_steps is not None:  # of the sample, and of the frames in memory
        num_steps = found.diagnostics.num_sample_steps + found.diagnostics.num_steps
        found = found._replace(diagnostics=found.diagnostics._replace(num_steps=num_steps, num_sample_steps=None))
    counts: Any = stream.frame_weights
    frames = workspace.images.frames._replace(frame_weights=counts)
    workspace = workspace._replace(images=workspace.images._replace(frames=frames))
    kept: Restarts = jax.device_get(_keep(workspace, found, jnp.asarray(numbers, jnp.int32), best, structure, options))
    return kept


@partial(jit, is_small=True)
def _keep(
    workspace: Workspace, found: Restarts, numbers: jax.Array, best: Fit, structure: Structure, options: EMOptions
) -> Restarts:
    # Before a hard run the soft steps end with an evaluation of their own.
    num_steps = best.num_scheduled + best.num_iterations + (2 if options.hard else 1)
    return keep_fit_to_all(workspace, found, numbers, best, num_steps, structure, options)
