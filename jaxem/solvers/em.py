"""One EM run: a `lax.while_loop` around the two steps, its stopping rule, its history and its status.

A step of the loop proposes parameters (M-step), accumulates the statistics of all batches (E-step), judges what came of
it, and updates the state. A run can be stopped after any step and goes on as if it had not been. Derivations:
``docs/search.md``, *The loop*.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.appearances import numbers_of
from jaxem.model.expectation import expectation
from jaxem.model.likelihood import channel_variances, positions_of
from jaxem.model.objective import log_density, log_smoothing, penalized
from jaxem.model.params import Params, hold, keep_possible, to_internal_units, to_pixel_values
from jaxem.model.statistics import Expectation, LogLikelihoodRatio, nothing_expected, nothing_found
from jaxem.model.steps import update
from jaxem.model.workspace import Workspace
from jaxem.ops import double_word
from jaxem.ops.double_word import DoubleWord
from jaxem.ops.trees import select
from jaxem.solvers.options import EMOptions
from jaxem.solvers.result import Fit, Status
from jaxem.solvers.schedule import Schedule
from jaxem.solvers.squarem import extrapolate

# A schedule ends early when the mean log mass, -ln q of the best corner, is below SETTLED_LOG_MASS nats and less than
# SETTLED_MOVED_SHARE of the expected counts has moved.
SETTLED_LOG_MASS, SETTLED_MOVED_SHARE = 0.01, 0.01
# An accelerated run extrapolates where an iteration moves less than this share of the expected counts: farther from
# convergence it would often end in another maximum.
EXTRAPOLATION_MOVED_SHARE = 0.005
# The objective is a difference of large terms; a fall of so many times the machine epsilon of those counts as rounding.
ROUNDING_EPS = 8


class Outcome(IntEnum):
    """What a step came to."""

    ADVANCED = 0  # kept, and more to come
    CONVERGED = 1  # kept; it gained less than the tolerance
    DECREASED = 2  # kept; the objective fell by more than rounding
    REVERTED = 3  # an extrapolation that lowered the objective: back to where it began
    REJECTED = 4  # NaN or infinity: nothing of it is kept


STATUS_OF = {
    Outcome.ADVANCED: Status.RUNNING,
    Outcome.CONVERGED: Status.CONVERGED,
    Outcome.DECREASED: Status.DECREASED,
    Outcome.REVERTED: Status.RUNNING,
    Outcome.REJECTED: Status.NONFINITE,
}


class EMState(NamedTuple):
    """Where a run is; all that `EM.advance` needs to go on.

    =============  =============  ================================================================================
    field          shape          meaning
    =============  =============  ================================================================================
    params         `Params`       the parameters, in the units of the centred images
    expected       `Expectation`  the E-step there
    elbo           `DoubleWord`   the objective there; in a schedule a guide only, with the tempered log mass
    history        as in `Fit`    the objective at the start and after each iteration
    num_scheduled  () int32       E-steps of the schedule made
    num_evaluated  () int32       E-steps on the objective itself made: one at the start, one an iteration
    in_schedule    () bool        whether the next E-step is one of the schedule
    status         () int32       a `Status`
    previous       `Params`       the parameters before the last step
    extrapolates   () bool        whether the next step is an extrapolation
    initial        `Params`       where the run began, in pixel values
    =============  =============  ================================================================================
    """

    params: Params
    expected: Expectation
    elbo: DoubleWord
    history: jax.Array
    num_scheduled: jax.Array
    num_evaluated: jax.Array
    in_schedule: jax.Array
    status: jax.Array
    previous: Params
    extrapolates: jax.Array
    initial: Params

    @property
    def num_steps(self) -> jax.Array:
        """E-steps made."""
        return self.num_scheduled + self.num_evaluated


class Proposal(NamedTuple):
    """A step before it is judged.

    =========  =============  =============================================================
    field      shape          meaning
    =========  =============  =============================================================
    params     `Params`       the new parameters
    expected   `Expectation`  the E-step there
    density    `DoubleWord`   the log density of the images there
    objective  `DoubleWord`   the same with the penalty of prior smoothing
    gain       ()             how much the objective rose, nats
    moved      ()             how much of all expected counts moved, images
    =========  =============  =============================================================
    """

    params: Params
    expected: Expectation
    density: DoubleWord
    objective: DoubleWord
    gain: jax.Array
    moved: jax.Array


@dataclass(frozen=True)
class EM:
    """One EM run on a workspace: `init`, `advance` as often as wanted, `finish`; or `run`.

    A step is `propose`, an E-step by whoever goes through the images, and `receive`. To be made where it is traced.

    Args:
        workspace: the images.
        options: those of `fit`.
        schedule: steps before the iterations, for which the options are to be soft: see `single_run.run_after`.
        skip: of the schedule so many first steps are left out (traced).
        limit: iterations at most, by default those of the options (traced).
    """

    workspace: Workspace
    options: EMOptions
    schedule: Schedule | None = None
    skip: jax.Array | int = 0
    limit: jax.Array | None = None

    def run(self, params: Params) -> Fit:
        """All of it."""
        return self.finish(self.advance(self.init(params)))

    def init(self, params: Params) -> EMState:
        """Before the first E-step, which only evaluates where the run starts."""
        images = self.workspace.images
        start = to_internal_units(params, images)
        unknown = double_word.double_word(jnp.full((), jnp.nan, start.template.dtype))
        by_channel = double_word.double_word(jnp.full(start.background.shape[:1], jnp.nan, start.template.dtype))
        ratio = LogLikelihoodRatio(by_channel, unknown, unknown, unknown.high)
        return EMState(
            params=start,
            expected=Expectation(nothing_expected(images, start), ratio, nothing_found(images, start)),
            elbo=unknown,
            history=jnp.full(self.options.max_iterations + 1, jnp.nan, start.template.dtype),
            num_scheduled=jnp.int32(0),
            num_evaluated=jnp.int32(0),
            in_schedule=jnp.int32(self.skip) < self._schedule_length,
            status=jnp.int32(Status.RUNNING),
            previous=start,
            extrapolates=jnp.bool_(False),
            initial=params,
        )

    def advance(self, state: EMState, num_steps: jax.Array | None = None) -> EMState:
        """Go on to the end, or by so many steps at most."""
        if num_steps is None:
            return lax.while_loop(self.is_running, self._step, state)
        last = state.num_steps + num_steps

        def goes_on(state: EMState) -> jax.Array:
            return self.is_running(state) & (state.num_steps < last)

        return lax.while_loop(goes_on, self._step, state)

    def is_running(self, state: EMState) -> jax.Array:
        """Whether there is a step to make."""
        limit = self.options.max_iterations if self.limit is None else self.limit  # the start is evaluated, too
        return (state.status == Status.RUNNING) & (state.num_evaluated <= limit)

    def finish(self, state: EMState) -> Fit:
        """What was found; where the start was only evaluated, the start to the bit."""
        images = self.workspace.images
        best = positions_of(state.expected.best, None, state.initial, self.options.transforms)
        status = jnp.where(state.status == Status.RUNNING, Status.MAX_ITERATIONS, state.status).astype(jnp.int32)
        found = to_pixel_values(state.params, images, state.initial)
        found = found._replace(**{name: getattr(state.initial, name) for name in self.options.fixed})
        return Fit(
            params=select(state.num_steps > 1, found, state.initial),
            elbo=jnp.where(state.num_evaluated > 0, state.elbo.high, jnp.nan),
            history=state.history,
            num_iterations=jnp.maximum(state.num_evaluated - 1, 0),
            status=status,
            num_scheduled=state.num_scheduled,
            entropy=state.expected.ratio.entropy / self._num_images,
            corners=best.corners,
            best_template=best.template,
            best_transform=best.transform,
            present=best.present,
            transforms=numbers_of(self.options.transforms),
        )

    def propose(self, state: EMState) -> tuple[Params, Params]:
        """M-step: the new parameters, and those to make the E-step at, which in a schedule may have more noise.

        At first the start unchanged, so that the loop holds the only E-step; at times an extrapolation of two steps.
        """
        images, totals, _ = self.workspace
        statistics, smoothing = state.expected.statistics, self._m_step_smoothing(state)
        params = update(images, totals, statistics, smoothing, state.params, fixed=self.options.fixed)
        if self._may_extrapolate:
            ahead = hold(extrapolate(state.previous, state.params, params), state.params, self.options.fixed)
            params = select(state.extrapolates, ahead, params)
        if not self.options.hard:
            params = keep_possible(params, state.params)
        params = select(state.num_steps == 0, state.params, params)
        # An E-step at a temperature is an ordinary one with more noise.
        temperature = 1 / self._e_step_inverse_temperature(state)
        return params, params._replace(noise_scale=params.noise_scale * jnp.sqrt(temperature))

    def receive(self, state: EMState, params: Params, expected: Expectation) -> EMState:
        """The state after a step to these parameters, whoever made the E-step."""
        proposal = self._evaluate(state, params, expected)
        return self._update_state(state, proposal, self._judge(state, proposal))

    def _step(self, state: EMState) -> EMState:
        params, tempered = self.propose(state)
        expected = expectation(self.workspace, tempered, hard=self.options.hard, transforms=self.options.transforms)
        return self.receive(state, params, expected)

    def _evaluate(self, state: EMState, params: Params, expected: Expectation) -> Proposal:
        """The objective, from the statistics of all images."""
        images, totals, _ = self.workspace
        density = log_density(images, totals, params, expected.ratio)
        objective = penalized(density, log_smoothing(params, self.options.prior_smoothing))
        gain = double_word.subtract(objective, state.elbo).high
        now, before = expected.statistics, state.expected.statistics
        moved = jnp.sum(jnp.abs(now.counts - before.counts))
        if now.absent is not None and before.absent is not None:
            moved = moved + jnp.abs(now.absent - before.absent)
        return Proposal(params, expected, density, objective, gain, moved)

    def _judge(self, state: EMState, proposal: Proposal) -> jax.Array:
        """The `Outcome` of a step: the first of these cases that applies, else `ADVANCED`."""
        gain, options = proposal.gain, self.options
        # No step of a schedule is judged by its gain, nor is the start, where a prior with zeros may make it infinite.
        before_iterations = state.num_evaluated == 0
        sound_before = jnp.isfinite(proposal.density.high) & (options.prior_smoothing >= 0)
        sound = jnp.where(before_iterations, sound_before, jnp.isfinite(proposal.objective.high))
        gains_little = (gain < options.tolerance * self._num_images) | ((gain <= 0) & (options.tolerance >= 0))
        cases = [
            (state.extrapolates & (gain >= 0), Outcome.ADVANCED),
            (state.extrapolates, Outcome.REVERTED),
            (~sound, Outcome.REJECTED),
            (before_iterations, Outcome.ADVANCED),
            (gain < -self._rounding(state), Outcome.DECREASED),
            (gains_little, Outcome.CONVERGED),
        ]
        conditions, outcomes = zip(*cases, strict=True)
        return jnp.select(conditions, [jnp.int32(outcome) for outcome in outcomes], jnp.int32(Outcome.ADVANCED))

    def _update_state(self, state: EMState, proposal: Proposal, outcome: jax.Array) -> EMState:
        """The state after a step of that outcome."""
        status = jnp.select([outcome == one for one in STATUS_OF], [jnp.int32(one) for one in STATUS_OF.values()])
        num_scheduled = state.num_scheduled + state.in_schedule.astype(jnp.int32)
        num_evaluated = state.num_evaluated + (~state.in_schedule).astype(jnp.int32)
        is_entry = ~state.in_schedule & (jnp.arange(len(state.history), dtype=jnp.int32) == num_evaluated - 1)
        log_mass, moved = proposal.expected.ratio.log_mass.high, proposal.moved
        settled = (log_mass < SETTLED_LOG_MASS * self._num_images) & (moved < SETTLED_MOVED_SHARE * self._num_images)
        is_iteration = state.num_evaluated > 0
        is_near = moved < EXTRAPOLATION_MOVED_SHARE * self._num_images
        kept = EMState(
            params=proposal.params,
            expected=proposal.expected,
            elbo=proposal.objective,
            history=jnp.where(is_entry, proposal.objective.high, state.history),
            num_scheduled=num_scheduled,
            num_evaluated=num_evaluated,
            in_schedule=state.in_schedule & ~settled & (self.skip + num_scheduled < self._schedule_length),
            status=status,
            previous=state.params,
            extrapolates=self._may_extrapolate & is_iteration & ~state.extrapolates & is_near,
            initial=state.initial,
        )
        if self._may_extrapolate:
            repeated = jnp.where(is_entry, state.elbo.high, state.history)
            reverted = state._replace(history=repeated, num_evaluated=num_evaluated, extrapolates=jnp.bool_(False))
            kept = select(outcome == Outcome.REVERTED, reverted, kept)
        rejected = state._replace(status=status)
        return lax.cond(outcome == Outcome.REJECTED, lambda: rejected, lambda: kept)

    @property
    def _num_images(self) -> jax.Array:
        return self.workspace.totals.num_images

    @property
    def _may_extrapolate(self) -> bool:
        return self.options.accelerate and not self.options.hard

    @property
    def _schedule_length(self) -> int:
        return 0 if self.schedule is None else self.schedule.num_steps

    def _e_step_inverse_temperature(self, state: EMState) -> jax.Array:
        """Of the E-step to come."""
        if self.schedule is None or self._schedule_length == 0:
            return jnp.ones_like(self.options.tolerance)
        step = jnp.clip(self.skip + state.num_scheduled, 0, self._schedule_length - 1)
        return jnp.where(state.in_schedule, self.schedule.inverse_temperature[step], 1)

    def _m_step_smoothing(self, state: EMState) -> jax.Array:
        """Pseudo-counts of the M-step to come: those of the last E-step; of a schedule left early, its last ones."""
        smoothing = self.options.prior_smoothing
        if self.schedule is None or self._schedule_length == 0:
            return smoothing
        last = self._schedule_length - 1
        step = jnp.where(state.in_schedule, jnp.clip(self.skip + state.num_scheduled - 1, 0, last), last)
        scheduled = jnp.maximum(smoothing, self._num_images * self.schedule.prior_smoothing[step])
        return jnp.where(state.num_evaluated == 0, scheduled, smoothing)

    def _rounding(self, state: EMState) -> jax.Array:
        """How much the objective can fall by rounding: by that of its own size, and of the squared errors in it."""
        images, totals, _ = self.workspace
        sse = totals.square_sum.high + jnp.sum(totals.total_weight * images.mean_image**2, axis=(1, 2))
        size = jnp.abs(state.elbo.high) + jnp.sum(sse / (2 * channel_variances(state.params)))
        return ROUNDING_EPS * jnp.finfo(size.dtype).eps * size
