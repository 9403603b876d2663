"""One EM run: a `lax.while_loop` around the two steps, its stopping rule, its history and an honest status.

Derivations: ``docs/method.md``, *The loop*.
"""

from __future__ import annotations

from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem import checks, compensated
from jaxem.acceleration import extrapolate
from jaxem.compensated import Pair, pair
from jaxem.model import Params, from_stack, to_stack
from jaxem.stack import Prepared, prepare
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


class _Carry(NamedTuple):
    params: Params
    expected: Expectation
    elbo: Pair
    history: jax.Array
    num_iterations: jax.Array
    num_scheduled: jax.Array
    status: jax.Array
    before: Params
    leaps: jax.Array


def fit(
    images: Any,
    params: Params,
    *,
    hard: bool = False,
    prior_smoothing: Any = 0.0,
    max_iterations: int = 50,
    tolerance: Any = 1e-3,
    batch_size: int | None = None,
    schedule: Schedule | None = None,
    accelerate: bool = False,
) -> Fit:
    """Run EM from given parameters until an iteration gains less than the tolerance.

    Args:
        images: (K, H, W), pixel values; integers are promoted.
        params: where to start.
        hard: hard EM, one corner an image instead of probabilities (static).
        prior_smoothing: alpha >= 0, pseudo-counts spread evenly over all corners (traced).
        max_iterations: at most so many iterations (static).
        tolerance: the smallest gain that counts as progress, nats per image (traced). Zero runs until nothing is
            gained, minus infinity until the iterations run out.
        batch_size: images worked on at a time, best an even number; by default as many as stay in the cache of a CPU's
            core, or as keep a GPU busy (static).
        schedule: soft steps to make before, for example `annealing()`; none by default. The history starts after them.
        accelerate: after every second iteration leap ahead, and take the leap back if the objective has not risen; an
            iteration in vain repeats the objective in the history. It pays for long climbs; hard EM has none (static).

    Returns:
        `Fit`.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit. Wrong values (NaN pixels, a prior of zeros)
            raise nothing and show in the status.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> result = jaxem.fit(images, truth)
        >>> jaxem.Status(int(result.status)).name
        'CONVERGED'

    Source: ``docs/method.md``, *The loop*.
    """
    images = checks.as_images(images)
    params = checks.as_params(params, images.shape[1:], images.dtype)
    options = fit_options(images, hard, prior_smoothing, max_iterations, tolerance, batch_size)
    if schedule is not None:
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a jaxem.Schedule or None, but is {schedule!r}.")
        schedule = checks.as_schedule(schedule, images.dtype)
    return _fit(images, params, schedule=schedule, accelerate=bool(accelerate), **options)


def fit_options(
    images: jax.Array,
    hard: bool,
    prior_smoothing: Any,
    max_iterations: int,
    tolerance: Any,
    batch_size: int | None,
    num_lanes: int = 1,
) -> dict[str, Any]:
    """The options that every fit takes, checked; lanes under ``vmap`` share the size of a batch."""
    if batch_size is None:
        batch_size = _cheapest_batch_size(len(images), num_lanes * images.shape[1] * images.shape[2])
    return {
        "hard": bool(hard),
        "prior_smoothing": checks.as_number("prior_smoothing", prior_smoothing, images.dtype, at_least=0),
        "max_iterations": checks.as_count("max_iterations", max_iterations, at_least=0),
        "tolerance": checks.as_number("tolerance", tolerance, images.dtype),
        "batch_size": checks.as_count("batch_size", batch_size, at_least=1),
    }


# Pixels of a batch at most: what the cache of a CPU's core holds beside an iteration's other arrays; elsewhere enough
# to keep the device busy, with transforms far below the 4 GB at which batched ones fail. And how many pixels' work it
# costs to start a batch.
CACHE_PIXELS, DEVICE_PIXELS, BATCH_COST = 80_000, 2**25, 7_000
STATIC_OPTIONS = ("hard", "max_iterations", "batch_size")
# A schedule is left when the best corners lack less than this of all probability, nats per image, and less of it moved.
SETTLED = 0.01
# An accelerated run leaps where an iteration moves less than this of all probability: before, it would leap elsewhere.
NEAR = 0.02


