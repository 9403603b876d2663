"""Longer steps than EM's: SQUAREM, the squared extrapolation of two of them.

Source: ``docs/search.md``, *Acceleration*; R. Varadhan and C. Roland, Simple and globally convergent methods for
accelerating the convergence of any EM algorithm, Scandinavian Journal of Statistics 35, 2008 (their step length S3).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxem.model.params import Params
from jaxem.solvers.unconstrained import Unconstrained, from_unconstrained, to_unconstrained

# So many EM steps at most in one: farther out only chance decides whether the objective rises.
MAX_STEP_LENGTH = 32.0


def extrapolate(first: Params, second: Params, third: Params) -> Params:
    """Where two successive EM steps lead: phi + 2 gamma step + gamma^2 bend, bend being how much they differ.

    The length is gamma = |step| / |bend|, at least 1, which is the second step itself; lengths are those of the Fisher
    information in `Unconstrained` parameters.
    """
    start, middle, end = map(to_unconstrained, (first, second, third))
    step = jax.tree.map(jnp.subtract, middle, start)
    bend = jax.tree.map(lambda x, y, z: (z - y) - (y - x), start, middle, end)
    variance = jnp.mean(second.noise_scale**2)
    # Of ln s what all pixels say, shared among the channels that have noise scales of their own.
    per_scale = 2 * first.background.size / second.noise_scale.size
    information = [1 / variance, 1 / variance, *(jnp.full_like(variance, size) for size in (per_scale, 4, 4))]

    def squared_length(change: Unconstrained) -> jax.Array:
        leaves = [(leaf, weight) for leaf, weight in zip(change, information, strict=True) if leaf is not None]
        weights = jnp.stack([weight for _, weight in leaves])
        return jnp.sum(weights * jnp.stack([jnp.sum(leaf**2) for leaf, _ in leaves]))

    tiny = jnp.finfo(variance.dtype).tiny
    length = jnp.sqrt(squared_length(step) / jnp.maximum(squared_length(bend), tiny))
    length = jnp.clip(length, 1, MAX_STEP_LENGTH)
    ahead = jax.tree.map(lambda x, one, change: x + 2 * length * one + length**2 * change, start, step, bend)
    absent_root = None if ahead.absent_root is None else jnp.maximum(ahead.absent_root, 0)
    ahead = ahead._replace(prior_root=jnp.maximum(ahead.prior_root, 0), absent_root=absent_root)
    return from_unconstrained(ahead, second.opacity)
