"""The E-step and its statistics a batch of images at a time, so that memory does not grow with the positions.

K x P x Q probabilities exist for one batch only. Source: ``docs/method.md``, *M-step*.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.em import Statistics, infer, summarise
from jaxem.model import Params, Stack


def expectation(stack: Stack, params: Params, *, hard: bool, batch_size: int) -> tuple[Statistics, jax.Array]:
    """E-step and statistics of the whole stack, a batch of images at a time, and the sum of the log densities."""

    def one_batch(residuals: jax.Array) -> tuple[Statistics, jax.Array]:
        batch = stack._replace(residuals=residuals)
        posterior = infer(batch, params, hard=hard)
        _, log_density = posterior
        return summarise(batch, posterior, params.template.shape), jnp.sum(cast(jax.Array, log_density))

    return _sum_over_batches(one_batch, stack.residuals, batch_size)


def _sum_over_batches(function: Any, images: jax.Array, batch_size: int) -> Any:
    """The sum of function(batch) over consecutive batches of the images, the last one possibly smaller."""
    num_batches, rest = divmod(len(images), batch_size)

    def add(total: Any, batch: jax.Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(batch)), None

    if num_batches == 0:
        return function(images)
    batches = images[: num_batches * batch_size].reshape(num_batches, batch_size, *images.shape[1:])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, batches[0]))
    total, _ = lax.scan(add, zeros, batches)
    return add(total, images[num_batches * batch_size :])[0] if rest else total
