"""Restarts on all cores of a CPU, in chunks that can be watched, saved and taken up again.

A batch that stays in one core's cache leaves nothing to share out inside it, so each core makes runs of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxem.model.frames import Frames
from jaxem.model.workspace import Workspace, make_workspace
from jaxem.ops.validation import as_images, as_key
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_count, as_template_shape
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.compilation import jit
from jaxem.runtime.executor import Executor
from jaxem.runtime.resources import available_cores
from jaxem.search.progress import Progress, Reporter
from jaxem.search.restarts import (
    DEFAULT_SEARCH,
    Restarts,
    as_num_restarts,
    keep_best,
    starting_points,
    steps_of_plain_runs,
)
from jaxem.search.stages import SearchProgress, SearchState, Stage, StagedSearch, Starts
from jaxem.search.strategy import Search, conclude, plan_stages
from jaxem.search.tasks import SearchTasks, run_plain
from jaxem.solvers.options import EMOptions, em_options
from jaxem.solvers.result import Fit

# Of so few, all passes that prepare them take less time than optimising them does.
FEW_PIXELS = 2**22


def fit_restarts_parallel(
    key: jax.Array,
    images: Any,
    template_shape: Shape,
    *,
    num_restarts: int | None = None,
    hard: bool = False,
    prior_smoothing: Any = 0.0,
    max_iterations: int = 50,
    tolerance: Any = 1e-3,
    batch_size: int | None = None,
    num_threads: int | None = None,
    search: Search | None = DEFAULT_SEARCH,
    callback: Callable[[Progress], None] | None = None,
    checkpointer: Checkpointer | None = None,
) -> Restarts:
    """`jaxem.fit_restarts` on all cores of a CPU, one start a core at a time; not to be traced.

    All runs share the images and their transforms. On a GPU, which one run keeps busy, they follow one another. Runs go
    on a fraction of a second at a time; in between they can be watched and saved, and that changes nothing in them.

    Args:
        key: random key.
        images: (K, H, W), pixel values; integers are promoted.
        template_shape: (h, w).
        num_restarts: as for `fit_restarts`.
        hard: as for `fit`.
        prior_smoothing: as for `fit`.
        max_iterations: as for `fit`.
        tolerance: as for `fit`.
        batch_size: as for `fit`.
        num_threads: runs at a time; by default as many as this process may use cores.
        search: as for `fit_restarts`.
        callback: called with the `Progress` of each run after each of its chunks, one call at a time, in the run's
            thread.
        checkpointer: what the same call has done before, and where to save what is done. On an interruption it holds
            all but the last chunks; write it then.

    Returns:
        `Restarts` of NumPy arrays: those of `fit_restarts`, whatever the number of cores.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.fit_restarts_parallel(jax.random.key(1), images, (2, 3))
        >>> found.runs.elbo.shape
        (2,)

    Source: ``docs/search.md``, *Restarts*.
    """
    pixels = jax.device_put(as_images(images))  # jnp.asarray would copy them twice
    template_shape = as_template_shape(template_shape, pixels.shape[1:])
    key, num_restarts = as_key(key), as_num_restarts(num_restarts, search)
    options = em_options(
        pixels,
        hard=hard,
        prior_smoothing=prior_smoothing,
        max_iterations=max_iterations,
        tolerance=tolerance,
        batch_size=batch_size,
    )
    if num_threads is None:
        num_threads = available_cores() if jax.default_backend() == "cpu" else 1
    executor = Executor(as_count("num_threads", num_threads, at_least=1), checkpointer or Checkpointer())
    reporter = Reporter(callback)
    prepare = _prepare_few if pixels.size < FEW_PIXELS else _prepare_many
    without_pixels, starts, stages, nothing = prepare(
        key, pixels, options, template_shape=template_shape, num_restarts=num_restarts, search=search
    )
    workspace = without_pixels._replace(images=without_pixels.images._replace(frames=Frames(pixels)))
    if stages is None or nothing is None:
        found = run_plain(executor, reporter, workspace, starts, options)
        return jax.device_get(_conclude_plain(workspace, found, options))
    staged = SearchTasks(executor, reporter, workspace, starts, stages, options, nothing)
    state = staged.run()
    fit = staged.run_hard(state) if hard else None
    return jax.device_get(_conclude_search(workspace, state, fit, options))


def _prepare(
    key: jax.Array,
    pixels: jax.Array,
    options: EMOptions,
    template_shape: Shape,
    num_restarts: int,
    search: Search | None,
) -> tuple[Workspace, Starts, Stage | None, SearchProgress | None]:
    """What all runs share, without the images: a compiled program would return a copy of them."""
    workspace = make_workspace(Frames(pixels), options.batch_size)
    starts = starting_points(key, num_restarts, workspace, template_shape, search)
    without_pixels = workspace._replace(images=workspace.images._replace(frames=Frames(pixels[:0])))
    if search is None:
        return without_pixels, starts, None, None
    stages = plan_stages(search, len(pixels), starts, options)
    staged = StagedSearch(workspace, starts, stages, options)
    return without_pixels, starts, stages, staged.begin(staged.nothing_found(), 0, len(stages.kind))


_PREPARE_STATIC = ("template_shape", "num_restarts", "search")
_prepare_many = jit(_prepare, static_argnames=_PREPARE_STATIC)
_prepare_few = jit(_prepare, static_argnames=_PREPARE_STATIC, is_small=True)


@partial(jit, is_small=True)
def _conclude_search(workspace: Workspace, state: SearchState, hard: Fit | None, options: EMOptions) -> Restarts:
    runs, num_steps = conclude(state, hard)
    return keep_best(workspace, runs, num_steps, options.prior_smoothing)


@partial(jit, is_small=True)
def _conclude_plain(workspace: Workspace, runs: Fit, options: EMOptions) -> Restarts:
    return keep_best(workspace, runs, steps_of_plain_runs(runs), options.prior_smoothing)