def _cheapest_batch_size(num_images: int, pixels: int) -> int:
    """The even size of a batch of images of so many pixels that leaves least to do, few images being done twice."""
    most = (CACHE_PIXELS if jax.default_backend() == "cpu" else DEVICE_PIXELS) // pixels
    sizes = range(2, max(3, min(most, num_images + 1) + 1), 2)
    return min(sizes, key=lambda size: -(-num_images // size) * (size * pixels + BATCH_COST))


@partial(jax.jit, static_argnames=("accelerate", *STATIC_OPTIONS))
def _fit(images: jax.Array, params: Params, batch_size: int, schedule: Schedule | None, **options: Any) -> Fit:
    return run_after(schedule, prepare(images, batch_size), params, **options)


def run_after(schedule: Schedule | None, prepared: Prepared, params: Params, **options: Any) -> Fit:
    """`run` after the soft steps of a schedule, also where the run itself is hard."""
    if schedule is None or not options["hard"]:
        return run(prepared, params, schedule=schedule, **options)
    soft = run(prepared, params, schedule=schedule, limit=jnp.int32(0), **{**options, "hard": False})
    return run(prepared, soft.params, **options)._replace(num_scheduled=soft.num_scheduled)


def run(
    prepared: Prepared,
    params: Params,
    *,
    hard: bool,
    prior_smoothing: jax.Array,
    max_iterations: int,
    tolerance: jax.Array,
    schedule: Schedule | None = None,
    skip: jax.Array | int = 0,
    limit: jax.Array | None = None,
    accelerate: bool = False,
) -> Fit:
    """`fit` on a prepared stack: the loop itself, to be traced.

    Of the schedule the first `skip` steps are left out; the iterations after it are at most `limit` (both traced).
    """
    stack, totals = prepared
    num_images = len(stack.images)
    num_before = 0 if schedule is None else len(schedule.prior_smoothing)
    first = jnp.int32(skip) - 1 - num_before  # the number before the first E-step, which only looks at the start

    def scheduled(e_step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Inverse temperature of an E-step, 0 being the first after the schedule, and smoothing of its M-step."""
        if schedule is None or num_before == 0:
            return jnp.ones_like(prior_smoothing), prior_smoothing
        at = jnp.clip(e_step + num_before, 0, num_before - 1)
        smoothing = jnp.maximum(prior_smoothing, num_images * schedule.prior_smoothing[at])
        over = e_step >= 0
        return jnp.where(over, 1, schedule.inverse_temperature[at]), jnp.where(over, prior_smoothing, smoothing)

    def rounding(carry: _Carry) -> jax.Array:
        # The ELBO is a sum of terms of its own size, and a difference of sums of squares over 2 s^2.
        squares = totals.square_sum.high + num_images * jnp.sum(stack.reference**2)
        size = jnp.abs(carry.elbo.high) + squares / (2 * carry.params.noise_scale**2)
        return 8 * jnp.finfo(size.dtype).eps * size

    def improve(carry: _Carry) -> Params:
        params = maximise(stack, totals, carry.expected.statistics, scheduled(carry.num_iterations)[1])
        if accelerate and not hard:
            leap = extrapolate(carry.before, carry.params, params)
            params = jax.tree.map(partial(jnp.where, carry.leaps), leap, params)
        params = params if hard else _keep_possible(params, carry.params)
        # The first E-step only looks at where the run starts; so one is compiled, not two.
        return jax.tree.map(partial(jnp.where, carry.num_iterations == first), carry.params, params)

    def step(carry: _Carry) -> _Carry:
        params, num_iterations = improve(carry), carry.num_iterations + 1
        temperature = 1 / scheduled(num_iterations)[0]
        tempered = params._replace(noise_scale=params.noise_scale * jnp.sqrt(temperature))
        expected = expectation(stack, tempered, hard=hard)
        statistics, ratio, _ = expected
        density = log_density(stack, totals, params, ratio)
        objective = _add_penalty(density, log_smoothing(params.prior, prior_smoothing))
        gain = compensated.subtract(objective, carry.elbo).high
        still = (gain < tolerance * num_images) | ((gain <= 0) & (tolerance >= 0))
        status = jnp.where(still, Status.CONVERGED, Status.RUNNING)
        status = jnp.where(gain < -rounding(carry), Status.DECREASED, status)

        # The objective may start at minus infinity, where a prior with zeros is smoothed: the first step mends that.
        at_start = carry.num_iterations < 0
        status = jnp.where(at_start | carry.leaps, Status.RUNNING, status)
        sound = jnp.where(at_start, jnp.isfinite(density.high) & (prior_smoothing >= 0), jnp.isfinite(objective.high))
        history = carry.history.at[jnp.where(num_iterations < 0, max_iterations + 1, num_iterations)].set(
            objective.high, mode="drop"
        )
        moved = jnp.sum(jnp.abs(statistics.counts - carry.expected.statistics.counts))
        settled = (ratio.log_mass.high < SETTLED * num_images) & (moved < SETTLED * num_images)
        new = _Carry(
            params,
            expected,
            objective,
            history,
            jnp.where(settled & (num_iterations < 0), -1, num_iterations),
            carry.num_scheduled + (num_iterations < 0).astype(jnp.int32),
            status.astype(jnp.int32),
            carry.params,
            (accelerate and not hard) & ~at_start & ~carry.leaps & (moved < NEAR * num_images),
        )
        if accelerate and not hard:
            repeated = carry.history.at[num_iterations].set(carry.elbo.high)
            in_vain = carry._replace(history=repeated, num_iterations=num_iterations, leaps=jnp.bool_(False))
            new = jax.tree.map(partial(jnp.where, carry.leaps & ~(gain >= 0)), in_vain, new)
            sound |= carry.leaps
        rejected = carry._replace(status=jnp.int32(Status.NONFINITE))
        return jax.tree.map(lambda accepted, kept: jnp.where(sound, accepted, kept), new, rejected)

    def unfinished(carry: _Carry) -> jax.Array:
        most = max_iterations if limit is None else limit
        return (carry.status == Status.RUNNING) & (carry.num_iterations < most)

    start = to_stack(params, stack)
    history = jnp.full(max_iterations + 1, jnp.nan, start.template.dtype)
    template, background, _, prior = jax.tree.map(jnp.zeros_like, start)
    nothing = Statistics(prior, background, template, background)
    unknown = pair(jnp.full_like(start.noise_scale, jnp.nan))
    begin = _Carry(
        start,
        Expectation(nothing, LogRatio(unknown, unknown, unknown), jnp.zeros((num_images, 2), jnp.int32)),
        unknown,
        history,
        first,
        jnp.int32(0),
        jnp.int32(Status.RUNNING),
        start,
        jnp.bool_(False),
    )
    end = lax.while_loop(unfinished, step, begin)
    status = jnp.where(end.status == Status.RUNNING, Status.MAX_ITERATIONS, end.status).astype(jnp.int32)
    found = jax.tree.map(partial(jnp.where, end.num_iterations > first + 1), from_stack(end.params, stack), params)
    elbo = jnp.where(end.num_iterations < 0, jnp.nan, end.elbo.high)
    return Fit(
        found,
        elbo,
        end.history,
        jnp.maximum(end.num_iterations, 0),
        status,
        end.num_scheduled,
        mean_entropy(stack, totals, end.params, end.expected),
        end.expected.corners,
    )


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
