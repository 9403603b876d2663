"""Whether the template that a search found stands out of what the same search finds in noise.

Source: ``docs/statistics.md``, *Noise check*.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.frames import Frames, moments_by_pixel
from jaxem.model.workspace import make_workspace
from jaxem.ops.validation import as_images, as_key
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_count
from jaxem.runtime.compilation import jit
from jaxem.runtime.errors import ArgumentValueError
from jaxem.search.restarts import DEFAULT_SEARCH, as_num_restarts, find_best, starting_points
from jaxem.search.strategy import Search
from jaxem.search.structure import Structure, as_structure
from jaxem.solvers.options import EMOptions, em_options


class NoiseCheck(NamedTuple):
    """How a stack compares with stacks that have no template.

    ===========  ==============  ==================================================================================
    field        shape           meaning, unit
    ===========  ==============  ==================================================================================
    p_value      ()              how often noise alone gains as much: (1 + how many of them do) / (1 + num_refits)
    gain         ()              template gain: objective of the best fit less the highest log likelihood without any
                                 template, nats
    noise_gains  (num_refits,)   the same of stacks of background and noise alone
    ===========  ==============  ==================================================================================
    """

    p_value: jax.Array
    gain: jax.Array
    noise_gains: jax.Array


def noise_check(
    key: jax.Array,
    images: Any,
    template_shape: Shape,
    *,
    num_refits: int = 19,
    num_restarts: int | None = None,
    hard: bool = False,
    prior_smoothing: Any = 0.0,
    max_iterations: int = 50,
    tolerance: Any = 1e-3,
    batch_size: int | None = None,
    search: Search | None = DEFAULT_SEARCH,
) -> NoiseCheck:
    """Test whether the images hold a template at all, against stacks of noise that are searched in the same way.

    A search always finds something: it fits noise. Without a template the mean image and the total squares about it are
    sufficient, so stacks of Gaussian noise that share both with the images differ from them in nothing but chance. Then
    the images' gain is the largest of all with probability 1 / (1 + num_refits) exactly.

    Args:
        key: random key.
        images: (K, H, W), pixel values, K at least 2; integers are promoted.
        template_shape: (h, w) (static).
        num_refits: stacks of noise; 19 are the fewest that can give a p-value of 0.05 (static).
        num_restarts: as for `fit_restarts`.
        hard: as for `fit_restarts`.
        prior_smoothing: as for `fit_restarts`.
        max_iterations: as for `fit_restarts`.
        tolerance: as for `fit_restarts`.
        batch_size: as for `fit_restarts`.
        search: as for `fit_restarts`.

    Returns:
        `NoiseCheck`. The p-value is 1 where the fit of the images failed.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> round(float(jaxem.noise_check(jax.random.key(1), images, (2, 3)).p_value), 3)
        0.05

    Source: ``docs/statistics.md``, *Noise check*.
    """
    images = as_images(images)
    structure = as_structure(Frames(images), template_shape)
    if len(images) < 2:
        raise ArgumentValueError("images", "must be two at least: the noise is measured by their differences.")
    num_refits = as_count("num_refits", num_refits, at_least=1)
    num_starts = as_num_restarts(num_restarts, search)
    options = em_options(
        images,
        hard=hard,
        prior_smoothing=prior_smoothing,
        max_iterations=max_iterations,
        tolerance=tolerance,
        batch_size=batch_size,
    )
    keys = jax.random.split(as_key(key), 1 + num_refits)
    return _noise_check(keys, images, structure, options, num_starts=num_starts, search=search)


@partial(jit, static_argnames=("num_starts", "search"))
def _noise_check(
    keys: jax.Array,
    images: jax.Array,
    structure: Structure,
    options: EMOptions,
    num_starts: int,
    search: Search | None,
) -> NoiseCheck:
    mean, variances = (moment[0] for moment in moments_by_pixel(Frames(images)))
    variance = jnp.mean(variances)

    def gain_of(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        key, is_noise = inputs
        noise_key, start_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, images.shape, images.dtype)
        noise -= jnp.mean(noise, axis=0)[None]
        noise *= jnp.sqrt(variance / jnp.mean(noise**2))
        stack = jnp.where(is_noise, mean[None] + noise, images)
        workspace = make_workspace(Frames(stack), options.batch_size)
        starts = starting_points(start_key, num_starts, workspace, structure, search)
        found = find_best(workspace, starts, 1, search, options)
        return found.best.elbo - log_likelihood_without_template(stack)

    # All in one loop, so that the search is compiled once and the images' own fit is made like the others.
    gains = lax.map(gain_of, (keys, jnp.arange(len(keys)) > 0))
    gain, noise_gains = gains[0], gains[1:]
    num_higher = jnp.sum(~(noise_gains < gain), dtype=gains.dtype)
    return NoiseCheck((1 + num_higher) / len(keys), gain, noise_gains)


def log_likelihood_without_template(images: jax.Array) -> jax.Array:
    """The highest log likelihood of a background and noise alone: -KHW/2 (ln(2 pi s_none^2) + 1), nats."""
    _, variances = moments_by_pixel(Frames(images))
    return -images.size / 2 * (jnp.log(2 * jnp.pi * jnp.mean(variances)) + 1)
