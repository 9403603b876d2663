"""The search for the highest hill: several starts annealed, the best recentred, and that one climbed to its top.

Source: ``docs/method.md``, *Search*.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxem import checks
from jaxem.loop import Fit, Schedule, run_after
from jaxem.model import Params, from_stack, to_stack
from jaxem.moves import annealing, recentred
from jaxem.stack import Prepared

# A start read off the images would be forgotten at a higher temperature, and so would a template that was only shifted.
COOL = 0.3


@dataclass(frozen=True)
class Search:
    """What `fit_restarts` does besides climbing; each part can be left out.

    Args:
        annealing_steps: from each starting point, with the inverse temperature rising to 1 and the prior held uniform.
        inverse_temperature: the first one, for random starts.
        recentrings: at most so many times the best template is shifted, see `recentre`, annealed anew, and kept if the
            objective has risen.
        release_steps: of the best, while the prior is learned little by little.

    Raises:
        ValueError, TypeError: numbers outside their ranges.

    Example:
        >>> import jaxem
        >>> jaxem.Search(recentrings=0).annealing_steps
        20

    Source: ``docs/method.md``, *Search*.
    """

    annealing_steps: int = 20
    inverse_temperature: float = 0.1
    recentrings: int = 2
    release_steps: int = 40

    def __post_init__(self) -> None:
        checks.as_count("annealing_steps", self.annealing_steps, at_least=1)
        checks.as_count("recentrings", self.recentrings, at_least=0)
        checks.as_count("release_steps", self.release_steps, at_least=0)
        checks.as_share("inverse_temperature", self.inverse_temperature)


def climb_best(prepared: Prepared, starts: Params, search: Search, *, max_iterations: int, **options: Any) -> Fit:
    """One `Fit` for each of the starting points, which are stacked along a leading axis; the first is not a random one.

    That of the best is of its whole climb; the others were left where their annealing had led.
    """
    num_starts, dtype = len(starts.noise_scale), starts.noise_scale.dtype
    hot = annealing(search.annealing_steps, start=search.inverse_temperature, release_steps=0)
    cool = annealing(search.annealing_steps, start=max(search.inverse_temperature, COOL), release_steps=0)
    temperatures = np.tile(cool.inverse_temperature, (num_starts + search.recentrings, 1))
    temperatures[1:num_starts] = hot.inverse_temperature

    def anneal(params: Params, temperatures: jax.Array) -> Fit:
        schedule = Schedule(temperatures, jnp.asarray(cool.prior_smoothing, dtype))
        return run_after(schedule, prepared, params, max_iterations=0, **options)

    def leg(so_far: tuple[Fit, jax.Array], inputs: tuple[jax.Array, jax.Array]) -> tuple[tuple[Fit, jax.Array], Fit]:
        (best, lane), (number, temperatures) = so_far, inputs
        is_start = number < num_starts
        start = jax.tree.map(lambda leaf: leaf[jnp.minimum(number, num_starts - 1)], starts)
        begin = lax.cond(is_start, lambda: start, lambda: _shift(prepared, best.params))
        worthwhile = is_start | jnp.any(begin.template != best.params.template)
        found = lax.cond(worthwhile, lambda: anneal(begin, temperatures), lambda: best)
        higher = jnp.isfinite(found.elbo) & ~(found.elbo <= best.elbo)
        best = jax.tree.map(partial(jnp.where, higher), found, best)
        return (best, jnp.where(higher & is_start, number, lane)), found

    unknown = jnp.full((), jnp.nan, dtype)
    nowhere = Fit(jax.tree.map(lambda leaf: leaf[0], starts), unknown, unknown[None], jnp.int32(0), jnp.int32(0))
    legs = jnp.arange(len(temperatures), dtype=jnp.int32), jnp.asarray(temperatures, dtype)
    (best, lane), found = lax.scan(leg, (nowhere, jnp.int32(0)), legs)

    release = Schedule(*(jnp.asarray(row, dtype) for row in annealing(0, release_steps=search.release_steps)))
    climbed = run_after(release, prepared, best.params, max_iterations=max_iterations, **options)
    left = jax.tree.map(lambda leaf: leaf[:num_starts], found)
    left = left._replace(history=jnp.pad(left.history, ((0, 0), (0, max_iterations)), constant_values=jnp.nan))
    return jax.tree.map(lambda lanes, one: lanes.at[lane].set(one), left, climbed)


def _shift(prepared: Prepared, params: Params) -> Params:
    return from_stack(recentred(prepared, to_stack(params, prepared.stack)), prepared.stack)
