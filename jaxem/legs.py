"""The parts that a search is made of: where each begins, how it goes on, and what is known after it.

A leg is a run with something before it. It can be stopped after any step, as the run can. Source: ``docs/method.md``,
*Search*.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.loop import Climb, Climbing, Fit, Schedule
from jaxem.model import Params, from_stack, to_stack
from jaxem.moves import Cuts, cut_out, recentred
from jaxem.stack import Prepared

# Annealing has lost the template where the posteriors' entropy is more than this share of what ignorance has.
LOST = 0.5


class Role(IntEnum):
    """What a leg of a search is for."""

    START = 0  # anneal one of the starts
    TRY = 1  # a few steps from one of the cuts, if annealing has lost the template
    RESCUE = 2  # go on from the best of those
    SHIFT = 3  # recentre the best so far and anneal it anew
    TOP = 4  # release the prior and climb to the top


class Leg(NamedTuple):
    """A part of a search: what it begins with, a schedule without its first steps, then iterations.

    ========  ==========  ==================================================================
    field     shape       meaning
    ========  ==========  ==================================================================
    role      () int32    a `Role`
    number    () int32    of the start or the cut it begins with
    schedule  `Schedule`  as long in every leg, so that one program does for all of them
    skip      () int32    steps of it left out, from the first
    limit     () int32    iterations after it, at most
    ========  ==========  ==================================================================
    """

    role: jax.Array
    number: jax.Array
    schedule: Schedule
    skip: jax.Array
    limit: jax.Array


class Starts(NamedTuple):
    """Where a search begins.

    ======  ========  =============================================
    field   shape     meaning
    ======  ========  =============================================
    params  `Params`  the starting points, along a leading axis
    cuts    `Cuts`    where to look for more if those lead nowhere;
            or None   plain restarts do not
    ======  ========  =============================================
    """

    params: Params
    cuts: Cuts | None


class SoFar(NamedTuple):
    """What a search has found.

    =========  ========  ====================================================
    field      shape     meaning
    =========  ========  ====================================================
    best       `Fit`     the highest of all legs but tries
    tried      `Fit`     the highest of the tries
    lane       () int32  the start that led to the best
    num_steps  () int32  E-steps of all legs
    in_vain    () bool   whether shifting the best has been tried and failed
    =========  ========  ====================================================
    """

    best: Fit
    tried: Fit
    lane: jax.Array
    num_steps: jax.Array
    in_vain: jax.Array


def nothing_yet(starts: Starts, num_images: int, max_iterations: int) -> SoFar:
    """Before the first leg."""
    start = jax.tree.map(lambda leaf: leaf[0], starts.params)
    zero, unknown = jnp.int32(0), jnp.full((), jnp.nan, start.noise_scale.dtype)
    history, corners = jnp.full(max_iterations + 1, unknown), jnp.zeros((num_images, 2), jnp.int32)
    nowhere = Fit(start, unknown, history, zero, zero, zero, unknown, corners)
    return SoFar(nowhere, nowhere, zero, zero, jnp.bool_(False))


class Walk(NamedTuple):
    """Where a leg is.

    ========  ==========  =====================================================
    field     shape       meaning
    ========  ==========  =====================================================
    climbing  `Climbing`  where its run is
    goes      () bool     whether it is gone at all; rescues often are not
    ========  ==========  =====================================================
    """

    climbing: Climbing
    goes: jax.Array


def begin_leg(prepared: Prepared, starts: Starts, so_far: SoFar, leg: Leg, **options: Any) -> Walk:
    """Where a leg begins, after what was found so far."""
    best, role = so_far.best, leg.role

    def shifted() -> Params:
        return lax.cond(so_far.in_vain, lambda: best.params, lambda: _shifted(prepared, best))

    begin = lax.switch(
        role,
        [
            lambda: jax.tree.map(lambda leaf: leaf[leg.number], starts.params),
            lambda: _cut(prepared, starts, leg.number),
            lambda: so_far.tried.params,
            shifted,
            lambda: best.params,
        ],
    )
    rescues = (role == Role.TRY) | (role == Role.RESCUE)
    goes = (~rescues | is_lost(best)) & ((role != Role.SHIFT) | jnp.any(begin.template != best.params.template))
    return Walk(_climb(prepared, leg, options).begin(begin), goes)


def advance_leg(
    prepared: Prepared, leg: Leg, walk: Walk, num_steps: jax.Array | None = None, **options: Any
) -> tuple[Walk, jax.Array]:
    """Go on to its end, or by so many steps at most; and whether there are more."""
    climb = _climb(prepared, leg, options)
    climbing = lax.cond(walk.goes, lambda: climb.advance(walk.climbing, num_steps), lambda: walk.climbing)
    return walk._replace(climbing=climbing), walk.goes & climb.is_under_way(climbing)


def end_leg(prepared: Prepared, so_far: SoFar, leg: Leg, walk: Walk, **options: Any) -> tuple[SoFar, Fit]:
    """What is known after a leg, and what it found itself: the best so far where it was not gone."""
    role = leg.role
    found = _choose(walk.goes, _climb(prepared, leg, options).end(walk.climbing), so_far.best)
    num_steps = jnp.where(walk.goes, found.num_scheduled + found.num_iterations + 1, 0)
    lane = jnp.where(role == Role.START, leg.number, so_far.lane)
    here = SoFar(found, found, lane, num_steps, role == Role.SHIFT)
    return combine(so_far, here, role), found


def _climb(prepared: Prepared, leg: Leg, options: dict[str, Any]) -> Climb:
    """The soft run of a leg."""
    return Climb(prepared, schedule=leg.schedule, skip=leg.skip, limit=leg.limit, **{**options, "hard": False})


def combine(so_far: SoFar, here: SoFar, role: jax.Array | int) -> SoFar:
    """What is known after a leg, or after all legs of a role on one core: the higher, and the steps of both."""
    # The last leg may lower the objective by a nat of rounding; it is the only one that ends with a status.
    better = (role != Role.TRY) & ((role == Role.TOP) | _is_higher(here.best, so_far.best))
    best, lane = _choose(better, (here.best, here.lane), (so_far.best, so_far.lane))
    tried = _choose((role == Role.TRY) & _is_higher(here.tried, so_far.tried), here.tried, so_far.tried)
    return SoFar(best, tried, lane, so_far.num_steps + here.num_steps, here.in_vain & ~better)


def is_lost(best: Fit) -> jax.Array:
    """Whether annealing has lost the template, so that positions are as open as at first."""
    return best.entropy > LOST * math.log(best.params.prior.size)


def _is_higher(one: Fit, other: Fit) -> jax.Array:
    return jnp.isfinite(one.elbo) & ~(one.elbo <= other.elbo)


def _choose(first: jax.Array, one: Any, other: Any) -> Any:
    return jax.tree.map(partial(jnp.where, first), one, other)


def _shifted(prepared: Prepared, found: Fit) -> Params:
    return from_stack(recentred(prepared, to_stack(found.params, prepared.stack), found.corners), prepared.stack)


def _cut(prepared: Prepared, starts: Starts, number: jax.Array) -> Params:
    if starts.cuts is None:
        return jax.tree.map(lambda leaf: leaf[0], starts.params)
    return from_stack(cut_out(prepared, starts.cuts, number, starts.params.template.shape[1:]), prepared.stack)
