"""Trees of arrays, leaf by leaf."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def select(condition: jax.Array, one: Any, other: Any) -> Any:
    """One tree or the other, by a scalar."""
    return jax.tree.map(partial(jnp.where, condition), one, other)


def entry(tree: Any, number: Any) -> Any:
    """One entry along the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[number], tree)


def set_entry(tree: Any, number: Any, value: Any) -> Any:
    """The tree with one entry along the leading axis replaced."""
    # A scatter, as ``.at[number].set`` makes one, takes longer to compile.
    return jax.tree.map(lambda leaf, new: lax.dynamic_update_index_in_dim(leaf, new, number, 0), tree, value)
