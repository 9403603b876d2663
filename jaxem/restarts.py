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
from jaxem.loop import STATIC_OPTIONS, Fit, fit_options, run
from jaxem.model import Params
from jaxem.moves import varying_params
from jaxem.search import Search, climb_best
from jaxem.stack import moments, prepare
from jaxem.windows import Shape, positions_shape

MOMENTS_BATCH = 32


class Restarts(NamedTuple):
    """What several runs found.

    =====  =====================================================================================
    field  meaning
    =====  =====================================================================================
    best   the `Fit` of the highest finite objective (the first run if none is finite)
    runs   a `Fit` whose every array has a leading axis, one entry a run
    =====  =====================================================================================
    """

    best: Fit
    runs: Fit


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
    num_restarts: int = 10,
    hard: bool = False,
    prior_smoothing: Any = 0.0,
    max_iterations: int = 50,
    tolerance: Any = 1e-3,
    batch_size: int | None = None,
    group_size: int | None = None,
    search: Search | None = None,
) -> Restarts:
    """Run EM from several random starting points and keep every run.

    Run i is ``fit(images, random_params(jax.random.split(key, num_restarts)[i], images, template_shape))``. The runs
    share the images and their transforms; one that has converged makes way for the next.

    Args:
        key: random key.
        images: (K, H, W), pixel values; integers are promoted.
        template_shape: (h, w) (static).
        num_restarts: how many runs (static).
        hard: as for `fit`.
        prior_smoothing: as for `fit`.
        max_iterations: as for `fit`.
        tolerance: as for `fit`.
        batch_size: as for `fit`.
        group_size: runs made side by side by ``vmap``, until the slowest of them ends; by default one on a CPU, from
            whose cache more would fall out, and all of them on other devices (static).
        search: how to look for the highest hill and not the nearest (static): the restarts are then starting points,
            the first of them read off the images, that are compared after a few steps, and only the best is climbed to
            its top. Two will do. By default every run goes its own way to its end.

    Returns:
        `Restarts`.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.fit_restarts(jax.random.key(1), images, (2, 3), num_restarts=5)
        >>> bool(jnp.abs(found.best.params.template - 1).max() < 0.05)
        True

    Source: ``docs/method.md``, *Restarts*.
    """
    images = checks.as_images(images)
    template_shape = checks.as_template_shape(template_shape, images.shape[1:])
    num_restarts = checks.as_count("num_restarts", num_restarts, at_least=1)
    if group_size is None:
        group_size = 1 if jax.default_backend() == "cpu" else num_restarts
    group_size = min(checks.as_count("group_size", group_size, at_least=1), num_restarts)
    options = fit_options(images, hard, prior_smoothing, max_iterations, tolerance, batch_size, group_size)
    keys = jax.random.split(checks.as_key(key), num_restarts)
    if not (search is None or isinstance(search, Search)):
        raise TypeError(f"search must be a jaxem.Search or None, but is {search!r}.")
    return _fit_restarts(keys, images, template_shape=template_shape, group_size=group_size, search=search, **options)


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
    starts = jax.vmap(partial(_random_params, images=images, template_shape=template_shape))(keys)
    if search is not None:
        read_off = varying_params(images, template_shape)
        starts = jax.tree.map(lambda drawn, read: drawn.at[0].set(read), starts, read_off)
        return keep_best(climb_best(prepared, starts, search, **options))

    def one_run(start: Params) -> Fit:
        return run(prepared, start, **options)

    return keep_best(lax.map(one_run, starts, batch_size=None if group_size == 1 else group_size))


def keep_best(runs: Fit) -> Restarts:
    """Put the best of several runs, stacked along a leading axis, beside them."""
    best = best_run(runs)
    return Restarts(jax.tree.map(lambda leaf: leaf[best], runs), runs)


def best_run(runs: Fit) -> jax.Array:
    """Which of several runs has the highest finite objective; the first if none is finite."""
    return jnp.argmax(jnp.where(jnp.isfinite(runs.elbo), runs.elbo, -jnp.inf))
