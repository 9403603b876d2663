"""The search for the highest hill: several starts annealed, the best recentred, and that one climbed to its top.

Source: ``docs/method.md``, *Search*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxem import checks
from jaxem.legs import Leg, Role, SoFar, Starts, advance_leg, begin_leg, end_leg, nothing_yet
from jaxem.loop import Fit, Schedule, Status
from jaxem.moves import annealing
from jaxem.runs import run
from jaxem.stack import Prepared
from jaxem.windows import Shape

# A start read off the images would be forgotten at a higher temperature, and so would a template that was only shifted.
COOL = 0.5
# Steps of annealing for a template of 1.5 times as many pixels as there are images, and of release for half as many
# images as corners or fewer.
ANNEALING_STEPS, PIXELS_PER_IMAGE = 20, 1.5
RELEASE_STEPS, IMAGES_PER_CORNER = 60, 0.5
# So many steps show which cuts lead somewhere; two show it no better.
TRY_STEPS = 1


@dataclass(frozen=True)
class Search:
    """What `fit_restarts` does besides climbing; each part can be left out.

    Args:
        annealing_steps: from each random start, with the inverse temperature rising to 1 and the prior held uniform. By
            default 20 where the template has 1.5 times as many pixels as there are images, in proportion elsewhere, but
            at least 10 and at most 40: a template that fits noise makes posteriors certain too early.
        inverse_temperature: the first one, for random starts.
        tries: if annealing has lost the template, as it can over a flat background, so many templates cut from single
            images, see `cut_params`, are tried for a step, and the best of them goes on.
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
    tries: int = 12
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


def climb_best(prepared: Prepared, starts: Starts, search: Search, **options: Any) -> tuple[Fit, jax.Array]:
    """All legs of a search."""
    num_images, max_iterations = len(prepared.stack.images), options["max_iterations"]

    def one_leg(so_far: SoFar, leg: Leg) -> tuple[SoFar, Fit]:
        walk, _ = advance_leg(prepared, leg, begin_leg(prepared, starts, so_far, leg, **options), **options)
        return end_leg(prepared, so_far, leg, walk, **options)

    legs = plan(search, num_images, starts, 0 if options["hard"] else max_iterations)
    so_far, found = lax.scan(one_leg, nothing_yet(starts, num_images, max_iterations), legs)
    annealed = jax.tree.map(lambda leaf: leaf[: len(starts.params.noise_scale)], found)
    return conclude(so_far, annealed, run(prepared, so_far.best.params, **options) if options["hard"] else None)


def conclude(so_far: SoFar, annealed: Fit, hard: Fit | None = None) -> tuple[Fit, jax.Array]:
    """One `Fit` for each start and the E-steps of all.

    That of the best is of its whole climb, in hard EM of the hard run that followed; the others were left.
    """
    climbed, num_steps = so_far.best, so_far.num_steps
    if hard is not None:
        climbed = hard
        num_steps = num_steps + climbed.num_iterations + 1
    ended = annealed.status == Status.NONFINITE
    left = annealed._replace(status=jnp.where(ended, annealed.status, jnp.int32(Status.ABANDONED)))
    return jax.tree.map(lambda lanes, one: lanes.at[so_far.lane].set(one), left, climbed), num_steps
