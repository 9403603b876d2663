"""`jaxem.stream.fit_online`: EM in one pass, for frames that come once.

Source: ``docs/stream.md``, *Online EM*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.appearances import IDENTITY, appearances_of, as_transforms, geometry_of
from jaxem.model.checks import as_fixed, as_params
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, positions_of, shared_terms
from jaxem.model.objective import log_density
from jaxem.model.params import Params, Positions, keep_possible, normalized, to_internal_units, to_pixel_values
from jaxem.model.statistics import BatchStatistics
from jaxem.model.steps import finalize, update
from jaxem.model.workspace import ImageTotals
from jaxem.ops.printing import short_repr
from jaxem.runtime.arguments import as_count
from jaxem.runtime.compilation import jit
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError
from jaxem.runtime.read_ahead import ReadAhead
from jaxem.solvers.options import EMOptions, em_options
from jaxem.stream.centring import centred_by, moments_of_chunk
from jaxem.stream.chunks import accumulate_chunk, count_chunk
from jaxem.stream.sources import Chunk, FrameStream, as_stream

NUM_BATCHES = 50  # that a source is cut into by default
BATCHES_AHEAD = 2
# The weight of a batch in the statistics grows with the fourth root of its number: that forgets what the first
# parameters made of the first batches, and leaves 24/25 of all frames as the effective number.
STEP_GROWTH = 0.25


class OnlineFit(NamedTuple):
    """What one pass found.

    ===============  ============  =============================================================================
    field            shape         meaning, unit
    ===============  ============  =============================================================================
    params           `Params`      the parameters after the last batch
    log_likelihood   (N,)          of each batch at the parameters before it was learned from, so that it tells how well
                                   frames are foreseen; in hard EM the log joint; nats a frame
    batch_sizes      (N,) int32    frames of each batch
    positions        `Positions`   the best hypothesis of each frame at the parameters of its batch, (K, 2)
    ===============  ============  =============================================================================
    """

    params: Params
    log_likelihood: np.ndarray
    batch_sizes: np.ndarray
    positions: Positions

    def __repr__(self) -> str:
        return short_repr(self)


def default_step_size(number: int) -> float:
    """The step size of a batch, by its number from 0: 1.25 / (n + 1.25)."""
    return (1 + STEP_GROWTH) / (number + 1 + STEP_GROWTH)


def fit_online(
    batches: Any,
    params: Params,
    *,
    step_size: Callable[[int], Any] = default_step_size,
    batch_size: int | None = None,
    hard: bool = False,
    prior_smoothing: Any = None,
    weights: Any = None,
    transforms: Any = IDENTITY,
    fixed: Sequence[str] = (),
) -> OnlineFit:
    """Stepwise EM: each batch of frames is looked at once, and the parameters are made anew after it.

    After batch n the statistics of all frames are s <- (1 - gamma_n) s + gamma_n s_n, with s_n the mean over the batch
    at the parameters of the moment, and the parameters are those that an M-step makes of s.

    Args:
        batches: a source of frames as for `jaxem.stream.fit`, or an iterable of arrays (n, H, W) or (n, H, W, C), such
            as a generator; it runs in a thread of its own, two batches ahead at most.
        params: where to start, as for `jaxem.fit`. What follows is a local search, as any EM: start where
            `jaxem.fit_restarts` ends on some of the frames.
        step_size: of the number of a batch, from 0, gives gamma_n, above 0, up to 1; any schedule of optax. The first
            batch has no other before it, so its own is 1.
        batch_size: frames of a batch that is read from a source; by default a fiftieth of all, if that is not much
            memory. Of an iterable, batches are as they come.
        hard: hard EM, one corner an image instead of probabilities.
        prior_smoothing: pseudo-counts, spread evenly over all corners, as if so many frames had come before; by default
            as many as the first batch has frames. With too few, a corner where no frame has shown the template soon
            counts as impossible.
        weights: of the pixels, (H, W), as for `jaxem.fit`.
        transforms: that a template may be under, as for `jaxem.fit`.
        fixed: names of fields of `Params` that keep their values.

    Returns:
        `OnlineFit`.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit, no batch at all; NaN or infinite pixels at a
            weight above zero.
        Exception: whatever the source or the iterable raises.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> keys = jax.random.split(jax.random.key(0), 10)
        >>> batches = (jaxem.simulate(key, truth, 20)[0] for key in keys)
        >>> found = jaxem.stream.fit_online(batches, truth._replace(noise_scale=jnp.array(0.2)))
        >>> found.log_likelihood.shape, bool(abs(found.params.noise_scale - 0.1) < 0.01)
        ((10,), True)

    Source: ``docs/stream.md``, *Online EM*; O. Cappe and E. Moulines, Online EM algorithm for latent data models, J. R.
    Stat. Soc. B 71, 2009.
    """
    names = as_transforms(transforms)
    given = {"hard": hard, "transforms": names, "fixed": as_fixed(fixed), "weights": weights}
    with ReadAhead(_chunks(batches, batch_size, weights), BATCHES_AHEAD) as chunks:
        run, history, sizes, found = None, [], [], []
        for number, (stream, chunk) in enumerate(chunks):
            if run is None:
                run = _OnlineRun(stream, chunk, params, prior_smoothing, given)
            gamma = _as_step_size(step_size(number), number)
            log_likelihood, best = run.learn(chunk, gamma)
            history.append(log_likelihood)
            sizes.append(chunk.num_frames)
            found.append(best)
    if run is None:
        raise ArgumentValueError("batches", "must hold at least one batch of frames.")
    best = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
    positions = positions_of(best, None, run.start, names)
    return OnlineFit(run.result(), np.asarray(history), np.asarray(sizes, np.int32), positions)


class _OnlineRun:
    """Where a run is."""

    def __init__(self, stream: FrameStream, chunk: Chunk, params: Params, prior_smoothing: Any, given: dict[str, Any]):
        params = as_params(params, stream.source.shape[1:], stream.dtype, given["transforms"])
        self.options = em_options(
            cast(Any, jax.ShapeDtypeStruct((len(chunk.counts), *stream.source.shape[1:]), stream.dtype)),
            hard=given["hard"],
            prior_smoothing=chunk.num_frames if prior_smoothing is None else prior_smoothing,
            max_iterations=0,
            tolerance=0.0,
            batch_size=None,
            transforms=given["transforms"],
            fixed=given["fixed"],
        )
        size = min(self.options.batch_size, len(chunk.counts))
        self.options = replace(self.options, batch_size=size)
        found, _ = moments_of_chunk(stream.nothing(), chunk.own, chunk.counts, size)
        self.images, _ = centred_by(found, stream.nothing(), chunk.num_frames)
        self.start = _normalized(params, self.options.fixed)
        self.params = _to_internal(self.start, self.images)
        self.means: Any = None
        self.num_seen = 0

    def learn(self, chunk: Chunk, gamma: float) -> tuple[float, Hypotheses]:
        """One step: the log likelihood of a batch a frame before it, and the best hypothesis of each of its frames."""
        own, counts = jax.device_put((chunk.own, chunk.counts))
        self.num_seen += chunk.num_frames
        if self.means is None:
            gamma, self.means = 1.0, _zeros_of(self.images, self.params, self.options, own, counts)
        numbers: Any = np.array([gamma, self.num_seen], self.params.template.dtype)
        self.means, self.params, log_likelihood, best = _step(
            self.images, self.params, self.means, self.options, own, counts,
            numbers,
        )  # fmt: skip
        best = jax.tree.map(lambda leaf: leaf[: chunk.num_frames], jax.device_get(best))
        return float(log_likelihood), best

    def result(self) -> Params:
        """The parameters, in pixel values."""
        found = _to_pixels(self.params, self.images, self.start)
        return found._replace(**{name: getattr(self.start, name) for name in self.options.fixed})


def _chunks(batches: Any, batch_size: int | None, weights: Any) -> Iterator[tuple[FrameStream, Chunk]]:
    """All batches in their order, filled up to the size of the largest so far, so that few programs are compiled."""
    if hasattr(batches, "shape") and hasattr(batches, "dtype"):
        stream = as_stream(batches, weights)
        _expect_shared(stream)
        if batch_size is None:
            batch_size = min(-(-stream.num_images // NUM_BATCHES), stream.chunk_size(1))
        size = min(as_count("batch_size", batch_size, at_least=1), stream.num_images)
        yield from ((stream, chunk) for chunk in stream.chunks(range(stream.num_images), size, look=True))
        return
    if batch_size is not None:
        raise ArgumentValueError("batch_size", "must be None for an iterable, whose batches are as they come.")
    if not isinstance(batches, Iterable):
        raise ArgumentTypeError(
            "batches", f"must be a source of frames or an iterable of arrays, but is {type(batches).__name__}."
        )
    first, size = None, 0
    for batch in batches:
        stream = as_stream(np.asarray(batch), weights)
        first = stream if first is None else first
        here, expected = (stream.source.shape[1:], stream.dtype), (first.source.shape[1:], first.dtype)
        if here != expected:
            raise ArgumentValueError(
                "batches",
                f"must hold frames alike, but after {expected[0]} of {expected[1]} came {here[0]} of {here[1]}.",
            )
        _expect_shared(stream)
        size = max(size, stream.num_images)
        yield stream, stream.chunk(0, stream.num_images, size, look=True)


def _expect_shared(stream: FrameStream) -> None:
    if stream.weights is not None:
        raise ArgumentValueError("weights", "must be those that all frames share, (H, W).")


def _as_step_size(gamma: Any, number: int) -> float:
    gamma = float(gamma)
    if not 0 < gamma <= 1:
        raise ArgumentValueError("step_size", f"must be above 0 and at most 1, but is {gamma:g} for batch {number}.")
    return gamma


class _Means(NamedTuple):
    """What is kept of all batches before: means over frames.

    ==========  =================  =========================
    field       shape              meaning
    ==========  =================  =========================
    statistics  `BatchStatistics`  of the posteriors
    totals      `ImageTotals`      of the frames
    ==========  =================  =========================
    """

    statistics: BatchStatistics
    totals: ImageTotals


def _batch_means(
    images: CenteredImages, params: Params, options: EMOptions, own: Any, counts: jax.Array
) -> tuple[_Means, jax.Array, Hypotheses]:
    """Of a batch, with its log likelihood, nats a frame."""
    terms = shared_terms(images, params, options.transforms)
    (statistics, ratio), best = accumulate_chunk(images, params, terms, options, own, counts)
    totals = count_chunk(images, options, own, counts)
    num_images = totals.num_images
    log_likelihood = log_density(images, totals, params, ratio).high / num_images
    return _times(1 / num_images, _Means(statistics, totals)), log_likelihood, best


def _times(factor: jax.Array, means: _Means) -> _Means:
    """Means times a number; some are spectra, which are complex."""
    return jax.tree.map(lambda leaf: factor.astype(leaf.dtype) * leaf, means)


@jit
def _zeros_of(images: CenteredImages, params: Params, options: EMOptions, own: Any, counts: jax.Array) -> _Means:
    shapes = jax.eval_shape(_batch_means, images, params, options, own, counts)[0]
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


@jit
def _step(
    images: CenteredImages,
    params: Params,
    means: _Means,
    options: EMOptions,
    own: Any,
    counts: jax.Array,
    numbers: jax.Array,
) -> tuple[_Means, Params, jax.Array, Hypotheses]:
    """E-step on a batch, means with its own in them, and the M-step that these make."""
    gamma, num_seen = numbers
    of_batch, log_likelihood, best = _batch_means(images, params, options, own, counts)
    means = jax.tree.map(jnp.add, _times(1 - gamma, means), _times(gamma, of_batch))
    supports = appearances_of(params, options.transforms).supports
    statistics = finalize(
        images, means.statistics, geometry_of(params), supports, hard=options.hard, transforms=options.transforms
    )
    smoothing = options.prior_smoothing / num_seen  # of statistics that are those of one frame
    after = update(images, means.totals, statistics, smoothing, params, fixed=options.fixed)
    return means, after if options.hard else keep_possible(after, params), log_likelihood, best


@partial(jit, static_argnames="fixed", is_small=True)
def _normalized(params: Params, fixed: tuple[str, ...]) -> Params:
    return normalized(params, fixed)


@partial(jit, is_small=True)
def _to_internal(params: Params, images: CenteredImages) -> Params:
    return to_internal_units(params, images)


@partial(jit, is_small=True)
def _to_pixels(params: Params, images: CenteredImages, like: Params) -> Params:
    return to_pixel_values(params, images, like)
