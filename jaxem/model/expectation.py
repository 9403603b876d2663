"""E-step on all images of a workspace, batch by batch, wherever they are.

Derivations: ``docs/model.md``, *E-step*; ``docs/numerics.md``, *Batches*.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.tree_util import Partial

from jaxem.model.appearances import IDENTITY, appearances_of, geometry_of
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, SharedTerms, shared_terms
from jaxem.model.params import Params
from jaxem.model.statistics import BatchStatistics, Expectation, LogLikelihoodRatio
from jaxem.model.steps import accumulate, finalize
from jaxem.model.workspace import Workspace
from jaxem.ops.batching import over_batches, unbatch


def expectation(
    workspace: Workspace, params: Params, *, hard: bool, transforms: tuple[str, ...] = IDENTITY
) -> Expectation:
    """E-step on all images, batch by batch."""
    images, geometry = workspace.images, geometry_of(params)
    spectra, shared = images.spectra, shared_terms(images, params, transforms)
    assert spectra is not None

    def one_batch(
        images: CenteredImages,
        params: Params,
        shared: SharedTerms,
        own: Any,
        weights: jax.Array,
        pairs: tuple[jax.Array, jax.Array | None],
    ) -> tuple[tuple[BatchStatistics, LogLikelihoodRatio], Hypotheses]:
        assert images.spectra is not None
        part = images.spectra._replace(pairs=pairs[0], weight_pairs=pairs[1])
        batch = images._replace(frames=images.frames.batch(own), spectra=part)
        return accumulate(batch, weights, params, shared, hard=hard, transforms=transforms)

    (sums, ratio), best = over_batches(
        Partial(one_batch, images.of_none, params, shared),
        images.frames.own,
        workspace.batch_size,
        along=(spectra.pairs, spectra.weight_pairs),
        shards=images.frames.shards,
    )
    supports = appearances_of(params, transforms).supports
    statistics = finalize(images, sums, geometry, supports, hard=hard, transforms=transforms)
    num_images, shards = images.frames.num_images, images.frames.shards
    return Expectation(statistics, ratio, jax.tree.map(lambda pieces: unbatch(pieces, num_images, shards), best))
