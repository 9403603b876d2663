"""`jaxem.stream.fit`: the loop of `solvers.em`, with an E-step that reads the frames anew each time.

Source: ``docs/stream.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.appearances import IDENTITY, appearances_of, as_transforms, geometry_of
from jaxem.model.checks import as_fixed, as_params
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, SharedTerms, shared_terms
from jaxem.model.params import Params, normalized
from jaxem.model.statistics import Expectation
from jaxem.model.steps import finalize
from jaxem.model.workspace import ImageTotals, Workspace, total_up
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.compilation import jit
from jaxem.runtime.executor import Executor, Task
from jaxem.search.progress import PLAIN_STAGE, PRIOR_STAGE, Progress, Reporter
from jaxem.search.progress_bar import watched
from jaxem.solvers.em import EM, EMState
from jaxem.solvers.options import EMOptions, cheapest_batch_size, em_options
from jaxem.solvers.result import Fit
from jaxem.solvers.schedule import Schedule, as_schedule
from jaxem.stream.centring import StackMoments, centred_by, stack_moments
from jaxem.stream.chunks import Sums, accumulate_chunk, count_chunk
from jaxem.stream.passes import Passes, add, as_devices
from jaxem.stream.sources import FrameStream, as_stream


def fit(
    source: Any,
    params: Params,
    *,
    hard: bool = False,
    prior_smoothing: Any = 0.0,
    max_iterations: int = 50,
    tolerance: Any = 1e-3,
    batch_size: int | None = None,
    schedule: Schedule | None = None,
    accelerate: bool = False,
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = IDENTITY,
    fixed: Sequence[str] = (),
    callback: Callable[[Progress], None] | None = None,
    progress: bool = False,
    checkpointer: Checkpointer | None = None,
    devices: Any = None,
) -> Fit:
    """`jaxem.fit` of frames that are read from a source, a few at a time; not to be traced.

    The frames are read once to centre them, and once an E-step. Of all frames, only what is found for each of them is
    kept in memory, some ten bytes a frame.

    Args:
        source: the frames, (K, H, W) or (K, H, W, C), pixel values: a `FrameSource`, or anything that is sliced as an
            array is, such as `numpy.memmap`, `h5py.Dataset` and `zarr.Array`; half precision and integers are promoted.
        params: where to start, as for `jaxem.fit`.
        hard: as for `jaxem.fit`, like all up to `fixed`.
        prior_smoothing: pseudo-counts.
        max_iterations: at most so many iterations.
        tolerance: the smallest gain that counts as progress, nats per image.
        batch_size: frames worked on at a time.
        schedule: soft steps to make before.
        accelerate: extrapolate near convergence.
        weights: of the pixels, (H, W), or a source or an array (K, H, W).
        frame_weights: (K,).
        transforms: that a template may be under.
        fixed: names of fields of `Params` that keep their values.
        callback: called with the `Progress` after each step, in another thread.
        progress: whether to show a bar, in a terminal or a notebook.
        checkpointer: what the same call has done before, and where to save what is done after each step.
        devices: that the frames are shared out to; by default all local ones, of CPUs the first, whose cores share.

    Returns:
        `Fit`: that of `jaxem.fit` on the same frames, to rounding, with the same status after as many iterations.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit; NaN or infinite pixels at a weight above zero;
            a source that gives other shapes or dtypes than it said.
        Exception: whatever the source raises, with a note that names the frames.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.stream.fit(np.asarray(images), truth)  # or np.load("images.npy", mmap_mode="r")
        >>> jaxem.Status(int(found.status)).name
        'CONVERGED'

    Source: ``docs/stream.md``.
    """
    stream, names = as_stream(source, weights, frame_weights), as_transforms(transforms)
    params = as_params(params, stream.source.shape[1:], stream.dtype, names)
    options = em_options(
        stream.abstract_images,
        hard=hard,
        prior_smoothing=prior_smoothing,
        max_iterations=max_iterations,
        tolerance=tolerance,
        batch_size=batch_size,
        accelerate=accelerate,
        transforms=names,
        fixed=as_fixed(fixed),
    )
    options = streamed_options(options, stream, batch_size)
    schedule = None if schedule is None else as_schedule(schedule, stream.dtype)
    watching: Any = {"callback": callback, "progress": progress, "checkpointer": checkpointer}
    return fit_from(stream, params, options, schedule, devices=as_devices(devices), **watching)[0]


def streamed_options(options: EMOptions, stream: FrameStream, batch_size: int | None) -> EMOptions:
    """Options with a batch of an even number of frames, since two share a transform, chosen for all of them."""
    size = options.batch_size
    if batch_size is None:
        height, width = stream.image_shape
        size = cheapest_batch_size(stream.num_images, height * width)
    return replace(options, batch_size=size + size % 2)


def fit_from(
    stream: FrameStream,
    params: Params,
    options: EMOptions,
    schedule: Schedule | None,
    *,
    devices: Sequence[jax.Device],
    callback: Callable[[Progress], None] | None,
    progress: bool,
    checkpointer: Checkpointer | None,
) -> tuple[Fit, Workspace]:
    """`fit`, where all is checked, and the workspace of all frames, with none in it."""
    passes = Passes(stream, options.batch_size, devices)
    executor = Executor(1, checkpointer or Checkpointer())
    with watched(callback, progress) as told:
        try:
            return _fit_in_passes(executor, Reporter(told), passes, params, options, schedule)
        except BaseException:
            passes.stop()
            raise


def _fit_in_passes(
    executor: Executor,
    reporter: Reporter,
    passes: Passes,
    params: Params,
    options: EMOptions,
    schedule: Schedule | None,
) -> tuple[Fit, Workspace]:
    """The whole run, as tasks that are watched, saved and taken up again."""
    workspace = executor.run([_centring_task(passes, options)])[0]
    start = _normalized(params, options.fixed)
    if schedule is None or not options.hard:
        return StreamedEM(passes, options, schedule).run(executor, reporter, workspace, start, PLAIN_STAGE)
    # As `single_run.run_after` does it: the steps of a schedule are soft, and have no iterations after them.
    soft = StreamedEM(passes, replace(options.soft, accelerate=False), schedule, has_iterations=False)
    before, workspace = soft.run(executor, reporter, workspace, start, PRIOR_STAGE)
    found, _ = StreamedEM(passes, options).run(executor, reporter, workspace, before.params, PLAIN_STAGE)
    return found._replace(num_scheduled=before.num_scheduled), workspace


class Centring(NamedTuple):
    """What the first pass gives.

    =========  ===========  ====================================================================
    field      shape        meaning
    =========  ===========  ====================================================================
    workspace  `Workspace`  of all frames, with none in it, and with totals that are not known
    is_done    () bool      whether it is
    =========  ===========  ====================================================================
    """

    workspace: Workspace
    is_done: jax.Array


def _centring_task(passes: Passes, options: EMOptions) -> Task:
    """The first pass as a task, whose result is taken up where the run is."""
    stream = passes.stream
    nothing, num_images = stream.nothing(), stream.num_images

    def centred(moments: StackMoments) -> Workspace:
        images, pixel_moments = centred_by(moments, nothing, num_images)
        return Workspace(images, _unknown_totals(stream, images), pixel_moments)

    channels = nothing.channels_first.shape[1]
    zeros, plane = np.zeros(channels), np.zeros((1, *stream.image_shape))
    own = None if nothing.weights is None else plane[0]
    blank = StackMoments(
        zeros, zeros, zeros, np.float64(0), zeros, zeros, zeros, np.zeros((channels, *stream.image_shape)), plane, own,
        np.float64(0),
    )  # fmt: skip
    before = Centring(jax.tree.map(jnp.zeros_like, centred(blank)), jnp.bool_(False))
    return Task(
        name="centring",
        begin=lambda: before,
        has_more=lambda state: not bool(state.is_done),
        advance=lambda _, __: Centring(centred(stack_moments(passes, options.batch_size)), jnp.bool_(True)),
        finish=lambda state: state.workspace,
        on_start=lambda _: None,
        on_chunk=lambda _: None,
    )


def _unknown_totals(stream: FrameStream, images: CenteredImages) -> ImageTotals:
    """Totals of the right shapes, which the first E-step puts in their place."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype), images.frames.own)

    def totals(own: Any) -> ImageTotals:
        return total_up(images._replace(frames=images.frames.batch(own)))

    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(totals, one))


