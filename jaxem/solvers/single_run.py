"""`fit`: one EM run from given parameters.

Derivations: ``docs/search.md``, *The loop*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from jaxem.model.appearances import IDENTITY, as_transforms
from jaxem.model.checks import as_fixed, as_params
from jaxem.model.frames import Frames, as_frames
from jaxem.model.params import Params, normalized
from jaxem.model.workspace import Workspace, make_workspace
from jaxem.ops.derivatives import forward_only
from jaxem.runtime.compilation import jit
from jaxem.solvers.em import EM
from jaxem.solvers.options import EMOptions, em_options
from jaxem.solvers.result import Fit, kept_of_shards
from jaxem.solvers.schedule import Schedule, as_schedule


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
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = IDENTITY,
    fixed: Sequence[str] = (),
    mesh: Mesh | None = None,
) -> Fit:
    """Run EM from given parameters until an iteration gains less than the tolerance.

    It has derivatives in forward mode (`jax.jvp`, `jax.jacfwd`), through all iterations. For `jax.grad` differentiate
    `log_likelihood` at what was found.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values; integers are promoted.
        params: where to start, and what is in the model: see `Params`. Prior and absent count by their shares: they are
            divided by their sum first, unless the prior is fixed.
        hard: hard EM, one corner an image instead of probabilities (static).
        prior_smoothing: alpha >= 0, pseudo-counts, spread evenly over all corners; half of them are for absence where
            an image may be without a template (traced).
        max_iterations: at most so many iterations (static).
        tolerance: the smallest gain that counts as progress, nats per image (traced). Zero runs until nothing is
            gained, minus infinity until the iterations run out or something fails.
        batch_size: images worked on at a time, best an even number; by default as many as stay in the cache of a CPU's
            core, or as keep a GPU busy (static).
        schedule: soft steps to make before, for example `annealing()`; none by default. The history starts after them.
        accelerate: near convergence extrapolate after every second iteration, and go back if the objective has fallen;
            such an iteration repeats the objective in the history. It pays for long runs; hard EM has none (static).
        weights: of the pixels, broadcastable to (K, H, W): the noise of a pixel has variance s^2 / w, and one of weight
            zero, which may hold anything, was not observed (traced).
        frame_weights: (K,), as how many equal images each counts; one of zero counts for nothing (traced).
        transforms: that a template may be under, as for `e_step` (static).
        fixed: names of fields of `Params` that keep their values (static).
        mesh: devices that share the images out along its axis "frames", for example `device_mesh()`; images that a
            mesh has already are left where they are (static).

    Returns:
        `Fit`.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit; outside of ``jit`` also NaN or infinite pixels
            at a weight above zero, negative noise or probabilities. Inside, and for other wrong values (a prior of
            zeros), nothing is raised and the status says NONFINITE. Reverse mode raises a TypeError.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> result = jaxem.fit(images, truth)
        >>> jaxem.Status(int(result.status)).name
        'CONVERGED'

    Source: ``docs/search.md``, *The loop*.
    """
    frames, transforms = as_frames(images, weights, frame_weights, mesh), as_transforms(transforms)
    params = as_params(params, frames.pixels.shape[1:], frames.pixels.dtype, transforms)
    options = em_options(
        frames.pixels,
        hard=hard,
        prior_smoothing=prior_smoothing,
        max_iterations=max_iterations,
        tolerance=tolerance,
        batch_size=batch_size,
        accelerate=accelerate,
        transforms=transforms,
        fixed=as_fixed(fixed),
        num_shards=frames.num_shards,
    )
    schedule = None if schedule is None else as_schedule(schedule, frames.pixels.dtype)
    if frames.shards is not None:
        params, schedule = frames.shards.replicate((params, schedule))
    return _fit(frames, params, schedule, options)


@jit
def _fit(frames: Frames, params: Params, schedule: Schedule | None, options: EMOptions) -> Fit:
    # Not in `EM.init`: of a prior that is a constant of the program, XLA would add up the double words by itself.
    start = normalized(params, options.fixed)
    found = run_after(schedule, make_workspace(frames, options.batch_size), start, options)
    return forward_only("fit", kept_of_shards(found, frames))


def run_after(schedule: Schedule | None, workspace: Workspace, params: Params, options: EMOptions) -> Fit:
    """A whole run after the steps of a schedule, which are soft also where the run itself is hard."""
    if schedule is None or not options.hard:
        return EM(workspace, options, schedule).run(params)
    # Accelerated or not, the soft part has no iterations.
    soft = EM(workspace, replace(options.soft, accelerate=False), schedule, limit=jnp.int32(0)).run(params)
    return EM(workspace, options).run(soft.params)._replace(num_scheduled=soft.num_scheduled)
