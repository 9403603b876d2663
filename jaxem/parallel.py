"""Restarts on all cores of a CPU.

A batch that stays in one core's cache leaves nothing to share out inside it, so each core makes runs of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import checks
from jaxem.loop import STATIC_OPTIONS, Fit, fit_options, run
from jaxem.model import Params
from jaxem.restarts import Restarts, keep_best, random_params
from jaxem.stack import Prepared, prepare
from jaxem.windows import Shape


def fit_restarts_parallel(
    key: jax.Array,
    images: Any,
    template_shape: Shape,
    *,
    num_restarts: int = 10,
    hard: bool = False,
    prior_smoothing: Any = 0.0,
    max_iterations: int = 50,
    tolerance: Any = 1e-3,
    batch_size: int | None = None,
    num_threads: int | None = None,
    report: Callable[[int, Fit], None] | None = None,
) -> Restarts:
    """`jaxem.fit_restarts` on all cores of a CPU, one run a core at a time; not to be traced.

    All runs share the images and their transforms. On a GPU, which one run keeps busy, they follow one another.

    Args:
        key: random key.
        images: (K, H, W), pixel values; integers are promoted.
        template_shape: (h, w).
        num_restarts: how many runs.
        hard: as for `fit`.
        prior_smoothing: as for `fit`.
        max_iterations: as for `fit`.
        tolerance: as for `fit`.
        batch_size: as for `fit`.
        num_threads: runs at a time; by default as many as this process may use cores.
        report: called with the number (from 0) and the `Fit` of each run as it ends, in the calling thread.

    Returns:
        `Restarts` of NumPy arrays: those of `fit_restarts`, whatever the number of cores.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.fit_restarts_parallel(jax.random.key(1), images, (2, 3), num_restarts=5)
        >>> found.runs.elbo.shape
        (5,)

    Source: ``docs/method.md``, *Restarts*.
    """
    stack = jnp.asarray(checks.as_images(images))
    template_shape = checks.as_template_shape(template_shape, stack.shape[1:])
    keys = jax.random.split(checks.as_key(key), checks.as_count("num_restarts", num_restarts, at_least=1))
    options = fit_options(stack, hard, prior_smoothing, max_iterations, tolerance, batch_size)
    if num_threads is None:
        num_threads = available_cores() if jax.default_backend() == "cpu" else 1
    prepared = _prepare(stack, batch_size=options.pop("batch_size"))

    def one_run(key: jax.Array) -> Fit:
        return jax.device_get(_run(prepared, random_params(key, stack, template_shape), **options))

    pool = ThreadPoolExecutor(checks.as_count("num_threads", num_threads, at_least=1))
    runs: dict[int, Fit] = {}
    try:
        numbers = {pool.submit(one_run, key): number for number, key in enumerate(keys)}
        for ended in as_completed(numbers):
            runs[numbers[ended]] = ended.result()
            if report is not None:
                report(numbers[ended], runs[numbers[ended]])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interruption does not wait for runs under way
    in_order = (runs[number] for number in range(len(keys)))
    return jax.device_get(keep_best(jax.tree.map(lambda *leaves: np.stack(leaves), *in_order)))


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@partial(jax.jit, static_argnames="batch_size")
def _prepare(images: jax.Array, batch_size: int) -> Prepared:
    return prepare(images, batch_size)


@partial(jax.jit, static_argnames=[name for name in STATIC_OPTIONS if name != "batch_size"])
def _run(prepared: Prepared, start: Params, **options: Any) -> Fit:
    return run(prepared, start, **options)
