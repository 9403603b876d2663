"""How far posteriors may be believed, by how far the template's contrast is above what chance finds.

A template that was fitted to noise has posteriors as certain as any, and those of one that was partly learned from
wrong places do not know of its errors. What is here was read off random problems of 20 to 400 images. Source:
``docs/statistics.md``, *Leave one out*; measured in ``bench/README.md``, *Honesty*.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

# Half of the fits with this relative contrast are right, and so much more or less makes most of them right or wrong;
# both have a part that falls with the root of the number of images, as the scatter of the contrast does.
HALF_RIGHT, HALF_RIGHT_OF_FEW, WIDTH_OF_FEW = 0.9, 1.5, 1.0
MOST_IMAGES = 400  # of more it was not measured
LEAST_TRUST = 0.9
# The odds of a wrong place that no posterior knows of, at what chance finds, and over how much they fall e-fold.
UNKNOWN_ODDS, UNKNOWN_ODDS_RANGE = 1.8, 2.0


def relative_contrast(contrast: jax.Array, num_hypotheses: int) -> jax.Array:
    """Contrast over what chance finds among so many hypotheses, 2 ln(their number); infinite if there is one only."""
    return contrast / (2 * math.log(num_hypotheses)) if num_hypotheses > 1 else jnp.full_like(contrast, jnp.inf)


def trust(relative: jax.Array, num_images: jax.Array) -> jax.Array:
    """How likely it is that a template of this relative contrast, learned from so many images, is more than noise."""
    scatter = 1 / jnp.sqrt(jnp.clip(num_images, 1, MOST_IMAGES))
    return jax.nn.sigmoid((relative - HALF_RIGHT - HALF_RIGHT_OF_FEW * scatter) / (WIDTH_OF_FEW * scatter))


def calibrated(confidence: jax.Array, relative: jax.Array, num_images: jax.Array) -> jax.Array:
    """Probability of places that the posterior, each image left out of what it is judged by, gives some probability."""
    unknown = 1 + UNKNOWN_ODDS * jnp.exp((1 - relative) / UNKNOWN_ODDS_RANGE)
    return trust(relative, num_images) * confidence / (confidence + (1 - confidence) * unknown)


def least_relative_contrast(num_images: float) -> float:
    """From where on a template learned from so many images is trusted, by `LEAST_TRUST` and more."""
    width = WIDTH_OF_FEW * math.log(LEAST_TRUST / (1 - LEAST_TRUST))
    return HALF_RIGHT + (HALF_RIGHT_OF_FEW + width) / math.sqrt(min(max(num_images, 1), MOST_IMAGES))
