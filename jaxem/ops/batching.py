"""Sums over the stack a batch of images at a time, so that memory does not grow and a batch stays in a core's cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxem.ops.double_word import add_trees
from jaxem.ops.sharding import Shards, over_shards


def over_batches(
    function: Callable[..., tuple[Any, Any]],
    images: Any,
    batch_size: int,
    *,
    along: Any = None,
    shards: Shards | None = None,
) -> tuple[Any, Any]:
    """Of the two things that function(batch, weights, piece) gives, the first added up and the second stacked.

    All batches are of one size. The last one overlaps the one before where it must, and there its weights are zero.

    Args:
        function: gets a batch of images, their weights, and what `along` has for this batch; see `over_shards`.
        images: an array (K, ...), or a tree of such.
        batch_size: at most K, or as many as a shard has (static).
        along: a tree of arrays with one entry a batch.
        shards: how the images are shared out over devices, each of which goes through batches of its own.
    """

    def in_shard(function: Callable[..., tuple[Any, Any]], images: Any, along: Any) -> tuple[Any, Any]:
        leaf = jax.tree.leaves(images)[0]
        num_images = len(leaf)
        firsts = np.arange(0, num_images, batch_size)
        starts = np.minimum(firsts, num_images - batch_size)
        weights = starts[:, None] + np.arange(batch_size) >= firsts[:, None]
        batches = (jnp.asarray(starts, jnp.int32), jnp.asarray(weights, leaf.dtype), along)

        def one_batch(batch: tuple[jax.Array, jax.Array, Any]) -> tuple[Any, Any]:
            start, weights, piece = batch
            own = jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, start, batch_size), images)
            return function(own, weights, piece)

        return _summed(one_batch, batches)

    return over_shards(in_shard, shards, function, images, along)


def over_images(function: Callable[[Any], tuple[Any, Any]], images: Any, *, shards: Shards | None = None) -> Any:
    """The same of single images, for what needs no batches: of what function(image) gives, the sum and the stack."""
    return over_shards(_summed, shards, function, images)


def _summed(function: Callable[[Any], tuple[Any, Any]], entries: Any) -> tuple[Any, Any]:
    """Over the entries of a tree of arrays, one after the other."""

    def step(total: Any, entry: Any) -> tuple[Any, Any]:
        part, rest = function(entry)
        return add_trees(total, part), rest

    shapes, _ = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], entries))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return lax.scan(step, zeros, entries)


def unbatch(pieces: jax.Array, num_images: int, shards: Shards | None = None) -> jax.Array:
    """What `over_batches` stacked, (number of batches, batch size, ...), as one entry an image, (K, ...)."""
    if shards is not None:
        of_each = pieces.reshape(shards.count, -1, *pieces.shape[1:])
        whole = jax.vmap(lambda pieces: unbatch(pieces, num_images // shards.count))(of_each)
        return whole.reshape(num_images, *pieces.shape[2:])
    whole, last = pieces[:-1].reshape(-1, *pieces.shape[2:]), pieces[-1]
    return jnp.concatenate([whole, last[len(whole) + len(last) - num_images :]])
