"""What each option of the general model costs: an iteration with it beside one without, and the memory that both hold.

    python bench/general.py [--quick] [--only NAME ...] [--pairs 10] [--json FILE]

On a CPU or a GPU. Iterations are those of `fit`, on a workspace made before and compiled as `fit` is. Both take turns,
as others use the machine: a pair is the least of a few turns of each. Printed are the milliseconds of an iteration; the
median of the pairs' ratios with its 95 % interval, by bootstrap, on a CPU once more in the time of all processors; and
the bytes that an iteration holds for each pixel of the stack: what it is given and what it needs for itself, as XLA
counts them. Options that change the shape of the images or of the template are compared with a plain fit: three
channels with grey images, turns with a square template.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np

import jaxem
from jaxem.model.checks import as_params
from jaxem.model.frames import as_frames
from jaxem.model.workspace import make_workspace
from jaxem.runtime import compilation
from jaxem.solvers.em import EM
from jaxem.solvers.options import em_options

STACKS = {"small": ((512, 64, 64), (16, 16), 8), "large": ((200, 100, 200), (60, 40), 4)}
TURNS, SQUARE = 3, {"small": (16, 16), "large": (48, 48)}
EIGHT = ("identity", "rot90", "rot180", "rot270", "flip", "flip90", "flip180", "flip270")


class Problem(NamedTuple):
    """What a fit is given."""

    images: Any
    params: jaxem.Params
    options: dict[str, Any] = {}  # noqa: RUF012


def plain(stack_shape, template_shape):
    """The baseline."""
    images, start = common.problem(stack_shape, template_shape)
    return Problem(images, start)


def masked(problem, *, own, zeros=True):
    """Weights of all images, or of each one; where they are zero, nothing was observed."""
    rng = np.random.default_rng(1)
    shape = problem.images.shape if own else problem.images.shape[1:]
    weights = rng.uniform(0.5, 2, shape) * (rng.random(shape) < 0.8 if zeros else 1)
    images = np.where(weights == 0, np.nan, problem.images).astype(np.float32)
    return problem._replace(images=images, options={"weights": weights.astype(np.float32)})


def counted(problem):
    """Frequencies, some of them zero."""
    counts = np.random.default_rng(1).integers(0, 3, len(problem.images)).astype(np.float32)
    return problem._replace(options={"frame_weights": counts})


def round_template(problem):
    """A disc, or what there is of one in a rectangle."""
    height, width = problem.params.template.shape
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    support = (rows**2 + columns**2 <= 1).astype(np.float32)
    return problem._replace(params=problem.params._replace(opacity=support))


def maybe_absent(problem):
    """A tenth of the images without a template."""
    absent, prior = np.float32(0.1), problem.params.prior * np.float32(0.9)
    return problem._replace(params=problem.params._replace(absent=absent, prior=prior))


def several(problem, number):
    """So many templates."""
    noise = np.random.default_rng(1).normal(size=(number, *problem.params.template.shape))
    templates = (problem.params.template + 0.1 * noise).astype(np.float32)
    prior = np.broadcast_to(problem.params.prior / number, (number, *problem.params.prior.shape))
    return problem._replace(params=problem.params._replace(template=templates, prior=prior))


def turned(problem):
    """Eight turns and mirrors."""
    prior = np.broadcast_to(problem.params.prior / 8, (8, *problem.params.prior.shape))
    return Problem(problem.images, problem.params._replace(prior=prior), {"transforms": EIGHT})


def coloured(problem):
    """Three channels."""
    noise = np.random.default_rng(1).normal(size=(3, *problem.images.shape)).astype(np.float32)
    images = np.stack([problem.images + 0.1 * one for one in noise], axis=-1).astype(np.float32)
    template, background = (
        np.repeat(leaf[..., None], 3, axis=-1) for leaf in (problem.params.template, problem.params.background)
    )
    return Problem(images, problem.params._replace(template=template, background=background))


def going_round(problem):
    """Windows that go round both edges."""
    shape = problem.params.background.shape
    return problem._replace(params=problem.params._replace(prior=np.full(shape, 1 / np.prod(shape), np.float32)))


OPTIONS = {
    "shared weights with zeros": partial(masked, own=False),
    "weights a frame with zeros": partial(masked, own=True),
    "frame weights": counted,
    "support": round_template,
    "absent": maybe_absent,
    "2 templates": partial(several, number=2),
    "4 templates": partial(several, number=4),
    "8 templates": partial(several, number=8),
    "8 turns": turned,
    "3 channels": coloured,
    "wrap": going_round,
}


class Iterations:
    """Some iterations of a fit, compiled, and what they hold."""

    def __init__(self, problem, number, batch_size=None):
        images, params, given = problem
        transforms = given.get("transforms", ("identity",))
        frames = as_frames(jax.device_put(images), given.get("weights"), given.get("frame_weights"))
        params = as_params(params, frames.pixels.shape[1:], frames.pixels.dtype, transforms)
        options = em_options(
            frames.pixels,
            hard=False,
            prior_smoothing=0.0,
            max_iterations=100,
            tolerance=-np.inf,
            batch_size=batch_size,
            transforms=transforms,
        )
        workspace = jax.block_until_ready(jax.jit(make_workspace, static_argnums=1)(frames, options.batch_size))
        self._given = workspace, jax.block_until_ready(EM(workspace, options).init(params))
        self.number, self.batch_size = number, options.batch_size

        def advance(workspace, state):
            return EM(workspace, options).advance(state, jnp.int32(number)).elbo

        quick = compilation._quick_options(False)
        self._run = jax.jit(advance, compiler_options=quick or None).lower(*self._given).compile()
        held = self._run.memory_analysis()
        self.bytes = held.argument_size_in_bytes + held.temp_size_in_bytes
        self.milliseconds()

    def milliseconds(self):
        """Of one iteration, by the clock and of all processors."""
        before, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(self._run(*self._given))
        taken = time.perf_counter() - before, time.process_time() - used
        return [1e3 * seconds / self.number for seconds in taken]


def compare(baseline, other, pairs):
    """Milliseconds of both, and the median of the ratios with its interval: by the clock and of all processors."""
    each = (baseline, other)
    times = [[[one.milliseconds() for one in each] for _ in range(TURNS)] for _ in range(pairs)]
    times = np.min(times, axis=1)
    ratios, rng = times[:, 1] / times[:, 0], np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (2000, pairs)), axis=1)
    intervals = np.stack([np.median(ratios, axis=0), *np.percentile(medians, [2.5, 97.5], axis=0)])
    return np.median(times[..., 0], axis=0).tolist(), intervals.T.tolist()


def say(intervals):
    """Ratios in words; those of processors where they do the work."""
    by_clock, of_processors = (f"{ratio:5.2f} [{low:.2f}, {high:.2f}]" for ratio, low, high in intervals)
    return f"{by_clock}   processors {of_processors}" if jax.default_backend() == "cpu" else by_clock


def main():
    """Every option on both stacks."""
    options = common.parser(__doc__)
    options.add_argument("--pairs", type=int, default=10)
    options.add_argument("--quick", action="store_true", help="the small stack, three pairs")
    options.add_argument("--only", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    options.add_argument("--batch", type=int, help="images in a batch of the fit with the option on")
    arguments = options.parse_args()
    pairs, figures = 3 if arguments.quick else arguments.pairs, []
    print(common.machine()["devices"])
    for stack, (stack_shape, template_shape, iterations) in STACKS.items():
        if arguments.quick and stack != "small":
            break
        grey = plain(stack_shape, template_shape)
        baseline = Iterations(grey, iterations)
        print(
            f"{stack}: plain, batches of {baseline.batch_size}, {baseline.bytes / grey.images.size:.1f} bytes a pixel"
        )
        for name in arguments.only:
            problem, beside = grey, baseline
            if name == "8 turns" and SQUARE[stack] != template_shape:
                problem = plain(stack_shape, SQUARE[stack])
                beside = Iterations(problem, iterations)
            other = Iterations(OPTIONS[name](problem), iterations, arguments.batch)
            milliseconds, intervals = compare(beside, other, pairs)
            held = other.bytes / grey.images.size
            figures.append({"stack": stack, "option": name, "ms": milliseconds, "ratio": intervals, "bytes": held})
            print(
                f"{stack:6} {name:27} {milliseconds[0]:6.1f} -> {milliseconds[1]:6.1f} ms   "
                f"{say(intervals)}   {held:5.1f} bytes a pixel, batches of {other.batch_size}",
                flush=True,
            )
    common.write(arguments.json, {"options": figures})


if __name__ == "__main__":
    main()
