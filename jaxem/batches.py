"""Passes over the stack a batch of images at a time, so that memory does not grow and a batch stays in a core's cache.

K x P x Q probabilities exist for one batch only. Source: ``docs/method.md``, *M-step*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxem.compensated import add
from jaxem.em import Statistics, Sums, complete, infer, summarise
from jaxem.model import Params, terms
from jaxem.stack import Stack, Totals, Transforms, add_up
from jaxem.transforms import transform_pairs


class Prepared(NamedTuple):
    """A stack whose transforms and totals are made.

    ======  ==========================================================================================
    field   meaning
    ======  ==========================================================================================
    stack   the `Stack`, with transforms of its pairs of shape (batches, batch size / 2, W, H)
    totals  its `Totals`
    ======  ==========================================================================================
    """

    stack: Stack
    totals: Totals


def prepare(stack: Stack, batch_size: int) -> Prepared:
    """Make a centred stack's transforms, in batches that all later passes keep to, and its totals."""
    batch_size = min(batch_size + batch_size % 2, len(stack.images))

    def one_batch(batch: Stack, weights: jax.Array | None) -> tuple[Totals, jax.Array]:
        return add_up(batch, weights), transform_pairs(batch.residuals, stack.image_shape)

    def add_totals(x: Totals, y: Totals) -> Totals:
        square_sum = add(x.square_sum, y.square_sum)
        return Totals(x.num_images + y.num_images, x.residual_sum + y.residual_sum, square_sum)

    totals, pairs = _over_batches(one_batch, add_totals, stack, batch_size)
    reference = transform_pairs(stack.reference[None], stack.image_shape)
    return Prepared(stack._replace(transforms=Transforms(pairs, reference)), totals)


def expectation(stack: Stack, params: Params, *, hard: bool) -> Statistics:
    """E-step of a prepared stack, batch by batch: the statistics of its posterior."""
    shared, template_shape = terms(stack, params), params.template.shape
    batch_size = min(2 * cast(Transforms, stack.transforms).pairs.shape[1], len(stack.images))

    def one_batch(batch: Stack, weights: jax.Array | None) -> tuple[Sums, None]:
        posterior, evidence = infer(batch, shared, template_shape, hard=hard)
        return summarise(batch, posterior, evidence.entropy, template_shape, weights), None

    def add_sums(x: Sums, y: Sums) -> Sums:
        return jax.tree.map(jnp.add, x, y)

    sums, _ = _over_batches(one_batch, add_sums, stack, batch_size)
    return complete(stack, sums, template_shape, hard=hard)


def _over_batches(
    function: Callable[[Stack, jax.Array | None], tuple[Any, Any]],
    add: Callable[[Any, Any], Any],
    stack: Stack,
    batch_size: int,
) -> tuple[Any, Any]:
    """What function(batch, weights) gives: of its first part the sum over the batches, of its second one a batch.

    All batches are of one size. The last one overlaps the one before where it must, and there its weights are zero.
    """
    num_images = len(stack.images)
    firsts = np.arange(0, num_images, batch_size)
    starts = np.minimum(firsts, num_images - batch_size)
    new = starts[:, None] + np.arange(batch_size) >= firsts[:, None]
    weights = None if new.all() else jnp.asarray(new, stack.images.dtype)
    kept = stack.transforms

    def one_batch(start: jax.Array, weights: jax.Array | None, pairs: jax.Array | None) -> tuple[Any, Any]:
        images = lax.dynamic_slice_in_dim(stack.images, start, batch_size)
        transforms = None if kept is None or pairs is None else kept._replace(pairs=pairs)
        return function(stack._replace(images=images, transforms=transforms), weights)

    def step(total: Any, batch: tuple[jax.Array, jax.Array | None, jax.Array | None]) -> tuple[Any, Any]:
        part, rest = one_batch(*batch)
        return add(total, part), rest

    batches = (jnp.asarray(starts, jnp.int32), weights, None if kept is None else kept.pairs)
    shapes, _ = jax.eval_shape(one_batch, *jax.tree.map(lambda leaf: leaf[0], batches))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return lax.scan(step, zeros, batches)
