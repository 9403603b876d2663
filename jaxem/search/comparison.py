"""What the results of stages say of each other, and of what is to be done next.

Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

import math

import jax
import numpy as np

from jaxem.model.likelihood import Hypotheses, hypotheses_of
from jaxem.model.params import num_hypotheses
from jaxem.model.workspace import ImageTotals
from jaxem.solvers.result import Fit

# Annealing has lost the template where the posteriors' entropy is more than this share of that of a uniform one.
LOST_ENTROPY_SHARE = 0.5
# Of so few images or fewer a start from a single one is as good as one from all of them.
FEW_IMAGES = 16
# A template of so many times more pixels than there are images can fit noise so well that no entropy is left; then it
# explains no more of an image than so many times 2 ln(number of hypotheses).
PIXELS_PER_IMAGE, LEAST_EXPLAINED = 1.5, 2.5


def hypotheses_at(fit: Fit) -> Hypotheses:
    """The best hypothesis of each image, as a fit has them."""
    return hypotheses_of(fit.positions, 1 if fit.transforms is None else len(fit.transforms))


def is_lost(best: Fit) -> jax.Array:
    """Whether annealing has lost the template."""
    return best.entropy > LOST_ENTROPY_SHARE * math.log(num_hypotheses(best.params))


def explains_little(best: Fit, scale: jax.Array, totals: ImageTotals) -> jax.Array | bool:
    """Whether a template that is large for so few images explains no more of them than it would of noise.

    In squares of the noise scale, summed over an image: what the images differ by from their mean, and from the model.

    Args:
        best: the fit.
        scale: the unit of the centred images, in pixel values.
        totals: of the images.
    """
    if best.params.template.size < PIXELS_PER_IMAGE * len(best.corners):
        return False
    noise = (best.params.noise_scale / scale) ** 2
    explained = ((totals.square_sum.high / noise - totals.num_pixels.high) / totals.num_images).sum()
    return explained < LEAST_EXPLAINED * 2 * math.log(num_hypotheses(best.params))


def needs_trials(best: Fit, scale: jax.Array, totals: ImageTotals) -> jax.Array | bool:
    """Whether crops are tried: where annealing has lost the template, and always where few images make it uncertain.

    Traced, or of NumPy arrays, which compile nothing.
    """
    return is_lost(best) | explains_little(best, scale, totals) | (len(best.corners) <= FEW_IMAGES)


def is_higher(one: Fit, other: Fit) -> jax.Array:
    """Whether one objective is finite and above the other, or the other is NaN."""
    return (abs(one.elbo) < np.inf) & ~(one.elbo <= other.elbo)
