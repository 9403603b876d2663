"""Restarts on all cores of a machine, one report as each ends (part of the command line)."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import checks
from jaxem.em import e_step
from jaxem.loop import Fit, fit
from jaxem.model import Params
from jaxem.restarts import Restarts, keep_best, random_params

LOCATE_PIXELS = 2**22


class Options(NamedTuple):
    """What a search takes besides the images; as for `jaxem.fit_restarts`."""

    template_shape: tuple[int, int]
    restarts: int = 10
    seed: int = 0
    hard: bool = False
    prior_smoothing: float = 0.0
    max_iterations: int = 50
    tolerance: float = 1e-3


def run_restarts(images: np.ndarray, options: Options, report: Callable[[int, Fit], None]) -> Restarts:
    """The runs of `jaxem.fit_restarts`, on a CPU as many at once as there are cores.

    Args:
        images: (K, H, W), pixel values.
        options: what to search and how.
        report: called with the number (from 0) and the `Fit` of each run as it ends, in the calling thread.

    Returns:
        `Restarts` of NumPy arrays, the same whatever the number of cores.

    Raises:
        ValueError, TypeError: shapes or options that do not fit.
    """
    stack = jnp.asarray(checks.as_images(images))
    keys = jax.random.split(jax.random.key(options.seed), options.restarts)

    def one_run(key: jax.Array) -> Fit:
        found = fit(
            stack,
            random_params(key, stack, options.template_shape),
            hard=options.hard,
            prior_smoothing=options.prior_smoothing,
            max_iterations=options.max_iterations,
            tolerance=options.tolerance,
        )
        return jax.device_get(found)

    workers = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    runs: dict[int, Fit] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        numbers = {pool.submit(one_run, key): number for number, key in enumerate(keys)}
        for ended in as_completed(numbers):
            number = numbers[ended]
            runs[number] = ended.result()
            report(number, runs[number])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interruption does not wait for runs under way
    in_order = (runs[number] for number in range(options.restarts))
    return jax.device_get(keep_best(jax.tree.map(lambda *leaves: np.stack(leaves), *in_order)))


def locate(images: np.ndarray, params: Params) -> np.ndarray:
    """The most probable corner of each image, (K, 2), a few million pixels at a time."""
    step = max(1, LOCATE_PIXELS // images[0].size)
    batches = (images[start : start + step] for start in range(0, len(images), step))
    return np.concatenate([np.asarray(e_step(batch, params, hard=True).corners) for batch in batches])
