"""Runs from several starts without a search, some of them side by side.

Source: ``docs/search.md``, *Restarts*.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

from jaxem.model.params import Params
from jaxem.model.workspace import Workspace
from jaxem.ops.sharding import STARTS_AXIS, Shards
from jaxem.runtime.arguments import as_count
from jaxem.runtime.errors import ArgumentValueError
from jaxem.solvers.em import EM
from jaxem.solvers.options import EMOptions
from jaxem.solvers.result import Fit


def as_group_size(group_size: Any, num_restarts: int, has_search: bool, shards: Shards | None) -> int:
    """How many runs are made side by side, on each group of devices as many."""
    if group_size is None:
        group_size = 1 if has_search or jax.default_backend() == "cpu" else num_restarts
    group_size = as_count("group_size", group_size, at_least=1)
    num_groups = 1 if has_search else _num_groups(shards)
    if num_restarts % num_groups:
        raise ArgumentValueError(
            "num_restarts", f"must be a multiple of the {num_groups} groups of devices, but is {num_restarts}."
        )
    return num_groups * max(1, min(group_size, num_restarts // num_groups))


def run_side_by_side(workspace: Workspace, starts: Params, group_size: int, options: EMOptions) -> Fit:
    """A run from every start, so many at a time by ``vmap``, stacked along a leading axis; to be traced."""
    run, shards = EM(workspace, options).run, workspace.images.frames.shards
    if _num_groups(shards) == 1:
        return lax.map(run, starts, batch_size=None if group_size == 1 else group_size)
    together = jax.vmap(run, spmd_axis_name=STARTS_AXIS)
    # A last group that is not full would have to be shared out unevenly.
    num_starts, num_groups = len(starts.noise_scale), _num_groups(shards)
    sizes = range(num_groups, group_size + 1, num_groups)
    group_size = max(size for size in sizes if num_starts % size == 0)
    groups = jax.tree.map(lambda leaf: leaf.reshape(-1, group_size, *leaf.shape[1:]), starts)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), lax.map(together, groups))


def _num_groups(shards: Shards | None) -> int:
    """Of devices, each of which works on starts of its own."""
    return 1 if shards is None else int(shards.mesh.shape.get(STARTS_AXIS, 1))
