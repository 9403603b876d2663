"""What the two steps pass to each other: sums over images, and what is made of them.

Symbols: ``docs/model.md``, *M-step*.
"""

from __future__ import annotations

from typing import NamedTuple

import jax

from jaxem.ops.double_word import DoubleWord


class UnnormalizedPosterior(NamedTuple):
    """A `Posterior` not yet normalised, probs = shares * masses: sums over images normalise, so that maps need not be.

    ======  ======================  =====================================
    field   shape                   meaning
    ======  ======================  =====================================
    masses  (K, H-h+1, W-w+1)       proportional to the probabilities
    shares  (K,)                    one over the sum of an image's masses
    ======  ======================  =====================================
    """

    masses: jax.Array
    shares: jax.Array


class PosteriorSummary(NamedTuple):
    """What the E-step learns about each image besides its posterior.

    =============  ======  ===================================================================================
    field          shape   meaning
    =============  ======  ===================================================================================
    corners        (K, 2)  the best corner b_k
    best_log_odds  (K,)    the log odds there, nats
    log_mass       (K,)    ln sum_d exp(log_odds(d) - best_log_odds) = -ln q_k(b_k), zero in hard EM, nats
    =============  ======  ===================================================================================

    The last two add up to ln p(X_k) - ln N(X_k; B, s^2), in hard EM to ln p(X_k, b_k) - ln N(X_k; B, s^2).
    """

    corners: jax.Array
    best_log_odds: jax.Array
    log_mass: jax.Array


class BatchStatistics(NamedTuple):
    """What a posterior and the images say together: sums over images, to be added up over batches.

    ==============  =====================  ============================  ===========================================
    field           formula                shape                         meaning
    ==============  =====================  ============================  ===========================================
    counts          n = sum_k q_k          (H-h+1, W-w+1)                expected number of templates at each corner
    backprojection  sum_k back(R_k, q_k)   `CenteredImages.backproject`  residuals under the template
    covered_sum     Y_c = sum_k c_k R_k    (H, W)                        residuals where the template covers
    ==============  =====================  ============================  ===========================================
    """

    counts: jax.Array
    backprojection: jax.Array
    covered_sum: jax.Array


class LogLikelihoodRatio(NamedTuple):
    """What `PosteriorSummary` adds up to over the images: log_prior + log_mass - sse_change / (2 s^2).

    ==========  ============  ======================================================================================
    field       shape         meaning
    ==========  ============  ======================================================================================
    sse_change  `DoubleWord`  what the template at the best corners adds to the sum of squared errors
    log_prior   `DoubleWord`  ln A there
    log_mass    `DoubleWord`  -ln q there: the log mass of all corners relative to the best
    ==========  ============  ======================================================================================

    The change of the squared errors comes from the windows themselves: of numbers so large, transforms lose hundredths
    of nats.
    """

    sse_change: DoubleWord
    log_prior: DoubleWord
    log_mass: DoubleWord


class SufficientStatistics(NamedTuple):
    """All that an M-step needs to know of a posterior.

    ============  ==========================  ==============  ===========================================
    field         formula                     shape           meaning
    ============  ==========================  ==============  ===========================================
    counts        n                           (H-h+1, W-w+1)  expected number of templates at each corner
    covered       c = coverage of n           (H, W)          expected number of templates over each pixel
    template_sum  T = sum_k back(R_k, q_k)    (h, w)          images under the template, less the offset
                  + back(B0, n)
    covered_sum   Y_c                         (H, W)          residuals where the template covers
    ============  ==========================  ==============  ===========================================
    """

    counts: jax.Array
    covered: jax.Array
    template_sum: jax.Array
    covered_sum: jax.Array


class Expectation(NamedTuple):
    """What an E-step on all images gives.

    ==========  ======================  ============================================
    field       shape                   meaning
    ==========  ======================  ============================================
    statistics  `SufficientStatistics`  of the posterior
    ratio       `LogLikelihoodRatio`    of the evidence
    corners     (K, 2) int32            the best corner of each image
    ==========  ======================  ============================================
    """

    statistics: SufficientStatistics
    ratio: LogLikelihoodRatio
    corners: jax.Array