class StreamedState(NamedTuple):
    """Where a run is.

    ==========  ===========  ============================================================
    field       shape        meaning
    ==========  ===========  ============================================================
    em          `EMState`    where the loop is
    totals      as in        of all frames
                `Workspace`
    has_totals  () bool      whether they are known, which the first E-step sees to
    ==========  ===========  ============================================================
    """

    em: EMState
    totals: ImageTotals
    has_totals: jax.Array


@dataclass(frozen=True)
class StreamedEM:
    """`solvers.em.EM` with an E-step in passes over a source.

    Args:
        passes: goes through the frames.
        options: those of `fit`.
        schedule: steps before the iterations.
        has_iterations: whether there are any after those.
    """

    passes: Passes
    options: EMOptions
    schedule: Schedule | None = None
    has_iterations: bool = True

    def run(
        self, executor: Executor, reporter: Reporter, workspace: Workspace, params: Params, stage: str
    ) -> tuple[Fit, Workspace]:
        """All of it, and the workspace with the totals, which are known after it."""
        begin = self._begin(workspace, params)
        most_steps = (0 if self.schedule is None else self.schedule.num_steps) + self._limit + 1
        reporter.expect({stage: most_steps})

        def on_start(state: StreamedState | None) -> None:
            if state is None:
                reporter.drop(stage)
            else:
                reporter.resume(stage, state.em)

        def told(state: StreamedState) -> None:
            reporter.tell(stage, 0, stage, state.em, ended=not self._is_running(workspace, state))

        task = Task(
            name=stage,
            begin=lambda: begin,
            has_more=lambda state: self._is_running(workspace, state),
            advance=lambda state, num_steps: self._advance(workspace, state, int(num_steps)),
            finish=lambda state: (self._finish(workspace._replace(totals=state.totals), state.em), state.totals),
            on_start=on_start,
            on_chunk=told,
        )
        found, totals = executor.run([task])[0]
        return found, workspace._replace(totals=totals)

    @property
    def _limit(self) -> int:
        return self.options.max_iterations if self.has_iterations else 0

    def _begin(self, workspace: Workspace, params: Params) -> StreamedState:
        em = _init(workspace, params, self.schedule, self.options)
        found = jax.tree.map(
            lambda leaf: jnp.zeros((self.passes.stream.num_images, *leaf.shape[1:]), leaf.dtype), em.expected.best
        )
        em = em._replace(expected=em.expected._replace(best=found))
        return StreamedState(em, workspace.totals, workspace.totals.num_images > 0)

    def _is_running(self, workspace: Workspace, state: StreamedState) -> bool:
        status, num_evaluated = jax.device_get((state.em.status, state.em.num_evaluated))
        em = EM(workspace, self.options, limit=jnp.int32(self._limit))
        return bool(em.is_running(state.em._replace(status=status, num_evaluated=num_evaluated)))

    def _advance(self, workspace: Workspace, state: StreamedState, num_steps: int) -> StreamedState:
        for _ in range(num_steps):
            if self._is_running(workspace, state):
                state = self._step(workspace, state)
        return state

    def _step(self, workspace: Workspace, state: StreamedState) -> StreamedState:
        """A step of the loop; the first counts the totals as well, so that nothing is read for them alone."""
        em, totals, options = state.em, state.totals, self.options
        params, tempered, terms = _propose(workspace._replace(totals=totals), em, self.schedule, options)
        best = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), em.expected.best)
        work = _sums_of_chunk if bool(state.has_totals) else _sums_and_totals_of_chunk
        sums, counted = self.passes.run(work, (workspace.images, tempered, terms, options), add, best)
        totals = totals if counted is None else counted
        em = _receive(workspace._replace(totals=totals), em, params, sums, best, self.schedule, options)
        return StreamedState(jax.block_until_ready(em), totals, jnp.bool_(True))

    def _finish(self, workspace: Workspace, state: EMState) -> Fit:
        return _finish(workspace, state, self.options)


