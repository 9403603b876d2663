"""What the command line says about a result: how each run ended, how far from a known truth."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxem.demo import WHITE, Demo
from jaxem.diagnostics import plural
from jaxem.loop import Fit, Status
from jaxem.model import Params
from jaxem.windows import gather


def describe_frames(images: np.ndarray) -> str:
    """Number, size and type of the frames."""
    count, height, width = images.shape
    return f"{plural(count, 'frame')} of {height} x {width} {images.dtype}"


def describe_run(number: int, found: Fit, num_images: int) -> str:
    """One line on how a run ended, or where it is after annealing."""
    status = Status(int(found.status))
    steps = plural(int(found.num_scheduled), "step") if status == Status.RUNNING else ""
    ended = f"{status.name.lower().replace('_', ' ')} after {plural(int(found.num_iterations), 'iteration')}"
    return f"start {number + 1:2}: {float(found.elbo) / num_images:12.2f} nats an image, " + (
        f"annealed in {steps}" if steps else ended
    )


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
