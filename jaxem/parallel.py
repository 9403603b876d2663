"""Restarts on all cores of a CPU, in segments that can be watched, noted and taken up again.

A batch that stays in one core's cache leaves nothing to share out inside it, so each core makes runs of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import checks
from jaxem.driver import CLIMBING, Driver, Progress, Task
from jaxem.journal import Journal
from jaxem.legs import Role, SoFar, Starts, advance_leg, begin_leg, combine, end_leg, is_lost, nothing_yet
from jaxem.loop import Climb, Fit
from jaxem.restarts import DEFAULT_SEARCH, Restarts, keep_best, restart_keys, starting_points
from jaxem.runs import STATIC_OPTIONS, fit_options
from jaxem.search import Search, conclude, plan
from jaxem.stack import Prepared, prepare
from jaxem.windows import Shape

STAGES = {
    Role.START: "annealing",
    Role.TRY: "trying",
    Role.RESCUE: "rescuing",
    Role.SHIFT: "recentring",
    Role.TOP: CLIMBING,
}


def fit_restarts_parallel(
    key: jax.Array,
    images: Any,
    template_shape: Shape,
    *,
    num_restarts: int | None = None,
    hard: bool = False,
    prior_smoothing: Any = 0.0,
    max_iterations: int = 50,
    tolerance: Any = 1e-3,
    batch_size: int | None = None,
    num_threads: int | None = None,
    search: Search | None = DEFAULT_SEARCH,
    watch: Callable[[Progress], None] | None = None,
    journal: Journal | None = None,
) -> Restarts:
    """`jaxem.fit_restarts` on all cores of a CPU, one start a core at a time; not to be traced.

    All runs share the images and their transforms. On a GPU, which one run keeps busy, they follow one another. Runs go
    on a fraction of a second at a time; in between they can be watched and noted, and that changes nothing in them.

    Args:
        key: random key.
        images: (K, H, W), pixel values; integers are promoted.
        template_shape: (h, w).
        num_restarts: as for `fit_restarts`.
        hard: as for `fit`.
        prior_smoothing: as for `fit`.
        max_iterations: as for `fit`.
        tolerance: as for `fit`.
        batch_size: as for `fit`.
        num_threads: runs at a time; by default as many as this process may use cores.
        search: as for `fit_restarts`.
        watch: called with the `Progress` of each run after each of its segments, one call at a time, in the run's
            thread.
        journal: what the same call has done before, and where to note what is done. On an interruption it holds all
            but the last segments; write it then.

    Returns:
        `Restarts` of NumPy arrays: those of `fit_restarts`, whatever the number of cores.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.fit_restarts_parallel(jax.random.key(1), images, (2, 3))
        >>> found.runs.elbo.shape
        (2,)

    Source: ``docs/method.md``, *Restarts*.
    """
    stack = jax.device_put(checks.as_images(images))  # jnp.asarray would copy them twice
    template_shape = checks.as_template_shape(template_shape, stack.shape[1:])
    keys = restart_keys(key, num_restarts, search)
    options = fit_options(stack, hard, prior_smoothing, max_iterations, tolerance, batch_size)
    if num_threads is None:
        num_threads = available_cores() if jax.default_backend() == "cpu" else 1
    driver = Driver(checks.as_count("num_threads", num_threads, at_least=1), journal, watch)
    prepared, starts = _begin(
        keys, stack, template_shape=template_shape, search=search, batch_size=options.pop("batch_size")
    )
    prepared = prepared._replace(stack=prepared.stack._replace(images=stack))
    if search is None:
        tasks = [
            _run_task(prepared, _entry(starts.params, number), number, "run", options) for number in range(len(keys))
        ]
        runs = _stack(driver.go(tasks))
        num_steps = jnp.sum(runs.num_iterations + 1, dtype=jnp.int32)
    else:
        runs, num_steps = _climb_best(driver, prepared, starts, search, options)
    return jax.device_get(_conclude(prepared, runs, num_steps, options["prior_smoothing"]))


def _climb_best(
    driver: Driver, prepared: Prepared, starts: Starts, search: Search, options: dict[str, Any]
) -> tuple[Fit, jax.Array]:
    """`search.climb_best`, the legs from the starts side by side, and those from the cuts."""
    num_starts, num_images = len(starts.params.noise_scale), len(prepared.stack.images)
    legs = plan(search, num_images, starts, 0 if options["hard"] else options["max_iterations"])
    roles = [Role(role) for role in np.asarray(legs.role)]
    num_tries = roles.count(Role.TRY)
    lengths = len(legs.schedule.prior_smoothing[0]) - np.asarray(legs.skip) + np.asarray(legs.limit) + 1

    def task(number: int, so_far: SoFar) -> Task:
        leg, role = _entry(legs, number), roles[number]
        start = number if role == Role.START else int(so_far.lane)
        return Task(
            f"leg {number}",
            start,
            STAGES[role],
            int(lengths[number]),
            lambda: _begin_leg(prepared, starts, so_far, leg, **options),
            lambda walk, num_steps: _advance_leg(prepared, leg, walk, num_steps, **options),
            lambda walk: walk.climbing,
            lambda walk: _end_leg(prepared, so_far, leg, walk, **options),
        )

    begin = nothing_yet(starts, num_images, options["max_iterations"])
    later = range(num_starts + num_tries, len(roles))
    driver.expect([task(number, begin) for number in later])
    results = driver.go([task(number, begin) for number in range(num_starts)])
    so_far = reduce(partial(_combine, role=Role.START), (so_far for so_far, _ in results))
    if num_tries and is_lost(so_far.best):
        so_far = _try_cuts(driver, [*range(num_starts, num_starts + num_tries)], task, so_far)
    for number in later:
        so_far, _ = driver.go([task(number, so_far)])[0]
    annealed = _stack([found for _, found in results])
    if not options["hard"]:
        return _conclude_search(so_far, annealed)
    lane = int(so_far.lane)
    (hard,) = driver.go([_run_task(prepared, so_far.best.params, lane, "hard run", options)])
    return _conclude_search(so_far, annealed, hard)


def _try_cuts(driver: Driver, numbers: list[int], task: Callable[[int, SoFar], Task], so_far: SoFar) -> SoFar:
    """What is known after the tries, which the journal then forgets."""
    known = driver.journal.result("tries", lambda: so_far)
    if known is not None:
        return known
    before = so_far._replace(num_steps=jnp.zeros_like(so_far.num_steps))
    tasks = [task(number, before) for number in numbers]
    tries = [so_far for so_far, _ in driver.go(tasks)]
    known = reduce(partial(_combine, role=Role.TRY), tries, so_far)
    driver.journal.finish("tries", known, *(task.name for task in tasks))
    return known


def _run_task(prepared: Prepared, params: Any, number: int, name: str, options: dict[str, Any]) -> Task:
    """A run by itself."""
    return Task(
        f"{name} {number}",
        number,
        CLIMBING,
        options["max_iterations"] + 1,
        lambda: _begin_run(prepared, params, **options),
        lambda climbing, num_steps: _advance_run(prepared, climbing, num_steps, **options),
        lambda climbing: climbing,
        lambda climbing: _end_run(prepared, climbing, **options),
    )


def _entry(tree: Any, number: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[number], tree)


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@partial(jax.jit, static_argnames=("template_shape", "search", "batch_size"))
def _begin(
    keys: jax.Array, images: jax.Array, template_shape: Shape, search: Search | None, batch_size: int
) -> tuple[Prepared, Starts]:
    """What all legs share, without the images: a compiled program would return a copy of them."""
    prepared = prepare(images, batch_size)
    starts = starting_points(keys, prepared, template_shape, search)
    return prepared._replace(stack=prepared.stack._replace(images=images[:0])), starts


_STATIC = [name for name in STATIC_OPTIONS if name != "batch_size"]
_begin_leg = jax.jit(begin_leg, static_argnames=_STATIC)
_advance_leg = jax.jit(advance_leg, static_argnames=_STATIC)
_end_leg = jax.jit(end_leg, static_argnames=_STATIC)
_combine = jax.jit(combine, static_argnames="role")
_conclude_search = jax.jit(conclude)
_conclude = jax.jit(keep_best)


@partial(jax.jit, static_argnames=_STATIC)
def _begin_run(prepared: Prepared, params: Any, **options: Any) -> Any:
    return Climb(prepared, **options).begin(params)


@partial(jax.jit, static_argnames=_STATIC)
def _advance_run(prepared: Prepared, climbing: Any, num_steps: jax.Array, **options: Any) -> tuple[Any, jax.Array]:
    climb = Climb(prepared, **options)
    climbing = climb.advance(climbing, num_steps)
    return climbing, climb.is_under_way(climbing)


@partial(jax.jit, static_argnames=_STATIC)
def _end_run(prepared: Prepared, climbing: Any, **options: Any) -> Fit:
    return Climb(prepared, **options).end(climbing)
