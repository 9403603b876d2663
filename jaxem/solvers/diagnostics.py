"""How far to trust a result: what the runs say about each other, and what the best says of itself.

Source: ``docs/statistics.md``, *Diagnostics*.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.model.images import Workspace
from jaxem.model.objective import visible_counts
from jaxem.model.params import Params, to_internal_units
from jaxem.ops import fourier
from jaxem.ops.windows import coverage_in_stages, window_sums_in_stages
from jaxem.runtime.text import plural
from jaxem.solvers.result import Fit, Status

# What raises a warning: a larger share of the positions left open, a contrast of less than so many times
# 2 ln(number of positions), and so many runs of which only one found the best.
OPEN_POSITIONS_SHARE, LEAST_RELATIVE_CONTRAST, FEWEST_RUNS_TO_COMPARE = 0.2, 1.0, 3
NEAR_FLOOR = 1.01  # times the smallest variance that the numbers resolve


class Diagnostics(NamedTuple):
    """How far to trust the best of several runs.

    Runs agree where the root mean square difference of their templates is below the standard error of a template's
    pixel at known positions, s / sqrt(K).

    ===================  ==========  ==========================================================================
    field                shape       meaning, unit
    ===================  ==========  ==========================================================================
    gap                  ()          objective of the best less that of the best run that does not agree with it,
                                     infinite where all agree; a run that was left after its annealing counts with
                                     the objective it had there, nats
    num_agreeing         () int32    runs that agree with the best, itself included
    num_steps            () int32    E-steps of all runs
    effective_positions  ()          exponential of the mean entropy of the posteriors: positions an image that the
                                     best run leaves open
    contrast             ()          mean over the prior of |F - B under it|^2 / s^2; what stands out of noise has
                                     more than 2 ln(number of positions)
    num_hidden           () int32    background pixels that the template covers in every image
    at_noise_floor       () bool     whether the noise is below what the pixels' precision resolves
    ===================  ==========  ==========================================================================
    """

    gap: jax.Array
    num_agreeing: jax.Array
    num_steps: jax.Array
    effective_positions: jax.Array
    contrast: jax.Array
    num_hidden: jax.Array
    at_noise_floor: jax.Array


def diagnose(
    workspace: Workspace, best: Fit, runs: Fit, num_steps: jax.Array, prior_smoothing: jax.Array
) -> Diagnostics:
    """Diagnostics of the best of the runs, which are stacked along a leading axis; to be traced."""
    images, num_images = workspace.images, len(workspace.images.pixels)
    params = to_internal_units(best.params, images)
    differences = jnp.mean((runs.params.template - best.params.template[None]) ** 2, axis=(1, 2))
    agree = (differences <= best.params.noise_scale**2 / num_images) | (runs.elbo == best.elbo)
    others = jnp.where(jnp.isfinite(runs.elbo) & ~agree, runs.elbo, -jnp.inf)
    counts = params.prior * (num_images + prior_smoothing) - prior_smoothing / params.prior.size
    visible = visible_counts(coverage_in_stages(counts, params.template.shape), jnp.asarray(num_images, counts.dtype))
    return Diagnostics(
        best.elbo - jnp.max(others),
        jnp.sum(agree, dtype=jnp.int32),
        num_steps,
        jnp.exp(best.entropy),
        contrast(params),
        jnp.sum(visible == 0, dtype=jnp.int32),
        params.noise_scale**2 <= NEAR_FLOOR * images.variance_floor,
    )


def contrast(params: Params) -> jax.Array:
    """Mean over the prior of |F - B under it|^2 / s^2."""
    template, background, noise_scale, prior = params
    transformed = fourier.transform_template(template, background.shape)
    spectra = fourier.transform_pairs(background[None], background.shape)
    cross = fourier.correlate_pairs(spectra, transformed, template.shape)[0]
    squares = jnp.sum(template**2) - 2 * cross + window_sums_in_stages(background**2, template.shape)
    return jnp.sum(prior * squares) / noise_scale**2


def warnings(best: Fit, diagnostics: Diagnostics, num_runs: int) -> list[str]:
    """Reasons not to trust the best of so many runs, a sentence each; none where there is nothing to say against it."""
    status, num_positions = Status(int(best.status)), best.params.prior.size
    gap, num_agreeing, _, effective_positions, found_contrast, num_hidden, at_noise_floor = map(float, diagnostics)
    needed = 2 * math.log(num_positions)
    reasons = {
        f"The best run did not converge. {status.explanation}": status != Status.CONVERGED,
        "The noise is below what the pixels' numbers resolve; frames all alike leave the template's place open.": (
            bool(at_noise_floor)
        ),
        f"The template covers {plural(int(num_hidden), 'background pixel')} in every frame; there the mean frame is "
        "shown.": num_hidden > 0,
        f"The template hardly stands out of the noise: its contrast is {found_contrast:.3g}, and what chance finds "
        f"among {num_positions} positions has {needed:.3g}. jaxem.noise_check tells how likely that is.": (
            found_contrast < LEAST_RELATIVE_CONTRAST * needed
        ),
        f"The frames do not tell where the template is: each leaves {effective_positions:.3g} of {num_positions} "
        "positions open.": num_positions > 1 and effective_positions > OPEN_POSITIONS_SHARE * num_positions,
        f"Only one of {num_runs} runs found the best; the next template is {gap:.3g} nats lower. More runs may find "
        "a better one.": num_runs >= FEWEST_RUNS_TO_COMPARE and num_agreeing == 1 and gap < math.inf,
    }
    return [words for words, applies in reasons.items() if applies]
