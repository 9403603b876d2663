"""What every stage of a search came to, in a few numbers: all that is kept of the stages but the best.

Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.ops.printing import short_repr
from jaxem.ops.trees import set_entry
from jaxem.solvers.result import Fit


class StageRecord(NamedTuple):
    """The stages of a search in the order in which they are planned, S of them.

    =========  ==========  =====================================================================================
    field      shape       meaning, unit
    =========  ==========  =====================================================================================
    kind       (S,) int32  a `StageKind`
    number     (S,) int32  of the start or the crop it began with, or which attempt it was
    num_steps  (S,) int32  E-steps it took; zero where there was nothing for it to do
    elbo       (S,)        the objective at its end, without annealing, nats; NaN where it did nothing or failed
    is_best    (S,) bool   whether it was the best at its end, that is the highest so far; trials never are
    =========  ==========  =====================================================================================
    """

    kind: jax.Array
    number: jax.Array
    num_steps: jax.Array
    elbo: jax.Array
    is_best: jax.Array

    def __repr__(self) -> str:
        return short_repr(self)

    @classmethod
    def blank(cls, kind: jax.Array, number: jax.Array, dtype: Any) -> StageRecord:
        """Before the first stage."""
        return cls(
            kind, number, jnp.zeros_like(kind), jnp.full(kind.shape, jnp.nan, dtype), jnp.zeros(kind.shape, bool)
        )

    def after(self, place: jax.Array, fit: Fit, is_better: jax.Array) -> StageRecord:
        """With the stage at a place, which has ended with a fit."""
        before = (self.num_steps, self.elbo, self.is_best)
        num_steps, elbo, is_best = set_entry(before, place, (num_steps_of(fit), fit.elbo, is_better))
        return self._replace(num_steps=num_steps, elbo=elbo, is_best=is_best)

    def merged(self, other: StageRecord, is_higher: Any) -> StageRecord:
        """With the stages of another record; those are the best at their ends only if `is_higher`. On the host."""
        is_new = np.asarray(other.num_steps) > np.asarray(self.num_steps)
        theirs = other._replace(is_best=other.is_best & is_higher)
        parts: Any = (np.where(is_new, new, old) for new, old in zip(theirs, self, strict=True))
        return StageRecord(*parts)


def num_steps_of(fit: Fit) -> jax.Array:
    """E-steps that a run took, that of its start included."""
    return fit.num_scheduled + fit.num_iterations + 1
