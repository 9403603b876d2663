"""Many runs from random starting points, and the best of them.

EM climbs the hill it starts on. Source: ``docs/method.md``, *Restarts*.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem import checks
from jaxem.diagnostics import Diagnostics, diagnose, warnings
from jaxem.legs import Starts
from jaxem.loop import Fit
from jaxem.model import Params
from jaxem.moves import find_cuts, varying_params
from jaxem.runs import STATIC_OPTIONS, fit_options, run
from jaxem.search import Search, climb_best
from jaxem.stack import MOMENTS_BATCH, Prepared, moments, prepare
from jaxem.windows import Shape, positions_shape

DEFAULT_SEARCH = Search()


class Restarts(NamedTuple):
    """What several runs found, and how far to trust it.

    ===========  =====================================================================================
    field        meaning
    ===========  =====================================================================================
    best         the `Fit` of the highest finite objective (the first run if none is finite)
    runs         a `Fit` whose every array has a leading axis, one entry a run
    diagnostics  `Diagnostics` of the best among the runs
    ===========  =====================================================================================
    """

    best: Fit
    runs: Fit
    diagnostics: Diagnostics

    def warnings(self) -> list[str]:
        """Reasons not to trust the best run, a sentence each; of a finished result, not of one being traced."""
        return warnings(self.best, self.diagnostics, len(self.runs.elbo))


def random_params(key: jax.Array, images: Any, template_shape: Shape) -> Params:
    """A random starting point scaled to the images.

    Template and background pixels are independent and uniform with the mean and standard deviation of the images'
    (finite) pixels, which is U[0, 1] for pixels spread evenly over [0, 1]; the noise scale is that standard deviation;
    the prior is uniform.

    Args:
        key: random key.
        images: (K, H, W), pixel values.
        template_shape: (h, w) (static).

    Returns:
        `Params`, in the dtype of the images.

    Raises:
        ValueError, TypeError: shapes that do not fit each other, no key.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> jaxem.random_params(jax.random.key(0), jnp.zeros((3, 10, 12)), (4, 5)).prior.shape
        (7, 8)

    Source: ``docs/method.md``, *Restarts*.
    """
    images = checks.as_images(images)
    template_shape = checks.as_template_shape(template_shape, images.shape[1:])
    return _random_params(checks.as_key(key), images, template_shape=template_shape)


@partial(jax.jit, static_argnames="template_shape")
def _random_params(key: jax.Array, images: jax.Array, template_shape: Shape) -> Params:
    image_shape, dtype = images.shape[1:], images.dtype
    mean, unit, mean_square, _ = moments(images, min(MOMENTS_BATCH, len(images)))
    scale = unit * jnp.sqrt(mean_square)
    positions = positions_shape(image_shape, template_shape)
    prior = jnp.full(positions, 1 / (positions[0] * positions[1]), dtype)
    # One draw for both, since each compiles for a second.
    sizes = math.prod(template_shape), math.prod(image_shape)
    pixels = mean + 3**0.5 * scale * jax.random.uniform(key, (sum(sizes),), dtype, -1, 1)
    template, background = pixels[: sizes[0]], pixels[sizes[0] :]
    return Params(template.reshape(template_shape), background.reshape(image_shape), scale, prior)


def fit_restarts(
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
    group_size: int | None = None,
    search: Search | None = DEFAULT_SEARCH,
) -> Restarts:
    """Look for the parameters of the highest objective, from several starting points.

    By default the starting points, the first of them read off the images, are annealed and compared, and the best is
    climbed to its top: see `Search`. With ``search=None`` every run climbs by itself from a random start, and run i is
    ``fit(images, random_params(jax.random.split(key, num_restarts)[i], images, template_shape))``.

    Args:
        key: random key.
        images: (K, H, W), pixel values; integers are promoted.
        template_shape: (h, w) (static).
        num_restarts: how many starting points; by default 2, or 10 without a search (static).
        hard: as for `fit`; the annealing is soft all the same.
        prior_smoothing: as for `fit`.
        max_iterations: as for `fit`; those of annealing come on top.
        tolerance: as for `fit`.
        batch_size: as for `fit`.
        group_size: runs made side by side by ``vmap``, until the slowest of them ends, where there is no search; by
            default one on a CPU, from whose cache more would fall out, and all of them on other devices (static).
        search: how to look for the highest hill and not the nearest, or None (static).

    Returns:
        `Restarts`; its `warnings()` are reasons to doubt it.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.fit_restarts(jax.random.key(1), images, (2, 3))
        >>> bool(jnp.abs(found.best.params.template - 1).max() < 0.05)
        True

    Source: ``docs/method.md``, *Restarts* and *Search*.
    """
    images = checks.as_images(images)
    template_shape = checks.as_template_shape(template_shape, images.shape[1:])
    keys = restart_keys(key, num_restarts, search)
    if group_size is None:
        group_size = 1 if search is not None or jax.default_backend() == "cpu" else len(keys)
    group_size = min(checks.as_count("group_size", group_size, at_least=1), len(keys))
    options = fit_options(images, hard, prior_smoothing, max_iterations, tolerance, batch_size, group_size)
    return _fit_restarts(keys, images, template_shape=template_shape, group_size=group_size, search=search, **options)


def restart_keys(key: Any, num_restarts: Any, search: Any) -> jax.Array:
    """A key for each starting point, of which a search needs few."""
    if not (search is None or isinstance(search, Search)):
        raise TypeError(f"search must be a jaxem.Search or None, but is {search!r}.")
    if num_restarts is None:
        num_restarts = 10 if search is None else 2
    return jax.random.split(checks.as_key(key), checks.as_count("num_restarts", num_restarts, at_least=1))


@partial(jax.jit, static_argnames=("template_shape", "group_size", "search", *STATIC_OPTIONS))
def _fit_restarts(
    keys: jax.Array,
    images: jax.Array,
    template_shape: Shape,
    group_size: int,
    batch_size: int,
    search: Search | None,
    **options: Any,
) -> Restarts:
    prepared = prepare(images, batch_size)
    return find_best(prepared, starting_points(keys, prepared, template_shape, search), group_size, search, **options)


def starting_points(keys: jax.Array, prepared: Prepared, template_shape: Shape, search: Search | None) -> Starts:
    """One a key, stacked along a leading axis; of a search the first is read off the images."""
    images = prepared.stack.images
    drawn = jax.vmap(partial(_random_params, images=images, template_shape=template_shape))(keys)
    if search is None:
        return Starts(drawn, None)
    read_off = varying_params(images, template_shape)
    params = jax.tree.map(lambda drawn, read: drawn.at[0].set(read), drawn, read_off)
    return Starts(params, find_cuts(prepared, template_shape))


def find_best(prepared: Prepared, starts: Starts, group_size: int, search: Search | None, **options: Any) -> Restarts:
    """`fit_restarts` from given starts on a prepared stack, to be traced."""
    if search is not None:
        runs, num_steps = climb_best(prepared, starts, search, **options)
    else:
        run_from = partial(run, prepared, **options)
        runs = lax.map(run_from, starts.params, batch_size=None if group_size == 1 else group_size)
        num_steps = jnp.sum(runs.num_iterations + 1, dtype=jnp.int32)
    return keep_best(prepared, runs, num_steps, options["prior_smoothing"])


def keep_best(prepared: Prepared, runs: Fit, num_steps: jax.Array, prior_smoothing: jax.Array) -> Restarts:
    """Put the best of several runs, stacked along a leading axis, and its diagnostics beside them."""
    number = best_run(runs)
    best = jax.tree.map(lambda leaf: leaf[number], runs)
    return Restarts(best, runs, diagnose(prepared, best, runs, num_steps, prior_smoothing))


def best_run(runs: Fit) -> jax.Array:
    """Which of several runs has the highest finite objective; the first if none is finite."""
    return jnp.argmax(jnp.where(jnp.isfinite(runs.elbo), runs.elbo, -jnp.inf))
