"""Which of several runs is the best, and in which order its templates come.

Source: ``docs/search.md``, *Restarts* and *Several templates*.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.solvers.result import Fit


def order_templates(found: Fit) -> Fit:
    """The same with several templates in the order of their shares of the images, the largest first."""
    params, numbers = found.params, found.best_template
    assert numbers is not None
    shares = jnp.sum(params.prior.reshape(len(params.prior), -1), axis=1)
    order = jnp.argsort(-shares)
    params = params._replace(template=params.template[order], prior=params.prior[order])
    return found._replace(params=params, best_template=jnp.argsort(order).astype(jnp.int32)[numbers])


def best_run(runs: Fit) -> jax.Array:
    """Which of several runs has the highest finite objective; the first if none is finite."""
    elbo: Any = runs.elbo
    numpy: Any = np if isinstance(elbo, np.ndarray) else jnp  # on the host nothing is compiled for it
    return numpy.argmax(numpy.where(numpy.isfinite(elbo), elbo, -numpy.inf))
