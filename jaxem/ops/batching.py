"""Sums over the stack a batch of images at a time, so that memory does not grow and a batch stays in a core's cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxem.ops.double_word import add_trees


def over_batches(
    function: Callable[..., tuple[Any, Any]],
    images: Any,
    batch_size: int,
    *,
    along: Any = None,
) -> tuple[Any, Any]:
    """Of the two things that function(batch, weights, piece) gives, the first added up and the second stacked.

    All batches are of one size. The last one overlaps the one before where it must, and there its weights are zero.

    Args:
        function: gets a batch of images, their weights, and what `along` has for this batch.
        images: an array (K, ...), or a tree of such.
        batch_size: at most K (static).
        along: a tree of arrays with one entry a batch.
    """
    leaf = jax.tree.leaves(images)[0]
    num_images = len(leaf)
    firsts = np.arange(0, num_images, batch_size)
    starts = np.minimum(firsts, num_images - batch_size)
    weights = starts[:, None] + np.arange(batch_size) >= firsts[:, None]
    batches = (jnp.asarray(starts, jnp.int32), jnp.asarray(weights, leaf.dtype), along)

    def one_batch(start: jax.Array, weights: jax.Array, piece: Any) -> tuple[Any, Any]:
        batch = jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, start, batch_size), images)
        return function(batch, weights, piece)

    def step(total: Any, batch: tuple[jax.Array, jax.Array, Any]) -> tuple[Any, Any]:
        part, rest = one_batch(*batch)
        return add_trees(total, part), rest

    shapes, _ = jax.eval_shape(one_batch, *jax.tree.map(lambda leaf: leaf[0], batches))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return lax.scan(step, zeros, batches)


def unbatch(pieces: jax.Array, num_images: int) -> jax.Array:
    """What `over_batches` stacked, (number of batches, batch size, ...), as one entry an image, (K, ...)."""
    whole, last = pieces[:-1].reshape(-1, *pieces.shape[2:]), pieces[-1]
    return jnp.concatenate([whole, last[len(whole) + len(last) - num_images :]])
