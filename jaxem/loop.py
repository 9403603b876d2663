"""One EM run: a `lax.while_loop` around the two steps, its stopping rule, its history and an honest status.

A run can be stopped after any step and goes on as if it had not been. Derivations: ``docs/method.md``, *The loop*.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem import compensated
from jaxem.acceleration import extrapolate
from jaxem.compensated import Pair, pair
from jaxem.model import Params, from_stack, to_stack
from jaxem.stack import Prepared
from jaxem.steps import (
    Expectation,
    LogRatio,
    Statistics,
    expectation,
    log_density,
    log_smoothing,
    maximise,
    mean_entropy,
)

# A schedule is left when the best corners lack less than this of all probability, nats per image, and less of it moved.
SETTLED = 0.01
# An accelerated run leaps where an iteration moves less than this of all probability: before, it would leap elsewhere.
NEAR = 0.005


class Status(IntEnum):
    """How a run ended. `Status(int(fit.status))` gives the name, `.explanation` a sentence."""

    RUNNING = 0
    CONVERGED = 1
    MAX_ITERATIONS = 2
    DECREASED = 3
    NONFINITE = 4
    ABANDONED = 5

    @property
    def explanation(self) -> str:
        """What the status means, in a sentence."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Status.RUNNING: "The run has not ended.",
    Status.CONVERGED: "The last iteration gained less than the tolerance.",
    Status.MAX_ITERATIONS: "The iterations ran out while the objective was still rising; allow more.",
    Status.DECREASED: "The objective fell by more than rounding explains.",
    Status.NONFINITE: "An iteration gave NaN or infinity; the last finite parameters were kept.",
    Status.ABANDONED: "Another start stood higher after annealing, so this one was not climbed to its top.",
}


class Fit(NamedTuple):
    """What one run found.

    ==============  =====================  ===================================================================
    field           shape                  meaning, unit
    ==============  =====================  ===================================================================
    params          `Params`               the parameters
    elbo            ()                     the objective at those parameters, nats
    history         (max_iterations + 1,)  the objective at the start and after each iteration, NaN after the end
    num_iterations  () int32               iterations kept; ``history[num_iterations] == elbo``
    status          () int32               a `Status`
    num_scheduled   () int32               steps of a `Schedule` made before
    entropy         ()                     mean entropy of the posteriors, nats; its exponential is the effective number
                                           of positions an image
    corners         (K, 2) int32           the best corner of each image: row, column of the window's upper left pixel
    ==============  =====================  ===================================================================

    The objective is the ELBO at the exact posterior, that is the log likelihood; in hard EM the log joint of the images
    and their best corners; with prior smoothing alpha, (alpha / PQ) sum_d ln A(d) more.
    """

    params: Params
    elbo: jax.Array
    history: jax.Array
    num_iterations: jax.Array
    status: jax.Array
    num_scheduled: jax.Array
    entropy: jax.Array
    corners: jax.Array


class Schedule(NamedTuple):
    """Steps before the first iteration, on an objective that is easier to climb; see ``docs/method.md``, *Search*.

    The rest of them is left out when the posteriors are certain and have come to rest.

    ===================  ======  ===========================================================================
    field                shape   meaning
    ===================  ======  ===========================================================================
    inverse_temperature  (n,)    how much of the log likelihood ratio each E-step believes, above 0, up to 1
    prior_smoothing      (n,)    pseudo-counts per image in each M-step, spread evenly over all corners
    ===================  ======  ===========================================================================
    """

    inverse_temperature: jax.Array
    prior_smoothing: jax.Array


class Climbing(NamedTuple):
    """Where a run is; all that `Climb.advance` needs to go on.

    ==============  =============  ===============================================================================
    field           shape          meaning
    ==============  =============  ===============================================================================
    params          `Params`       the parameters, as the stack sees them
    expected        `Expectation`  the E-step there
    elbo            `Pair`         the objective there
    history         (m + 1,)       of it
    num_iterations  () int32       of the last E-step; those of a schedule count up to -1, the start of the run is 0
    num_scheduled   () int32       steps of the schedule made
    status          () int32       a `Status`
    before          `Params`       the parameters before the last step
    leaps           () bool        whether the next step is an extrapolation
    given           `Params`       where the run began, in the units of the images
    ==============  =============  ===============================================================================
    """

    params: Params
    expected: Expectation
    elbo: Pair
    history: jax.Array
    num_iterations: jax.Array
    num_scheduled: jax.Array
    status: jax.Array
    before: Params
    leaps: jax.Array
    given: Params


