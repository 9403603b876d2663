"""Restarts on all cores of a CPU, in chunks that can be watched, saved and taken up again.

A batch that stays in one core's cache leaves nothing to share out inside it, so each core makes runs of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from jaxem.model.appearances import IDENTITY
from jaxem.model.frames import Frames
from jaxem.model.params import Params
from jaxem.model.workspace import Workspace, make_workspace
from jaxem.ops.trees import entry
from jaxem.ops.validation import as_key
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_count
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.compilation import jit
from jaxem.runtime.executor import Executor
from jaxem.runtime.resources import available_cores
from jaxem.search.arguments import as_num_restarts, as_task
from jaxem.search.choosing import best_run
from jaxem.search.progress import Progress, Reporter
from jaxem.search.progress_bar import watched
from jaxem.search.restarts import (
    DEFAULT_SEARCH,
    Restarts,
    keep_best,
    keep_fit_to_all,
    steps_of_plain_runs,
)
from jaxem.search.stages import SearchProgress, SearchState, Stage, StagedSearch, Starts
from jaxem.search.starting import starting_points
from jaxem.search.strategy import Search, conclude, plan_fit_to_all, plan_stages
from jaxem.search.structure import Structure
from jaxem.search.subsampling import (
    AUTO,
    draw_sample,
    larger_sample,
    options_on_all,
    sample_size,
    stands_out,
    start_on_all,
)
from jaxem.search.tasks import SearchTasks, run_plain
from jaxem.solvers.options import EMOptions
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
    sample: int | str | None = AUTO,
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
        sample: as for `fit_restarts`; by default it is doubled, as often as it takes, where what is found on it does
            not stand out of noise.
        callback: called with the `Progress` of each run after each of its chunks, one call at a time, in the run's
            thread.
        progress: whether to show a bar, in a terminal or a notebook; by tqdm or rich where one is installed.
        checkpointer: what the same call has done before, and where to save what is done. On an interruption it holds
            all but the last chunks; write it then.
        num_templates: as for `fit_restarts`, like all that follow.
        absent: whether an image may show no template.
        support: where in its rectangle the template is.
        boundary: how windows meet the edges.
        weights: of the pixels.
        frame_weights: of the images.
        transforms: that a template may be under.
        fixed: what is known.
        init: a picture of the template to start from.

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
    key, num_restarts = as_key(key), as_num_restarts(num_restarts, search)
    frames, structure, options = as_task(
        images,
        template_shape,
        hard=hard,
        prior_smoothing=prior_smoothing,
        max_iterations=max_iterations,
        tolerance=tolerance,
        batch_size=batch_size,
        num_templates=num_templates,
        absent=absent,
        support=support,
        boundary=boundary,
        weights=weights,
        frame_weights=frame_weights,
        transforms=transforms,
        fixed=fixed,
        init=init,
    )
    size = sample_size(sample, frames, structure)
    frames = jax.device_put(frames)  # jnp.asarray would copy them twice
    if num_threads is None:
        num_threads = available_cores() if jax.default_backend() == "cpu" else 1
    executor = Executor(as_count("num_threads", num_threads, at_least=1), checkpointer or Checkpointer())
    with watched(callback, progress) as told:
        work = _Work(executor, Reporter(told), structure, options, num_restarts)
        if search is None:
            return work.run_plain(key, frames)
        while size is not None:
            some, numbers = _draw(key, frames, size=size)
            found = work.search(key, some, search, prefix=f"{size} ")
            if sample != AUTO or stands_out(found.diagnostics.contrast, found.best.params, size):
                work = replace(work, options=options_on_all(options))
                return work.fit_all(frames, found, numbers, search)
            size = larger_sample(size, frames)
        return work.search(key, frames, search)


@dataclass(frozen=True)
class _Work:
    """What all searches of one call share."""

    executor: Executor
    reporter: Reporter
    structure: Structure
    options: EMOptions
    num_restarts: int

    def run_plain(self, key: jax.Array, frames: Frames) -> Restarts:
        """A run from every start."""
        workspace, starts, _, _ = self._prepare(key, frames, None)
        found = run_plain(self.executor, self.reporter, workspace, starts, self.options)
        return jax.device_get(_conclude_plain(workspace, found, self.structure, self.options))

    def search(self, key: jax.Array, frames: Frames, search: Search, prefix: str = "") -> Restarts:
        """A search of these frames; the names of its tasks begin with the prefix."""
        workspace, starts, stages, nothing = self._prepare(key, frames, search)
        state, fit = self._run(workspace, starts, stages, nothing, prefix)
        return jax.device_get(_conclude_search(workspace, state, fit, self.structure, self.options))

    def fit_all(self, frames: Frames, found: Restarts, numbers: jax.Array, search: Search) -> Restarts:
        """What was found in some of the frames, fitted to all."""
        prepare = _prepare_few_all if frames.pixels.size < FEW_PIXELS else _prepare_many_all
        without_pixels, starts, stages, nothing = prepare(
            frames, found.best.params, self.structure, self.options, search=search
        )
        workspace = _with_frames(without_pixels, frames)
        state, fit = self._run(workspace, starts, stages, nothing, "all ", int(best_run(found.runs)))
        return jax.device_get(_conclude_all(workspace, found, numbers, state, fit, self.structure, self.options))

    def _run(
        self,
        workspace: Workspace,
        starts: Starts,
        stages: Stage | None,
        nothing: SearchProgress | None,
        prefix: str,
        after_sample: int | None = None,
    ) -> tuple[SearchState, Fit | None]:
        assert stages is not None
        assert nothing is not None
        tasks = SearchTasks(
            self.executor, self.reporter, workspace, starts, stages, self.options, nothing, prefix, after_sample
        )
        state = tasks.run()
        return state, tasks.run_hard(state) if self.options.hard else None

    def _prepare(
        self, key: jax.Array, frames: Frames, search: Search | None
    ) -> tuple[Workspace, Starts, Stage | None, SearchProgress | None]:
        prepare = _prepare_few if frames.pixels.size < FEW_PIXELS else _prepare_many
        without_pixels, starts, stages, nothing = prepare(
            key, frames, self.structure, self.options, num_restarts=self.num_restarts, search=search
        )
        return _with_frames(without_pixels, frames), starts, stages, nothing


def _with_frames(without_pixels: Workspace, frames: Frames) -> Workspace:
    return without_pixels._replace(images=without_pixels.images._replace(frames=frames))


def _without_pixels(workspace: Workspace) -> Workspace:
    """A workspace without the images: a compiled program would return a copy of them."""
    return _with_frames(workspace, workspace.images.frames.of_none)


def _prepare(
    key: jax.Array,
    frames: Frames,
    structure: Structure,
    options: EMOptions,
    num_restarts: int,
    search: Search | None,
) -> tuple[Workspace, Starts, Stage | None, SearchProgress | None]:
    """What all runs share."""
    workspace = make_workspace(frames, options.batch_size)
    starts = starting_points(key, num_restarts, workspace, structure, search)
    without_pixels = _without_pixels(workspace)
    if search is None:
        return without_pixels, starts, None, None
    stages = plan_stages(search, frames.num_images, starts, options)
    staged = StagedSearch(workspace, starts, stages, options)
    return without_pixels, starts, stages, staged.begin(staged.nothing_found(), 0, len(stages.kind))


_PREPARE_STATIC = ("num_restarts", "search")
_prepare_many = jit(_prepare, static_argnames=_PREPARE_STATIC)
_prepare_few = jit(_prepare, static_argnames=_PREPARE_STATIC, is_small=True)


def _prepare_all(
    frames: Frames, found: Params, structure: Structure, options: EMOptions, search: Search
) -> tuple[Workspace, Starts, Stage, SearchProgress]:
    """The same of the fit to all images."""
    workspace, starts = make_workspace(frames, options.batch_size), start_on_all(found, structure)
    stages = plan_fit_to_all(search, frames.num_images, starts, options)
    staged = StagedSearch(workspace, starts, stages, options)
    return _without_pixels(workspace), starts, stages, staged.begin(staged.nothing_found(), 0, len(stages.kind))


_prepare_many_all = jit(_prepare_all, static_argnames=("search",))
_prepare_few_all = jit(_prepare_all, static_argnames=("search",), is_small=True)


_draw = jit(draw_sample, static_argnames=("size",), is_small=True)


@partial(jit, is_small=True)
def _conclude_search(
    workspace: Workspace, state: SearchState, hard: Fit | None, structure: Structure, options: EMOptions
) -> Restarts:
    runs, num_steps, stages = conclude(state, hard)
    return keep_best(workspace, runs, num_steps, structure, options, stages)


@partial(jit, is_small=True)
def _conclude_plain(workspace: Workspace, runs: Fit, structure: Structure, options: EMOptions) -> Restarts:
    return keep_best(workspace, runs, steps_of_plain_runs(runs), structure, options)


@partial(jit, is_small=True)
def _conclude_all(
    workspace: Workspace,
    found: Restarts,
    numbers: jax.Array,
    state: SearchState,
    hard: Fit | None,
    structure: Structure,
    options: EMOptions,
) -> Restarts:
    runs, num_steps, _ = conclude(state, hard)
    return keep_fit_to_all(workspace, found, numbers, entry(runs, 0), num_steps, structure, options)
