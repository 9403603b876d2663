"""`jaxem.stream.fit`: the loop of `solvers.em`, with an E-step that reads the frames anew each time.

Source: ``docs/stream.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.appearances import IDENTITY, as_transforms
from jaxem.model.checks import as_fixed, as_params
from jaxem.model.images import CenteredImages
from jaxem.model.params import Params, normalized
from jaxem.model.workspace import ImageTotals, Workspace, total_up
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.compilation import jit
from jaxem.runtime.executor import Executor, Task
from jaxem.runtime.processes import agree_on, from_first, together
from jaxem.search.progress import PLAIN_STAGE, PRIOR_STAGE, Progress, Reporter
from jaxem.search.progress_bar import watched
from jaxem.solvers.options import EMOptions, cheapest_batch_size, em_options
from jaxem.solvers.result import Fit
from jaxem.solvers.schedule import Schedule, as_schedule
from jaxem.stream.centring import StackMoments, centred_by, stack_moments
from jaxem.stream.passes import Passes, as_devices
from jaxem.stream.sources import FrameStream, as_stream
from jaxem.stream.streamed_em import StreamedEM


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
    start: int = 0,
) -> tuple[Fit, Workspace]:
    """`fit`, where all is checked, from a starting point of that number; and the workspace, with no frame in it."""
    passes = Passes(stream, options.batch_size, devices)
    executor = Executor(1, checkpointer or Checkpointer())
    agree_on((params, options, schedule))
    with together(), watched(callback, progress) as told:
        try:
            return _fit_in_passes(executor, Reporter(told), passes, params, options, schedule, start)
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
    number: int,
) -> tuple[Fit, Workspace]:
    """The whole run, as tasks that are watched, saved and taken up again."""
    workspace = executor.run([_centring_task(passes, options)])[0]
    start = from_first(_normalized(params, options.fixed))
    if schedule is None or not options.hard:
        return StreamedEM(passes, options, schedule, start=number).run(
            executor, reporter, workspace, start, PLAIN_STAGE
        )
    # As `single_run.run_after` does it: the steps of a schedule are soft, and have no iterations after them.
    soft = StreamedEM(passes, replace(options.soft, accelerate=False), schedule, has_iterations=False, start=number)
    before, workspace = soft.run(executor, reporter, workspace, start, PRIOR_STAGE)
    found, _ = StreamedEM(passes, options, start=number).run(executor, reporter, workspace, before.params, PLAIN_STAGE)
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
        advance=lambda _, __: Centring(from_first(centred(stack_moments(passes, options.batch_size))), jnp.bool_(True)),
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


@partial(jit, static_argnames="fixed", is_small=True)
def _normalized(params: Params, fixed: tuple[str, ...]) -> Params:
    return normalized(params, fixed)