@dataclass(frozen=True)
class Climb:
    """One EM run on a prepared stack, to be traced: `begin`, `advance` as often as wanted, `end`.

    The options are those of `fit`. Of the schedule the first `skip` steps are left out; the iterations after it are at
    most `limit` (both traced).
    """

    prepared: Prepared
    hard: bool
    prior_smoothing: jax.Array
    max_iterations: int
    tolerance: jax.Array
    schedule: Schedule | None = None
    skip: jax.Array | int = 0
    limit: jax.Array | None = None
    accelerate: bool = False

    def begin(self, params: Params) -> Climbing:
        """Before the first E-step, which only looks at where the run starts."""
        num_images = len(self.prepared.stack.images)
        start = to_stack(params, self.prepared.stack)
        template, background, _, prior = jax.tree.map(jnp.zeros_like, start)
        nothing = Statistics(prior, background, template, background)
        unknown = pair(jnp.full_like(start.noise_scale, jnp.nan))
        return Climbing(
            start,
            Expectation(nothing, LogRatio(unknown, unknown, unknown), jnp.zeros((num_images, 2), jnp.int32)),
            unknown,
            jnp.full(self.max_iterations + 1, jnp.nan, start.template.dtype),
            self._first,
            jnp.int32(0),
            jnp.int32(Status.RUNNING),
            start,
            jnp.bool_(False),
            params,
        )

    def advance(self, state: Climbing, num_steps: jax.Array | None = None) -> Climbing:
        """Go on to the end, or by so many steps at most."""
        if num_steps is None:
            return lax.while_loop(self.is_under_way, self._step, state)

        def unfinished(counted: tuple[Climbing, jax.Array]) -> jax.Array:
            return self.is_under_way(counted[0]) & (counted[1] > 0)

        def step(counted: tuple[Climbing, jax.Array]) -> tuple[Climbing, jax.Array]:
            return self._step(counted[0]), counted[1] - 1

        return lax.while_loop(unfinished, step, (state, num_steps))[0]

    def is_under_way(self, state: Climbing) -> jax.Array:
        """Whether there is a step to make."""
        most = self.max_iterations if self.limit is None else self.limit
        return (state.status == Status.RUNNING) & (state.num_iterations < most)

    def end(self, state: Climbing) -> Fit:
        """What was found."""
        stack, totals = self.prepared
        status = jnp.where(state.status == Status.RUNNING, Status.MAX_ITERATIONS, state.status).astype(jnp.int32)
        moved = state.num_iterations > self._first + 1
        found = jax.tree.map(partial(jnp.where, moved), from_stack(state.params, stack), state.given)
        elbo = jnp.where(state.num_iterations < 0, jnp.nan, state.elbo.high)
        return Fit(
            found,
            elbo,
            state.history,
            jnp.maximum(state.num_iterations, 0),
            status,
            state.num_scheduled,
            mean_entropy(stack, totals, state.params, state.expected),
            state.expected.corners,
        )

    @property
    def _num_before(self) -> int:
        return 0 if self.schedule is None else len(self.schedule.prior_smoothing)

    @property
    def _first(self) -> jax.Array:
        """The number before that of the first E-step."""
        return jnp.int32(self.skip) - 1 - self._num_before

    def _scheduled(self, e_step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Inverse temperature of an E-step, 0 being the first after the schedule, and smoothing of its M-step."""
        schedule, num_before, prior_smoothing = self.schedule, self._num_before, self.prior_smoothing
        if schedule is None or num_before == 0:
            return jnp.ones_like(prior_smoothing), prior_smoothing
        at = jnp.clip(e_step + num_before, 0, num_before - 1)
        num_images = len(self.prepared.stack.images)
        smoothing = jnp.maximum(prior_smoothing, num_images * schedule.prior_smoothing[at])
        over = e_step >= 0
        return jnp.where(over, 1, schedule.inverse_temperature[at]), jnp.where(over, prior_smoothing, smoothing)

    def _rounding(self, state: Climbing) -> jax.Array:
        # The ELBO is a sum of terms of its own size, and a difference of sums of squares over 2 s^2.
        stack, totals = self.prepared
        squares = totals.square_sum.high + len(stack.images) * jnp.sum(stack.reference**2)
        size = jnp.abs(state.elbo.high) + squares / (2 * state.params.noise_scale**2)
        return 8 * jnp.finfo(size.dtype).eps * size

    def _improve(self, state: Climbing) -> Params:
        smoothing = self._scheduled(state.num_iterations)[1]
        params = maximise(*self.prepared, state.expected.statistics, smoothing)
        if self._leaps:
            leap = extrapolate(state.before, state.params, params)
            params = jax.tree.map(partial(jnp.where, state.leaps), leap, params)
        params = params if self.hard else _keep_possible(params, state.params)
        # The first E-step only looks at where the run starts; so one is compiled, not two.
        return jax.tree.map(partial(jnp.where, state.num_iterations == self._first), state.params, params)

    @property
    def _leaps(self) -> bool:
        return self.accelerate and not self.hard

    def _step(self, state: Climbing) -> Climbing:
        """M, then E; and what that means."""
        stack, totals = self.prepared
        num_images, prior_smoothing, tolerance = len(stack.images), self.prior_smoothing, self.tolerance
        params, num_iterations = self._improve(state), state.num_iterations + 1
        temperature = 1 / self._scheduled(num_iterations)[0]
        tempered = params._replace(noise_scale=params.noise_scale * jnp.sqrt(temperature))
        expected = expectation(stack, tempered, hard=self.hard)
        statistics, ratio, _ = expected
        density = log_density(stack, totals, params, ratio)
        objective = _add_penalty(density, log_smoothing(params.prior, prior_smoothing))
        gain = compensated.subtract(objective, state.elbo).high
        still = (gain < tolerance * num_images) | ((gain <= 0) & (tolerance >= 0))
        status = jnp.where(still, Status.CONVERGED, Status.RUNNING)
        status = jnp.where(gain < -self._rounding(state), Status.DECREASED, status)

        # The objective may start at minus infinity, where a prior with zeros is smoothed: the first step mends that.
        at_start = state.num_iterations < 0
        status = jnp.where(at_start | state.leaps, Status.RUNNING, status)
        sound = jnp.where(at_start, jnp.isfinite(density.high) & (prior_smoothing >= 0), jnp.isfinite(objective.high))
        place = jnp.where(num_iterations < 0, self.max_iterations + 1, num_iterations)
        moved = jnp.sum(jnp.abs(statistics.counts - state.expected.statistics.counts))
        settled = (ratio.log_mass.high < SETTLED * num_images) & (moved < SETTLED * num_images)
        new = Climbing(
            params,
            expected,
            objective,
            state.history.at[place].set(objective.high, mode="drop"),
            jnp.where(settled & (num_iterations < 0), -1, num_iterations),
            state.num_scheduled + (num_iterations < 0).astype(jnp.int32),
            status.astype(jnp.int32),
            state.params,
            self._leaps & ~at_start & ~state.leaps & (moved < NEAR * num_images),
            state.given,
        )
        if self._leaps:
            repeated = state.history.at[num_iterations].set(state.elbo.high)
            in_vain = state._replace(history=repeated, num_iterations=num_iterations, leaps=jnp.bool_(False))
            new = jax.tree.map(partial(jnp.where, state.leaps & ~(gain >= 0)), in_vain, new)
            sound |= state.leaps
        rejected = state._replace(status=jnp.int32(Status.NONFINITE))
        return jax.tree.map(partial(jnp.where, sound), new, rejected)


def _add_penalty(density: Pair, penalty: jax.Array) -> Pair:
    """Their sum; pairs cannot carry the minus infinity that the penalty may be."""
    finite = jnp.isfinite(penalty)
    total = compensated.add(density, pair(jnp.where(finite, penalty, 0)))
    return total._replace(high=jnp.where(finite, total.high, penalty))


def _keep_possible(new: Params, old: Params) -> Params:
    """What soft EM finds improbable it never finds impossible.

    Probabilities below the smallest number round to zero, and a prior of zero is never left again: in single precision
    that would freeze the first positions that a run hits on.
    """
    smallest = jnp.finfo(new.prior.dtype).tiny
    return new._replace(prior=jnp.maximum(new.prior, jnp.where(old.prior > 0, smallest, 0)))
