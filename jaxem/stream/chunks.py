"""What a chunk of frames adds to the sums of a pass: the formulas of `model`, over batches that stay in a cache.

The frames are transformed anew each time: kept, their transforms would take twice the memory of the frames.
"""

from __future__ import annotations

from typing import Any

import jax

from jaxem.model.frames import Frames
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, SharedTerms
from jaxem.model.params import Params
from jaxem.model.statistics import BatchStatistics, LogLikelihoodRatio
from jaxem.model.steps import accumulate
from jaxem.model.workspace import ImageTotals, total_up, with_own_spectra
from jaxem.ops.batching import over_batches, unbatch
from jaxem.runtime.compilation import jit
from jaxem.solvers.options import EMOptions

Sums = tuple[BatchStatistics, LogLikelihoodRatio]


def in_dtype(nothing: Frames, own: Any) -> Frames:
    """A chunk as frames, in the dtype that is computed in."""
    dtype = nothing.pixels.dtype
    return nothing.batch(jax.tree.map(lambda array: array.astype(dtype), own))


@jit
def accumulate_chunk(
    images: CenteredImages, params: Params, terms: SharedTerms, options: EMOptions, own: Any, counts: jax.Array
) -> tuple[Sums, Hypotheses]:
    """What a chunk says together, and the best hypothesis of each of its frames."""
    frames = in_dtype(images.frames, own)

    def one_batch(part: Any, weights: jax.Array, _: None) -> tuple[Sums, Hypotheses]:
        own, counts = part
        batch = with_own_spectra(images._replace(frames=frames.batch(own)))
        return accumulate(batch, weights * counts, params, terms, hard=options.hard, transforms=options.transforms)

    sums, best = over_batches(one_batch, (frames.own, counts), options.batch_size)
    return sums, jax.tree.map(lambda pieces: unbatch(pieces, len(counts)), best)


@jit
def count_chunk(images: CenteredImages, options: EMOptions, own: Any, counts: jax.Array) -> ImageTotals:
    """What a chunk adds to the totals."""
    frames = in_dtype(images.frames, own)

    def one_batch(part: Any, weights: jax.Array, _: None) -> tuple[ImageTotals, None]:
        own, counts = part
        return total_up(images._replace(frames=frames.batch(own)), weights * counts), None

    return over_batches(one_batch, (frames.own, counts), options.batch_size)[0]
