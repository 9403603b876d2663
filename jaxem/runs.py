"""`fit`: its options, and one run of `Climb` on a stack that it prepares.

Derivations: ``docs/method.md``, *The loop*.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxem import checks
from jaxem.loop import Climb, Fit, Schedule
from jaxem.model import Params
from jaxem.stack import Prepared, prepare


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


def run(prepared: Prepared, params: Params, **options: Any) -> Fit:
    """A whole `Climb` on a prepared stack, to be traced."""
    climb = Climb(prepared, **options)
    return climb.end(climb.advance(climb.begin(params)))
