"""The search for the highest hill: several starts annealed, the best recentred, and that one climbed to its top.

Source: ``docs/method.md``, *Search*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxem import checks
from jaxem.loop import Fit, Schedule, Status, run
from jaxem.model import Params, from_stack, to_stack
from jaxem.moves import annealing, recentred
from jaxem.stack import Prepared
from jaxem.windows import Shape

# A start read off the images would be forgotten at a higher temperature, and so would a template that was only shifted.
COOL = 0.5
# Annealing steps where images are many, and how many pixels of the template to an image are few enough for that.
STEPS, FEW_PIXELS = 20, 1.5
# Annealing has lost the template where the posteriors' entropy is more than this share of what ignorance has.
LOST = 0.5


@dataclass(frozen=True)
class Search:
    """What `fit_restarts` does besides climbing; each part can be left out.

    Args:
        annealing_steps: from each random start, with the inverse temperature rising to 1 and the prior held uniform. By
            default 20, and up to 40 where the template has more than 1.5 times as many pixels as there are images: a
            template that fits noise makes posteriors certain too early.
        inverse_temperature: the first one, for random starts. If that has lost the template, as it can over a flat
            background, the starts are taken again at 1.
        recentrings: at most so many times the best template is shifted, see `recentre`, annealed anew, and kept if the
            objective has risen.
        release_steps: of the best, while the prior is learned little by little.

    Raises:
        ValueError, TypeError: numbers outside their ranges.

    Example:
        >>> import jaxem
        >>> jaxem.Search(recentrings=0).release_steps
        60

    Source: ``docs/method.md``, *Search*.
    """

    annealing_steps: int | None = None
    inverse_temperature: float = 0.1
    recentrings: int = 2
    release_steps: int = 60

    def __post_init__(self) -> None:
        if self.annealing_steps is not None:
            checks.as_count("annealing_steps", self.annealing_steps, at_least=1)
        checks.as_count("recentrings", self.recentrings, at_least=0)
        checks.as_count("release_steps", self.release_steps, at_least=0)
        checks.as_share("inverse_temperature", self.inverse_temperature)

    def num_annealing_steps(self, num_images: int, template_shape: Shape) -> int:
        """Annealing steps for so many images."""
        if self.annealing_steps is not None:
            return self.annealing_steps
        pixels_per_image = math.prod(template_shape) / num_images
        return round(STEPS * min(max(pixels_per_image / FEW_PIXELS, 1), 2))


class Leg(NamedTuple):
    """A part of a search: what it begins with, a schedule without its first steps, then iterations.

    ========  ==========  =========================================================================
    field     shape       meaning
    ========  ==========  =========================================================================
    start     () int32    which of the starts it begins with, or -1: with the best so far
    rescues   () bool     whether it is left out unless annealing has lost the template
    shifts    () bool     whether it begins with a shift of the best so far
    schedule  `Schedule`  as long in every leg, so that one program does for all of them
    skip      () int32    steps of it left out, from the first
    limit     () int32    iterations after it, at most
    ========  ==========  =========================================================================
    """

    start: jax.Array
    rescues: jax.Array
    shifts: jax.Array
    schedule: Schedule
    skip: jax.Array
    limit: jax.Array


class SoFar(NamedTuple):
    """What a search has found.

    =========  ========  ====================================================
    field      shape     meaning
    =========  ========  ====================================================
    best       `Fit`     the highest of all legs
    lane       () int32  the start that led there
    num_steps  () int32  E-steps of all legs
    in_vain    () bool   whether shifting the best has been tried and failed
    =========  ========  ====================================================
    """

    best: Fit
    lane: jax.Array
    num_steps: jax.Array
    in_vain: jax.Array


def plan(search: Search, num_images: int, starts: Params, max_iterations: int) -> Leg:
    """All legs, stacked along a leading axis: the starts, rescues, recentrings, and the climb to the top."""
    num_starts, dtype = len(starts.noise_scale), starts.noise_scale.dtype
    num_steps = search.num_annealing_steps(num_images, starts.template.shape[1:])
    first, cool_first = search.inverse_temperature, max(search.inverse_temperature, COOL)
    share = math.log(cool_first) / math.log(first) if first < 1 else 1  # of the steps, at the same rate
    cool = annealing(max(1, round(share * num_steps)), start=cool_first, release_steps=0)
    hot = annealing(num_steps, start=first, release_steps=0)
    cold = annealing(num_steps, start=1, release_steps=0)
    release = annealing(0, release_steps=search.release_steps)
    drawn = range(min(1, num_starts - 1), num_starts)
    legs = [
        (0, False, False, cool, 0),
        *[(start, False, False, hot, 0) for start in range(1, num_starts)],
        *[(start, True, False, cold, 0) for start in drawn],
        *[(-1, False, True, cool, 0)] * search.recentrings,
        (-1, False, False, release, max_iterations),
    ]
    begins, rescues, shifts, schedules, limits = zip(*legs, strict=True)

    lengths = np.array([len(schedule.prior_smoothing) for schedule in schedules])
    skips = lengths.max() - lengths
    rows = [[np.pad(row, (skip, 0)) for row in schedule] for schedule, skip in zip(schedules, skips, strict=True)]
    return Leg(
        jnp.array(begins, jnp.int32),
        jnp.array(rescues),
        jnp.array(shifts),
        Schedule(*(jnp.asarray(np.stack(column), dtype) for column in zip(*rows, strict=True))),
        jnp.asarray(skips, jnp.int32),
        jnp.array(limits, jnp.int32),
    )


def nothing_yet(start: Params, num_images: int, max_iterations: int) -> SoFar:
    """Before the first leg."""
    zero, unknown = jnp.int32(0), jnp.full((), jnp.nan, start.noise_scale.dtype)
    history, corners = jnp.full(max_iterations + 1, unknown), jnp.zeros((num_images, 2), jnp.int32)
    nowhere = Fit(start, unknown, history, zero, zero, zero, unknown, corners)
    return SoFar(nowhere, zero, zero, jnp.bool_(False))


def add_leg(prepared: Prepared, starts: Params, so_far: SoFar, leg: Leg, **options: Any) -> tuple[SoFar, Fit]:
    """Go one leg more, softly, and return what it found, too. The starts are stacked along a leading axis."""
    best, is_start = so_far.best, leg.start >= 0
    tries = leg.shifts & ~so_far.in_vain
    lost = best.entropy > LOST * math.log(best.params.prior.size)

    def from_best() -> Params:
        return lax.cond(tries, lambda: _shifted(prepared, best), lambda: best.params)

    def from_start() -> Params:
        return jax.tree.map(lambda leaf: leaf[jnp.maximum(leg.start, 0)], starts)

    begin = lax.cond(is_start, from_start, from_best)
    goes = (~leg.shifts | jnp.any(begin.template != best.params.template)) & (~leg.rescues | lost)

    def climb() -> Fit:
        return run(prepared, begin, schedule=leg.schedule, skip=leg.skip, limit=leg.limit, **{**options, "hard": False})

    found = lax.cond(goes, climb, lambda: best)
    num_steps = jnp.where(goes, found.num_scheduled + found.num_iterations + 1, 0)
    lane = jnp.where(is_start, leg.start, so_far.lane)
    here = SoFar(found, lane, num_steps, jnp.bool_(False))
    # The last leg may lower the objective by a nat of rounding; it is the only one that ends with a status.
    added = higher(so_far, here, always=~(is_start | leg.shifts))
    return added._replace(in_vain=leg.shifts & (added.best.elbo == best.elbo)), found


def higher(one: SoFar, other: SoFar, always: jax.Array | bool = False) -> SoFar:
    """The one that stands higher, with the steps of both; the first where they stand alike."""
    takes = always | jnp.isfinite(other.best.elbo) & ~(other.best.elbo <= one.best.elbo)
    chosen = jax.tree.map(partial(jnp.where, takes), other, one)
    return chosen._replace(num_steps=one.num_steps + other.num_steps)


def conclude(prepared: Prepared, so_far: SoFar, annealed: Fit, *, hard: bool, **options: Any) -> tuple[Fit, jax.Array]:
    """One `Fit` for each start and the E-steps of all: that of the best is of its whole climb, the others are left."""
    climbed, num_steps = so_far.best, so_far.num_steps
    if hard:
        climbed = run(prepared, climbed.params, hard=True, **options)
        num_steps = num_steps + climbed.num_iterations + 1
    ended = annealed.status == Status.NONFINITE
    left = annealed._replace(status=jnp.where(ended, annealed.status, jnp.int32(Status.ABANDONED)))
    return jax.tree.map(lambda lanes, one: lanes.at[so_far.lane].set(one), left, climbed), num_steps


def climb_best(prepared: Prepared, starts: Params, search: Search, **options: Any) -> tuple[Fit, jax.Array]:
    """All legs of a search from starts that are stacked along a leading axis, the first of them not a random one."""
    num_starts, max_iterations = len(starts.noise_scale), options["max_iterations"]

    def one_leg(so_far: SoFar, leg: Leg) -> tuple[SoFar, Fit]:
        return add_leg(prepared, starts, so_far, leg, **options)

    legs = plan(search, len(prepared.stack.images), starts, 0 if options["hard"] else max_iterations)
    begin = nothing_yet(jax.tree.map(lambda leaf: leaf[0], starts), len(prepared.stack.images), max_iterations)
    so_far, found = lax.scan(one_leg, begin, legs)
    return conclude(prepared, so_far, jax.tree.map(lambda leaf: leaf[:num_starts], found), **options)


def _shifted(prepared: Prepared, found: Fit) -> Params:
    return from_stack(recentred(prepared, to_stack(found.params, prepared.stack), found.corners), prepared.stack)
