"""What the command line says about a result: how each run ended, what to doubt, how far from a known truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import checks
from jaxem.demo import WHITE, Demo
from jaxem.loop import Fit, Status
from jaxem.model import Params
from jaxem.stack import centre
from jaxem.steps import visible_counts
from jaxem.windows import coverage, gather

CENTRE_BATCH = 32


def describe_frames(images: np.ndarray) -> str:
    """Number, size and type of the frames."""
    count, height, width = images.shape
    return f"{plural(count, 'frame')} of {height} x {width} {images.dtype}"


def plural(count: int, noun: str) -> str:
    """3 frames, 1 frame."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def describe_run(number: int, found: Fit, num_images: int) -> str:
    """One line on how a run ended."""
    status = Status(int(found.status)).name.lower().replace("_", " ")
    return (
        f"restart {number + 1:2}: {float(found.elbo) / num_images:12.2f} nats an image, "
        f"{status} after {plural(int(found.num_iterations), 'iteration')}"
    )


def doubts(images: np.ndarray, best: Fit, prior_smoothing: float) -> Iterator[str]:
    """Reasons not to trust a fit, each a sentence."""
    params, status = best.params, Status(int(best.status))
    if status != Status.CONVERGED:
        yield f"The best run did not converge. {status.explanation}"
    pixels = jnp.asarray(checks.as_images(images))
    stack = jax.jit(centre, static_argnums=1)(pixels, min(CENTRE_BATCH, len(pixels)))
    if (params.noise_scale / stack.scale) ** 2 <= 1.01 * stack.variance_floor:
        yield "The noise is below what the pixels' numbers resolve; frames all alike leave the template's place open."
    hidden = int((visible(params, len(images), prior_smoothing) == 0).sum())
    if hidden:
        yield f"The template covers {plural(hidden, 'background pixel')} in every frame; there the mean frame is shown."


def visible(params: Params, num_images: int, prior_smoothing: float) -> np.ndarray:
    """Expected number of frames that show the background at each pixel (H, W), from the fitted prior."""
    counts = params.prior * (num_images + prior_smoothing) - prior_smoothing / params.prior.size
    covered = coverage(jnp.asarray(counts), params.template.shape)
    return np.asarray(visible_counts(covered, jnp.asarray(num_images, covered.dtype)))


def compare_with_truth(demo: Demo, params: Params, corners: np.ndarray) -> list[str]:
    """How far a fit of the demonstration frames is from what they were made of, a line each."""
    windows = gather(jnp.asarray(demo.frames, jnp.float32), jnp.asarray(demo.corners), demo.truth.template.shape)

    def error(found: Any, true: Any) -> str:
        rms = np.sqrt(np.mean((np.asarray(found) - np.asarray(true)) ** 2))
        return f"{100 * rms / WHITE:5.2f} % of the range (rms)"

    return [
        f"template    off by {error(params.template, demo.truth.template)}",
        f"            off by {error(params.template, windows.mean(axis=0))} from the mean at the true places",
        f"background  off by {error(params.background, demo.truth.background)}",
        f"noise       {params.noise_scale:.1f}, was {float(demo.truth.noise_scale):.1f} before the cut to 8 bits",
        f"places      {100 * (corners == demo.corners).all(axis=1).mean():.1f} % exactly right",
    ]
