"""The search for the highest hill: several starts annealed, the best recentred, and that one climbed to its top.

Source: ``docs/method.md``, *Search*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxem import checks
from jaxem.loop import Fit, Schedule, Status, run
from jaxem.model import Params, from_stack, to_stack
from jaxem.moves import Cuts, annealing, cut_out, recentred
from jaxem.stack import Prepared
from jaxem.windows import Shape

# A start read off the images would be forgotten at a higher temperature, and so would a template that was only shifted.
COOL = 0.5
# Steps of annealing for a template of 1.5 times as many pixels as there are images, and of release for half as many
# images as corners or fewer.
ANNEALING_STEPS, PIXELS_PER_IMAGE = 20, 1.5
RELEASE_STEPS, IMAGES_PER_CORNER = 60, 0.5
# Annealing has lost the template where the posteriors' entropy is more than this share of what ignorance has. Then so
# many steps show which cuts lead somewhere.
LOST = 0.5
TRY_STEPS = 3


@dataclass(frozen=True)
class Search:
    """What `fit_restarts` does besides climbing; each part can be left out.

    Args:
        annealing_steps: from each random start, with the inverse temperature rising to 1 and the prior held uniform. By
            default 20 where the template has 1.5 times as many pixels as there are images, in proportion elsewhere, but
            at least 10 and at most 40: a template that fits noise makes posteriors certain too early.
        inverse_temperature: the first one, for random starts.
        tries: if annealing has lost the template, as it can over a flat background, so many templates cut from single
            images, see `cut_params`, are tried for three steps, and the best of them goes on.
        recentrings: at most so many times the best template is shifted, see `recentre`, annealed anew, and kept if the
            objective has risen.
        release_steps: of the best, while the prior is learned little by little. By default 60, and where there are
            more images than half the corners, fewer in proportion to the square root of corners per image.

    Raises:
        ValueError, TypeError: numbers outside their ranges.

    Example:
        >>> import jaxem
        >>> jaxem.Search(recentrings=0).num_release_steps(num_images=1000, num_corners=500)
        30

    Source: ``docs/method.md``, *Search*.
    """

    annealing_steps: int | None = None
    inverse_temperature: float = 0.1
    tries: int = 24
    recentrings: int = 2
    release_steps: int | None = None

    def __post_init__(self) -> None:
        if self.annealing_steps is not None:
            checks.as_count("annealing_steps", self.annealing_steps, at_least=1)
        checks.as_count("tries", self.tries, at_least=0)
        checks.as_count("recentrings", self.recentrings, at_least=0)
        if self.release_steps is not None:
            checks.as_count("release_steps", self.release_steps, at_least=0)
        checks.as_share("inverse_temperature", self.inverse_temperature)

    def num_annealing_steps(self, num_images: int, template_shape: Shape) -> int:
        """Annealing steps for so many images."""
        if self.annealing_steps is not None:
            return self.annealing_steps
        pixels_per_image = math.prod(template_shape) / num_images
        return round(ANNEALING_STEPS * min(max(pixels_per_image / PIXELS_PER_IMAGE, 0.5), 2))

    def num_release_steps(self, num_images: int, num_corners: int) -> int:
        """Steps of release for so many images and corners."""
        if self.release_steps is not None:
            return self.release_steps
        return round(RELEASE_STEPS * min(IMAGES_PER_CORNER * num_corners / num_images, 1) ** 0.5)


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


def plan(search: Search, num_images: int, starts: Starts, max_iterations: int) -> Leg:
    """All legs, stacked along a leading axis, in the order of their roles."""
    params = starts.params
    num_starts, dtype = len(params.noise_scale), params.noise_scale.dtype
    num_steps = search.num_annealing_steps(num_images, params.template.shape[1:])
    first, cool_first = search.inverse_temperature, max(search.inverse_temperature, COOL)
    share = math.log(cool_first) / math.log(first) if first < 1 else 1  # of the steps, at the same rate
    cool = annealing(max(1, round(share * num_steps)), start=cool_first, release_steps=0)
    hot = annealing(num_steps, start=first, release_steps=0)
    cold = annealing(num_steps, start=1, release_steps=0)
    short = annealing(TRY_STEPS, start=1, release_steps=0)
    release = annealing(0, release_steps=search.num_release_steps(num_images, params.prior[0].size))
    num_tries = 0 if starts.cuts is None else min(search.tries, num_images)
    legs = [
        (Role.START, 0, cool, 0),
        *[(Role.START, number, hot, 0) for number in range(1, num_starts)],
        *[(Role.TRY, number, short, 0) for number in range(num_tries)],
        *[(Role.RESCUE, 0, cold, 0)] * (num_tries > 0),
        *[(Role.SHIFT, 0, cool, 0)] * search.recentrings,
        (Role.TOP, 0, release, max_iterations),
    ]
    roles, numbers, schedules, limits = zip(*legs, strict=True)

    lengths = np.array([len(schedule.prior_smoothing) for schedule in schedules])
    skips = lengths.max() - lengths
    rows = [[np.pad(row, (skip, 0)) for row in schedule] for schedule, skip in zip(schedules, skips, strict=True)]
    return Leg(
        jnp.array(roles, jnp.int32),
        jnp.array(numbers, jnp.int32),
        Schedule(*(jnp.asarray(np.stack(column), dtype) for column in zip(*rows, strict=True))),
        jnp.asarray(skips, jnp.int32),
        jnp.array(limits, jnp.int32),
    )


def nothing_yet(starts: Starts, num_images: int, max_iterations: int) -> SoFar:
    """Before the first leg."""
    start = jax.tree.map(lambda leaf: leaf[0], starts.params)
    zero, unknown = jnp.int32(0), jnp.full((), jnp.nan, start.noise_scale.dtype)
    history, corners = jnp.full(max_iterations + 1, unknown), jnp.zeros((num_images, 2), jnp.int32)
    nowhere = Fit(start, unknown, history, zero, zero, zero, unknown, corners)
    return SoFar(nowhere, nowhere, zero, zero, jnp.bool_(False))


def add_leg(prepared: Prepared, starts: Starts, so_far: SoFar, leg: Leg, **options: Any) -> tuple[SoFar, Fit]:
    """Go one leg more, softly, and return what it found, too."""
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

    def climb() -> Fit:
        return run(prepared, begin, schedule=leg.schedule, skip=leg.skip, limit=leg.limit, **{**options, "hard": False})

    found = lax.cond(goes, climb, lambda: best)
    num_steps = jnp.where(goes, found.num_scheduled + found.num_iterations + 1, 0)
    lane = jnp.where(role == Role.START, leg.number, so_far.lane)
    here = SoFar(found, found, lane, num_steps, role == Role.SHIFT)
    return combine(so_far, here, role), found


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


def conclude(prepared: Prepared, so_far: SoFar, annealed: Fit, *, hard: bool, **options: Any) -> tuple[Fit, jax.Array]:
    """One `Fit` for each start and the E-steps of all: that of the best is of its whole climb, the others are left."""
    climbed, num_steps = so_far.best, so_far.num_steps
    if hard:
        climbed = run(prepared, climbed.params, hard=True, **options)
        num_steps = num_steps + climbed.num_iterations + 1
    ended = annealed.status == Status.NONFINITE
    left = annealed._replace(status=jnp.where(ended, annealed.status, jnp.int32(Status.ABANDONED)))
    return jax.tree.map(lambda lanes, one: lanes.at[so_far.lane].set(one), left, climbed), num_steps


def climb_best(prepared: Prepared, starts: Starts, search: Search, **options: Any) -> tuple[Fit, jax.Array]:
    """All legs of a search."""
    num_images, max_iterations = len(prepared.stack.images), options["max_iterations"]

    def one_leg(so_far: SoFar, leg: Leg) -> tuple[SoFar, Fit]:
        return add_leg(prepared, starts, so_far, leg, **options)

    legs = plan(search, num_images, starts, 0 if options["hard"] else max_iterations)
    so_far, found = lax.scan(one_leg, nothing_yet(starts, num_images, max_iterations), legs)
    num_starts = len(starts.params.noise_scale)
    return conclude(prepared, so_far, jax.tree.map(lambda leaf: leaf[:num_starts], found), **options)


def _shifted(prepared: Prepared, found: Fit) -> Params:
    return from_stack(recentred(prepared, to_stack(found.params, prepared.stack), found.corners), prepared.stack)


def _cut(prepared: Prepared, starts: Starts, number: jax.Array) -> Params:
    if starts.cuts is None:
        return jax.tree.map(lambda leaf: leaf[0], starts.params)
    return from_stack(cut_out(prepared, starts.cuts, number, starts.params.template.shape[1:]), prepared.stack)
