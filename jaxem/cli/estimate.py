"""How long `jaxem fit` will take, from a trial on some of the frames (extra ``app``).

The figures that no trial tells were measured: ``bench/forecast.py`` holds the estimate against what really happens.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import jax
import numpy as np

from jaxem.ops.windows import Shape
from jaxem.runtime.compilation_cache import without_compiled_programs
from jaxem.runtime.resources import available_cores
from jaxem.search.initialization import init_from_variance
from jaxem.search.subsampling import usual_size
from jaxem.solvers.result import Fit
from jaxem.solvers.schedule import annealing
from jaxem.solvers.single_run import fit

# The trial: pixels of its frames, and frames at least; steps of annealing at most, and iterations after them.
TRIAL_PIXELS, FEWEST_TRIAL_FRAMES = 2**20, 32
TRIAL_ANNEALING_STEPS, TRIAL_ITERATIONS = 20, 4
# E-steps of a search: a number of them, and more for each annealing step of the trial.
E_STEPS_AT_LEAST, E_STEPS_PER_ANNEALING_STEP = 8.0, 2.6
# From so many annealing steps of the trial on, the search will have to anneal the prior slowly: E-steps of it then.
SLOW_ANNEALING_STEPS, E_STEPS_OF_SLOW_SEARCH = 13, 90.0
# Of a search on a sample so many E-steps on all frames follow, more where it is long.
E_STEPS_ON_ALL, E_STEPS_ON_ALL_AFTER_SLOW_SEARCH = 7.0, 12.0
# Wall time of E-steps of two starts side by side, where there are cores for both, as a share of that one after another.
SIDE_BY_SIDE_SHARE = 0.8
# Time to compile a search by that to compile the trial; and to start, draw and write, in seconds.
COMPILATION_FACTOR, OVERHEAD_SECONDS = 2.5, 3.0


class Estimate(NamedTuple):
    """How long a fit will take.

    ================  ==================================================================
    field             meaning, unit
    ================  ==================================================================
    seconds           from the shell to the end, with nothing compiled before
    seconds_of_steps  of these what the E-steps take, and what grows with the frames
    num_steps         E-steps of the search, of all its starts; on a sample, where there is one
    reason            how the number of steps was judged, a few words
    ================  ==================================================================
    """

    seconds: float
    seconds_of_steps: float
    num_steps: float
    reason: str


class Trial(NamedTuple):
    """What a fit of some of the frames told.

    ===================  ==========================================================
    field                meaning, unit
    ===================  ==========================================================
    num_images           how many frames
    seconds_compiling    of the first call, more than of the second
    seconds_per_step     of an E-step of so many frames
    num_annealing_steps  until the posteriors were certain and at rest
    ===================  ==========================================================
    """

    num_images: int
    seconds_compiling: float
    seconds_per_step: float
    num_annealing_steps: int


def estimate_time(
    images: np.ndarray, template_shape: Shape, seconds_to_read: float = 0.0, num_images: int | None = None
) -> Estimate:
    """Estimate how long ``jaxem fit`` with its usual options will take for these frames.

    Args:
        images: (K, H, W), pixel values, or some of them.
        template_shape: (h, w).
        seconds_to_read: what reading all of them takes.
        num_images: K, if these are not all.

    Returns:
        `Estimate`, within a factor of two, if other work leaves the machine as free as it was meanwhile.

    Raises:
        ValueError, TypeError: shapes that do not fit each other.
    """
    trial = run_trial(images, template_shape)
    count = len(images) if num_images is None else num_images
    num_steps, reason = expected_steps(trial)
    share = 1.0 if available_cores() == 1 else SIDE_BY_SIDE_SHARE
    sample = usual_size(count, template_shape, math.prod(images.shape[3:]))
    passes = share * num_steps
    if sample is not None:
        passes = passes * sample / count + steps_on_all(trial)
    seconds_of_steps = passes * trial.seconds_per_step * count / trial.num_images
    fixed = OVERHEAD_SECONDS + COMPILATION_FACTOR * trial.seconds_compiling
    return Estimate(seconds_to_read + fixed + seconds_of_steps, seconds_of_steps, num_steps, reason)


def expected_steps(trial: Trial) -> tuple[float, str]:
    """E-steps of a search, and why so many."""
    if trial.num_annealing_steps >= SLOW_ANNEALING_STEPS:
        return E_STEPS_OF_SLOW_SEARCH, "a trial is slow to tell where the template is, so the search will be long"
    return E_STEPS_AT_LEAST + E_STEPS_PER_ANNEALING_STEP * trial.num_annealing_steps, "a trial finds places soon"


def steps_on_all(trial: Trial) -> float:
    """E-steps on all frames after a search on a sample."""
    slow = trial.num_annealing_steps >= SLOW_ANNEALING_STEPS
    return E_STEPS_ON_ALL_AFTER_SLOW_SEARCH if slow else E_STEPS_ON_ALL


def run_trial(images: np.ndarray, template_shape: Shape) -> Trial:
    """Fit some of the frames, evenly taken, twice."""
    count = min(len(images), max(FEWEST_TRIAL_FRAMES, TRIAL_PIXELS // images[0].size))
    some = images[np.linspace(0, len(images) - 1, count).astype(int)]
    start = jax.device_get(init_from_variance(some, template_shape))
    schedule = annealing(TRIAL_ANNEALING_STEPS, start=0.5, prior_steps=0)

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
    return Trial(count, max(0.0, first - second), second / num_steps, int(done.num_scheduled))
