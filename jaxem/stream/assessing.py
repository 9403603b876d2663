"""`jaxem.stream.assess_fit`: what may be claimed of a fit to frames that are read.

In three passes: one centres the frames, one adds up what all of them say together and what the fit leaves of each, and
one takes the share of each frame out of that. Source: ``docs/stream.md``, *Claims*.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.assess.assessment import Assessment, Report, assessment_of, best_of
from jaxem.assess.detection import DetectionTest
from jaxem.assess.estimates import Estimates
from jaxem.assess.evaluation import Evaluation, as_batch_size, evaluation_of
from jaxem.assess.leave_one_out import LeftOut, certainty_of, leave_out_each
from jaxem.assess.residuals import (
    ResidualsByImage,
    ResidualSums,
    filters_of,
    statistics_of,
    sum_residuals,
    worst_windows,
)
from jaxem.model.appearances import appearances_of, as_transforms, geometry_of
from jaxem.model.checks import as_fixed, as_params
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, SharedTerms, shared_terms
from jaxem.model.params import Params, to_internal_units
from jaxem.model.statistics import BatchStatistics, SufficientStatistics
from jaxem.model.steps import accumulate, finalize
from jaxem.model.workspace import ImageTotals, total_up, with_own_spectra
from jaxem.ops.batching import over_batches, unbatch
from jaxem.runtime.compilation import jit
from jaxem.runtime.processes import from_first
from jaxem.search.restarts import Restarts
from jaxem.solvers.result import Fit
from jaxem.stream.centring import centred_by, stack_moments
from jaxem.stream.chunks import in_dtype
from jaxem.stream.passes import Passes, add, as_devices, nothing_for_each
from jaxem.stream.sources import FrameStream, as_stream


def assess_fit(
    source: Any,
    found: Fit | Restarts | Report,
    *,
    test: DetectionTest | None = None,
    weights: Any = None,
    frame_weights: Any = None,
    fixed: Any = (),
    batch_size: int | None = None,
    devices: Any = None,
) -> Assessment:
    """`jaxem.assess_fit` of frames that are read from a source, a few at a time; not to be traced.

    The frames are read three times, and nothing is kept of them but some hundred bytes a frame. Costs about as much as
    ten iterations.

    Args:
        source: the frames, those of the fit, as for `jaxem.stream.fit`.
        found: the result, of which the best counts.
        test: a `jaxem.detection_test` of the same frames, if there is one.
        weights: as for the fit, like all that follow.
        frame_weights: (K,).
        fixed: names of the fields that were known, or a mapping of them.
        batch_size: frames worked on at a time.
        devices: as for `jaxem.stream.fit`.

    Returns:
        `Assessment`: that of `jaxem.assess_fit` on the same frames, to rounding; but for `residuals.correlation_next`,
        which knows no pairs of frames that lie in two batches: in memory the last batch begins earlier and has more.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit; NaN or infinite pixels at a weight above zero;
            a source that gives other shapes or dtypes than it said.
        Exception: whatever the source raises, with a note that names the frames.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> frames = np.asarray(images)  # or np.load("images.npy", mmap_mode="r")
        >>> claims = jaxem.stream.assess_fit(frames, jaxem.stream.fit(frames, truth))
        >>> [remark.code for remark in claims.remarks() if remark.grade == "warning"]
        []

    Source: ``docs/stream.md``, *Claims*.
    """
    stream, best = as_stream(source, weights, frame_weights), best_of(found)
    names, size = as_transforms(best.transforms), even_batch_size(batch_size, stream)
    evaluation = evaluate(stream, best.params, EvaluationOptions(names, as_fixed(fixed), size), devices)
    return assessment_of(evaluation, best.params, test)


class EvaluationOptions(NamedTuple):
    """What a compiled program is made for.

    ==========  ===============================================
    field       meaning
    ==========  ===============================================
    transforms  that a template may be under
    fixed       what was known
    batch_size  frames worked on at a time, an even number
    flat        whether all corners count as equally likely
    ==========  ===============================================
    """

    transforms: tuple[str, ...]
    fixed: tuple[str, ...]
    batch_size: int
    flat: bool = True


def even_batch_size(batch_size: int | None, stream: FrameStream) -> int:
    """Frames worked on at a time, two of which share a transform."""
    size = as_batch_size(batch_size, stream.source.shape)
    return size + size % 2


def evaluate(stream: FrameStream, params: Params, options: EvaluationOptions, devices: Any = None) -> Evaluation:
    """`assess.evaluation.evaluate` of frames that are read.

    Args:
        stream: the frames.
        params: what was fitted to them, pixel value.
        options: what is static.
        devices: who works on them.
    """
    params = from_first(as_params(params, stream.source.shape[1:], stream.dtype, options.transforms))
    passes = Passes(stream, options.batch_size, as_devices(devices))
    moments = stack_moments(passes, options.batch_size)
    images, _ = from_first(centred_by(moments, stream.nothing(), stream.num_images))
    return evaluate_in_passes(passes, images, params, options)


class OfAll(NamedTuple):
    """What the frames say together: sums over them."""

    statistics: BatchStatistics
    totals: ImageTotals
    residuals: ResidualSums


class OfEach(NamedTuple):
    """What there is of each frame when all have been seen: its best hypothesis, and what is left of it."""

    best: Hypotheses
    residuals: ResidualsByImage


class Known(NamedTuple):
    """What the pass that leaves frames out needs of all of them."""

    images: CenteredImages
    totals: ImageTotals
    params: Params
    statistics: SufficientStatistics
    terms: SharedTerms
    inflation: jax.Array
    own_variance: jax.Array

    def estimates(self, options: EvaluationOptions) -> Estimates:
        """From which a frame is left out."""
        arrays = self.images, self.totals, self.params, self.statistics
        return Estimates(*arrays, options.transforms, options.fixed, flat=options.flat)


def evaluate_in_passes(
    passes: Passes, images: CenteredImages, params: Params, options: EvaluationOptions
) -> Evaluation:
    """`evaluate` of frames that are centred already, in two passes.

    Args:
        passes: goes through the frames.
        images: what all of them are centred by, with none in it.
        params: what was fitted to them, pixel value.
        options: what is static.
    """
    stream = passes.stream
    begin = from_first(_begin(images, params, options))
    look = partial(_look_at_chunk, options=options)
    of_each = nothing_for_each(passes, look, begin)
    of_all = passes.run(look, begin, add, of_each)
    known = from_first(_between(begin, of_all, options))
    leave_out = partial(_leave_out_of_chunk, options=options)
    left, edges = nothing_for_each(passes, leave_out, known, of_each.best)
    variance = passes.run(leave_out, known, add, (left, edges), beside=of_each.best)
    counts: Any = stream.frame_weights
    known = known._replace(images=images._replace(frames=images.frames._replace(frame_weights=counts)))
    given = params, of_all.residuals, variance, of_each.residuals, left, edges
    found: Evaluation = _conclude(known, *given, options)
    return found


class Begin(NamedTuple):
    """What the first of the passes needs of all frames."""

    images: CenteredImages
    params: Params
    terms: SharedTerms
    filters: jax.Array


@partial(jit, static_argnames="options", is_small=True)
def _begin(images: CenteredImages, params: Params, options: EvaluationOptions) -> Begin:
    internal = to_internal_units(params, images)
    return Begin(images, internal, shared_terms(images, internal, options.transforms), filters_of(internal))


@partial(jit, static_argnames="options")
def _look_at_chunk(shared: Begin, own: Any, counts: jax.Array, options: EvaluationOptions) -> tuple[OfAll, OfEach]:
    images, params, terms, filters = shared
    frames = in_dtype(images.frames, own)

    def one_batch(part: Any, weights: jax.Array, _: None) -> tuple[OfAll, OfEach]:
        batch, weights = with_own_spectra(images._replace(frames=frames.batch(part[0]))), weights * part[1]
        sums, best = accumulate(batch, weights, params, terms, hard=False, transforms=options.transforms)
        residuals, by_image = sum_residuals(batch, params, best, weights, weights, filters, options.transforms)
        return OfAll(sums[0], total_up(batch, weights), residuals), OfEach(best, by_image)

    sums, of_each = over_batches(one_batch, (frames.own, counts), options.batch_size)
    return sums, jax.tree.map(lambda pieces: unbatch(pieces, len(counts)), of_each)


@partial(jit, static_argnames="options", is_small=True)
def _between(begin: Begin, of_all: OfAll, options: EvaluationOptions) -> Known:
    images, params, residuals = begin.images, begin.params, of_all.residuals
    supports = appearances_of(params, options.transforms).supports
    statistics = finalize(
        images, of_all.statistics, geometry_of(params), supports, hard=False, transforms=options.transforms
    )
    inflation = jnp.maximum(residuals.inflation, 1)
    return Known(images, of_all.totals, params, statistics, begin.terms, inflation, residuals.own_variance)


@partial(jit, static_argnames="options")
def _leave_out_of_chunk(
    known: Known, own: Any, counts: jax.Array, options: EvaluationOptions
) -> tuple[jax.Array, tuple[LeftOut, jax.Array]]:
    images, params, estimates = known.images, known.params, known.estimates(options)
    frames, best = in_dtype(images.frames, own[0]), own[1]

    def one_batch(part: Any, weights: jax.Array, _: None) -> tuple[jax.Array, tuple[LeftOut, jax.Array]]:
        own, best, counts = part
        weights = weights * counts
        variance, left = leave_out_each(estimates, known.terms, known.inflation, own, weights)
        batch = images._replace(frames=frames.batch(own))
        return variance, (left, worst_windows(batch, params, best, weights, known.own_variance, options.transforms))

    variance, found = over_batches(one_batch, (frames.own, best, counts), options.batch_size)
    return variance, jax.tree.map(lambda pieces: unbatch(pieces, len(counts)), found)


@partial(jit, static_argnames="options", is_small=True)
def _conclude(
    known: Known,
    params: Params,
    sums: ResidualSums,
    variance: jax.Array,
    by_image: ResidualsByImage,
    left: LeftOut,
    edges: jax.Array,
    options: EvaluationOptions,
) -> Evaluation:
    residuals = statistics_of(known.images, sums, by_image, edges)
    certainty = certainty_of(known.estimates(options), variance)
    what = params, left, certainty, residuals, options.transforms, options.fixed
    return evaluation_of(known.images, known.totals, *what)
