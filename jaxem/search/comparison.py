"""What the results of stages say of each other, and of what is to be done next.

Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

import math

import jax
import numpy as np

from jaxem.model.likelihood import Hypotheses, hypotheses_of
from jaxem.model.params import num_hypotheses
from jaxem.solvers.result import Fit

# Annealing has lost the template where the posteriors' entropy is more than this share of that of a uniform one.
LOST_ENTROPY_SHARE = 0.5
# Of so few images or fewer a start from a single one is as good as one from all of them.
FEW_IMAGES = 16


def hypotheses_at(fit: Fit) -> Hypotheses:
    """The best hypothesis of each image, as a fit has them."""
    return hypotheses_of(fit.positions, 1 if fit.transforms is None else len(fit.transforms))


def is_lost(best: Fit) -> jax.Array:
    """Whether annealing has lost the template."""
    return best.entropy > LOST_ENTROPY_SHARE * math.log(num_hypotheses(best.params))


def needs_trials(best: Fit) -> jax.Array:
    """Whether crops are tried: where annealing has lost the template, and always where few images make it uncertain."""
    return is_lost(best) | (len(best.corners) <= FEW_IMAGES)


def is_higher(one: Fit, other: Fit) -> jax.Array:
    """Whether one objective is finite and above the other, or the other is NaN."""
    return (abs(one.elbo) < np.inf) & ~(one.elbo <= other.elbo)
