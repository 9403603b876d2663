"""What the two steps pass to each other: sums over images, and what is made of them.

Symbols: ``docs/model.md``, *M-step*.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses
from jaxem.model.params import Params
from jaxem.ops.double_word import DoubleWord


class UnnormalizedPosterior(NamedTuple):
    """A `Posterior` not yet normalised, probs = shares * masses: sums over images normalise, so that maps need not be.

    ======  ===============  ======================================================
    field   shape            meaning
    ======  ===============  ======================================================
    masses  (K, Z, P, Q)     proportional to the probabilities
    shares  (K,)             one over the sum of an image's masses
    absent  (K,) or None     probability that there is no template
    ======  ===============  ======================================================
    """

    masses: jax.Array
    shares: jax.Array
    absent: jax.Array | None = None


class PosteriorSummary(NamedTuple):
    """What the E-step learns about each image besides its posterior.

    =============  ============  ===========================================================================
    field          shape         meaning
    =============  ============  ===========================================================================
    best           `Hypotheses`  the best one b_k
    best_log_odds  (K,)          the log odds of it, nats
    log_mass       (K,)          ln of the sum of exp(log odds - best_log_odds) = -ln q_k(b_k), zero in hard
                                 EM, nats
    entropy        (K,)          of q_k, zero in hard EM, nats
    =============  ============  ===========================================================================

    Best log odds and log mass add up to ln p(X_k) - ln N(X_k; B, s^2), in hard EM with b_k for all hypotheses.
    """

    best: Hypotheses
    best_log_odds: jax.Array
    log_mass: jax.Array
    entropy: jax.Array


class BatchStatistics(NamedTuple):
    """What a posterior and the images say together: sums over images, to be added up over batches.

    ===================  ===========================  =============================  ===================================
    field                formula                      shape                          meaning
    ===================  ===========================  =============================  ===================================
    counts               n = sum_k q_k                (Z, P, Q)                      expected number of templates at
                                                                                     each corner
    absent               sum_k q_k(0)                 () or None                     expected number of images without
    backprojection       sum_k back(rho_k R_k, q_k)   as `Backprojection.residuals`  residuals under the template
    weight_projection    back(rho_k - mean, q_k)      as `Backprojection.weights`    what weights are off their mean
                                                                                     there
    covered_sum          Y_c = sum_k c_k rho_k R_k    (C, H, W)                      residuals where the template covers
    covered_weight       sum_k c_k rho_k              (H, W) or None                 weights there; None where shared
    ===================  ===========================  =============================  ===================================
    """

    counts: jax.Array
    absent: jax.Array | None
    backprojection: jax.Array
    weight_projection: jax.Array | None
    covered_sum: jax.Array
    covered_weight: jax.Array | None


class LogLikelihoodRatio(NamedTuple):
    """What `PosteriorSummary` adds up to over the images: log_prior + log_mass - sse_change / (2 s^2).

    ==========  =================  ================================================================================
    field       shape              meaning
    ==========  =================  ================================================================================
    sse_change  `DoubleWord` (C,)  what the template at the best hypotheses adds to the sum of squared errors
    log_prior   `DoubleWord` ()    ln A there
    log_mass    `DoubleWord` ()    -ln q there: the log mass of all hypotheses relative to the best
    entropy     ()                 of the posteriors, no part of the ratio itself
    ==========  =================  ================================================================================

    The change of the squared errors comes from the windows themselves: of numbers so large, transforms lose hundredths
    of nats.
    """

    sse_change: DoubleWord
    log_prior: DoubleWord
    log_mass: DoubleWord
    entropy: jax.Array


class SufficientStatistics(NamedTuple):
    """All that an M-step needs to know of a posterior.

    ===============  =============================  =================  ================================================
    field            formula                        shape              meaning
    ===============  =============================  =================  ================================================
    counts           n                              (Z, P, Q)          expected number of templates at each corner
    absent           n_0                            () or None         expected number of images without
    template_weight  N = sum_k back(rho_k, q_k)     (M, h, w),         expected weight under each template's pixels;
                                                    (M, 1, 1) or None  None: K for all of them
    template_sum     T = sum back(rho_k X_k, q_k)   (M, C, h, w)       images under the template, less the offset
    covered_weight   c = sum_k rho_k c_k            (H, W)             expected weight that the template hides
    covered_sum      Y_c                            (C, H, W)          residuals where the template covers
    ===============  =============================  =================  ================================================
    """

    counts: jax.Array
    absent: jax.Array | None
    template_weight: jax.Array | None
    template_sum: jax.Array
    covered_weight: jax.Array
    covered_sum: jax.Array


class Expectation(NamedTuple):
    """What an E-step on all images gives.

    ==========  ======================  ============================================
    field       shape                   meaning
    ==========  ======================  ============================================
    statistics  `SufficientStatistics`  of the posterior
    ratio       `LogLikelihoodRatio`    of the evidence
    best        `Hypotheses`            the best one of each image
    ==========  ======================  ============================================
    """

    statistics: SufficientStatistics
    ratio: LogLikelihoodRatio
    best: Hypotheses


def nothing_expected(images: CenteredImages, params: Params) -> SufficientStatistics:
    """Statistics before the first E-step, all zero."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    num_templates, _, *template_shape = params.template.shape
    template_weight = None
    if images.mean_weights is not None:
        template_weight = jnp.zeros((num_templates, *template_shape), zeros.template.dtype)
    elif params.absent is not None or num_templates > 1:
        template_weight = jnp.zeros((num_templates, 1, 1), zeros.template.dtype)
    return SufficientStatistics(
        counts=zeros.prior,
        absent=zeros.absent,
        template_weight=template_weight,
        template_sum=zeros.template,
        covered_weight=zeros.background[0],
        covered_sum=zeros.background,
    )


def nothing_found(images: CenteredImages, params: Params) -> Hypotheses:
    """Hypotheses before the first E-step."""
    num_images = images.frames.num_images
    return Hypotheses(
        jnp.zeros((num_images, 2), jnp.int32),
        None if len(params.prior) == 1 else jnp.zeros(num_images, jnp.int32),
        None if params.absent is None else jnp.ones(num_images, bool),
    )
