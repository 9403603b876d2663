"""What `jaxem fit` will need of memory and time, from a trial on some of the frames (extra ``app``).

The figures that no trial tells were measured: ``bench/forecast.py`` holds the forecast against what really happens.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import jax
import numpy as np

from jaxem import checks
from jaxem.cache import without_compiled_programs
from jaxem.loop import Fit
from jaxem.moves import annealing, varying_params
from jaxem.parallel import available_cores
from jaxem.runs import fit
from jaxem.windows import Shape

# Memory of Python, JAX and the compiled programs, and of the stack in the precision of the fit beside its own bytes.
BASE_MEMORY, STACKS = 620e6, 2.0
# The trial: pixels of its frames, steps of annealing, iterations after them.
TRIAL_PIXELS, TRIAL_STEPS, TRIAL_ITERATIONS = 2**20, 20, 4
# E-steps of a search by those of the trial's annealing; and where those were many, so that the search will have to
# release the prior slowly.
STEPS, STEPS_A_STEP, MANY, HARD_STEPS = 8.0, 2.6, 13, 90.0
# What a search compiles, as a multiple of what the trial does; and starting, drawing and writing, in seconds.
PROGRAMS, AROUND = 2.5, 3.0


class Forecast(NamedTuple):
    """What a fit will need.

    ================  =====================================================================
    field             meaning, unit
    ================  =====================================================================
    memory            peak of the process, bytes
    seconds           from the shell to the end, with nothing compiled before
    seconds_climbing  of these what the E-steps take, and what grows with the frames
    num_steps         E-steps of the search, of all its starts
    reason            how the number of steps was judged, a few words
    ================  =====================================================================
    """

    memory: int
    seconds: float
    seconds_climbing: float
    num_steps: float
    reason: str


class Trial(NamedTuple):
    """What a fit of some of the frames told.

    =================  ==========================================================
    field              meaning, unit
    =================  ==========================================================
    num_images         how many frames
    seconds_compiling  of the first call, more than of the second
    seconds_a_step     of an E-step of so many frames
    num_annealing      steps until the posteriors were certain and at rest
    =================  ==========================================================
    """

    num_images: int
    seconds_compiling: float
    seconds_a_step: float
    num_annealing: int


def forecast(images: np.ndarray, template_shape: Shape, seconds_to_read: float = 0.0) -> Forecast:
    """Estimate what ``jaxem fit`` with its usual options will need for these frames.

    Args:
        images: (K, H, W), pixel values.
        template_shape: (h, w).
        seconds_to_read: what reading them took.

    Returns:
        `Forecast`. Time within a factor of two, if other work leaves the machine as free as it was meanwhile.

    Raises:
        ValueError, TypeError: shapes that do not fit each other.
    """
    trial = try_out(images, template_shape)
    memory = round(forecast_memory(images))
    num_steps, reason = expected_steps(trial)
    scale = len(images) / trial.num_images
    # Two starts go side by side where there are cores for it.
    in_turn = num_steps if available_cores() == 1 else 0.8 * num_steps
    climbing = scale * in_turn * trial.seconds_a_step
    fixed = AROUND + PROGRAMS * trial.seconds_compiling
    return Forecast(memory, seconds_to_read + fixed + climbing, climbing, num_steps, reason)


def forecast_memory(images: np.ndarray) -> float:
    """Peak of the process, bytes."""
    itemsize = checks.as_images(images[:1]).dtype.itemsize
    return BASE_MEMORY + images.nbytes + STACKS * images.size * itemsize


def expected_steps(trial: Trial) -> tuple[float, str]:
    """E-steps of a search, and why so many."""
    if trial.num_annealing >= MANY:
        return HARD_STEPS, "a trial is slow to tell where the template is, so the search will be long"
    return STEPS + STEPS_A_STEP * trial.num_annealing, "a trial finds places soon"


def try_out(images: np.ndarray, template_shape: Shape) -> Trial:
    """Fit some of the frames, evenly taken, twice."""
    count = min(len(images), max(32, TRIAL_PIXELS // images[0].size))
    some = images[np.linspace(0, len(images) - 1, count).astype(int)]
    start = jax.device_get(varying_params(some, template_shape))
    schedule = annealing(TRIAL_STEPS, start=0.5, release_steps=0)

    def seconds() -> float:
        before = time.perf_counter()
        result = fit(some, start, schedule=schedule, max_iterations=TRIAL_ITERATIONS, tolerance=-math.inf)
        found.append(jax.block_until_ready(result))
        return time.perf_counter() - before

    found: list[Fit] = []
    with without_compiled_programs():
        first = seconds()
    second = seconds()
    done = found[-1]
    num_steps = int(done.num_scheduled) + int(done.num_iterations) + 1
    compiling = max(0.0, first - second)
    return Trial(count, compiling, second / num_steps, int(done.num_scheduled))