def _sums_of_chunk(shared: Any, own: Any, counts: jax.Array) -> tuple[tuple[Sums, ImageTotals | None], Hypotheses]:
    images, params, terms, options = shared
    sums, best = accumulate_chunk(images, params, terms, options, own, counts)
    return (sums, None), best


def _sums_and_totals_of_chunk(shared: Any, own: Any, counts: jax.Array) -> tuple[tuple[Sums, ImageTotals], Hypotheses]:
    images, params, terms, options = shared
    sums, best = accumulate_chunk(images, params, terms, options, own, counts)
    return (sums, count_chunk(images, options, own, counts)), best


@partial(jit, static_argnames="fixed", is_small=True)
def _normalized(params: Params, fixed: tuple[str, ...]) -> Params:
    return normalized(params, fixed)


@partial(jit, is_small=True)
def _init(workspace: Workspace, params: Params, schedule: Schedule | None, options: EMOptions) -> EMState:
    return EM(workspace, options, schedule).init(params)


@partial(jit, is_small=True)
def _propose(
    workspace: Workspace, state: EMState, schedule: Schedule | None, options: EMOptions
) -> tuple[Params, Params, SharedTerms]:
    """The parameters of the next step, those to make its E-step at, and what these give for all frames."""
    params, tempered = EM(workspace, options, schedule).propose(state)
    return params, tempered, shared_terms(workspace.images, tempered, options.transforms)


@partial(jit, is_small=True)
def _receive(
    workspace: Workspace,
    state: EMState,
    params: Params,
    sums: Sums,
    best: Hypotheses,
    schedule: Schedule | None,
    options: EMOptions,
) -> EMState:
    """The state after a step, from the sums over all frames."""
    supports = appearances_of(params, options.transforms).supports
    statistics = finalize(
        workspace.images,
        sums[0],
        geometry_of(params),
        supports,
        hard=options.hard,
        transforms=options.transforms,
    )
    return EM(workspace, options, schedule).receive(state, params, Expectation(statistics, sums[1], best))


@partial(jit, is_small=True)
def _finish(workspace: Workspace, state: EMState, options: EMOptions) -> Fit:
    return EM(workspace, options).finish(state)
