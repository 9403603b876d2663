"""Restarts on all cores of a CPU.

A batch that stays in one core's cache leaves nothing to share out inside it, so each core makes runs of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import checks
from jaxem.loop import STATIC_OPTIONS, Fit, Status, fit_options, run
from jaxem.restarts import DEFAULT_SEARCH, Restarts, keep_best, restart_keys, starting_points
from jaxem.search import Role, Search, SoFar, Starts, add_leg, combine, conclude, is_lost, nothing_yet, plan
from jaxem.stack import Prepared, prepare
from jaxem.windows import Shape


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
    report: Callable[[int, Fit], None] | None = None,
) -> Restarts:
    """`jaxem.fit_restarts` on all cores of a CPU, one start a core at a time; not to be traced.

    All runs share the images and their transforms. On a GPU, which one run keeps busy, they follow one another.

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
        report: called with the number (from 0) and the `Fit` of each run as it ends, in the calling thread; in a search
            of each start when it has been annealed, with the status `RUNNING`, and of the best again at its top.

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
    stack = jnp.asarray(checks.as_images(images))
    template_shape = checks.as_template_shape(template_shape, stack.shape[1:])
    keys = restart_keys(key, num_restarts, search)
    options = fit_options(stack, hard, prior_smoothing, max_iterations, tolerance, batch_size)
    if num_threads is None:
        num_threads = available_cores() if jax.default_backend() == "cpu" else 1
    num_threads = checks.as_count("num_threads", num_threads, at_least=1)
    prepared, starts = _begin(
        keys, stack, template_shape=template_shape, search=search, batch_size=options.pop("batch_size")
    )
    if search is None:

        def one_run(number: int) -> Fit:
            return _run(prepared, _entry(starts.params, number), **options)

        runs = _stack(_in_threads(one_run, len(keys), num_threads, report or _say_nothing))
        num_steps = jnp.sum(runs.num_iterations + 1, dtype=jnp.int32)
    else:
        runs, num_steps = _climb_best(prepared, starts, search, num_threads, report or _say_nothing, options)
    return jax.device_get(_conclude(prepared, runs, num_steps, options["prior_smoothing"]))


def _climb_best(
    prepared: Prepared,
    starts: Starts,
    search: Search,
    num_threads: int,
    report: Callable[[int, Fit], None],
    options: dict[str, Any],
) -> tuple[Fit, jax.Array]:
    """`search.climb_best`, the legs from the starts side by side, and those from the cuts."""
    num_starts, limit = len(starts.params.noise_scale), 0 if options["hard"] else options["max_iterations"]
    num_images = len(prepared.stack.images)
    legs = plan(search, num_images, starts, limit)
    begin = nothing_yet(starts, num_images, options["max_iterations"])
    roles = list(np.asarray(legs.role))
    num_tries = roles.count(Role.TRY)

    def from_start(number: int) -> tuple[SoFar, Fit]:
        return _add_leg(prepared, starts, begin, _entry(legs, number), **options)

    def say(number: int, found: tuple[SoFar, Fit]) -> None:
        annealed = found[1]
        sound = annealed.status != Status.NONFINITE
        report(number, annealed._replace(status=annealed.status * ~sound))  # the others are RUNNING, which is zero

    results = _in_threads(from_start, num_starts, num_threads, say)
    so_far = reduce(partial(_combine, role=Role.START), (so_far for so_far, _ in results))

    def from_cut(number: int) -> SoFar:
        before = so_far._replace(num_steps=jnp.zeros_like(so_far.num_steps))
        return _add_leg(prepared, starts, before, _entry(legs, num_starts + number), **options)[0]

    tries = _in_threads(from_cut, num_tries if is_lost(so_far.best) else 0, num_threads, _say_nothing)
    so_far = reduce(partial(_combine, role=Role.TRY), tries, so_far)
    for number in range(num_starts + num_tries, len(roles)):
        so_far, _ = _add_leg(prepared, starts, so_far, _entry(legs, number), **options)
    runs, num_steps = _conclude_search(prepared, so_far, _stack([found for _, found in results]), **options)
    report(int(so_far.lane), jax.device_get(_entry(runs, int(so_far.lane))))
    return runs, num_steps


def _in_threads(
    work: Callable[[int], Any], count: int, num_threads: int, report: Callable[[int, Any], None]
) -> list[Any]:
    """What work(0), work(1), ... give, reported as they end."""

    def fetch(number: int) -> Any:
        return jax.device_get(work(number))

    pool = ThreadPoolExecutor(num_threads)
    results: dict[int, Any] = {}
    try:
        numbers = {pool.submit(fetch, number): number for number in range(count)}
        for ended in as_completed(numbers):
            results[numbers[ended]] = ended.result()
            report(numbers[ended], results[numbers[ended]])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interruption does not wait for runs under way
    return [results[number] for number in range(count)]


def _say_nothing(number: int, found: Any) -> None:
    pass


def _entry(tree: Any, number: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[number], tree)


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@partial(jax.jit, static_argnames=("template_shape", "search", "batch_size"))
def _begin(
    keys: jax.Array, images: jax.Array, template_shape: Shape, search: Search | None, batch_size: int
) -> tuple[Prepared, Starts]:
    prepared = prepare(images, batch_size)
    return prepared, starting_points(keys, prepared, template_shape, search)


_STATIC = [name for name in STATIC_OPTIONS if name != "batch_size"]
_run = jax.jit(run, static_argnames=_STATIC)
_add_leg = jax.jit(add_leg, static_argnames=_STATIC)
_combine = jax.jit(combine, static_argnames="role")
_conclude_search = jax.jit(conclude, static_argnames=_STATIC)
_conclude = jax.jit(keep_best)
