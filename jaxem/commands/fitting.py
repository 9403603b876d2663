"""``jaxem demo`` and ``jaxem fit``: search, show, write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jaxem import checks
from jaxem.commands.options import (
    FramesArgument,
    HardOption,
    IterationsOption,
    OutOption,
    PlainOption,
    RestartsOption,
    SeedOption,
    ShapeOption,
    SmoothingOption,
    ToleranceOption,
    UserError,
    console,
    shape,
)
from jaxem.demo import IMAGE_SHAPE, TEMPLATE_SHAPE, demo_frames
from jaxem.figures import summary_figure
from jaxem.io import read_frames
from jaxem.loop import Fit, Status
from jaxem.output import check_output, output_folder, write_results
from jaxem.parallel import fit_restarts_parallel
from jaxem.report import compare_with_truth, describe_frames, describe_run
from jaxem.restarts import DEFAULT_SEARCH, Restarts, best_run
from jaxem.runner import Options, locate

DEFAULT = Options(template_shape=TEMPLATE_SHAPE)


def demo_command(
    out: OutOption = Path("jaxem-demo"),
    seed: SeedOption = DEFAULT.seed,
) -> int:
    """Hide a face in noisy photographs, find it again, and compare with the truth.

    Example: jaxem demo
    """
    options = Options(TEMPLATE_SHAPE, seed=seed)
    _check(options, IMAGE_SHAPE)
    demo = demo_frames(seed)
    console.print(f"{describe_frames(demo.frames)}, in each of them the same face hidden in noise")
    found, corners = _search(demo.frames, options, out)
    console.print("against the truth:")
    for line in compare_with_truth(demo, found.best.params, corners):
        console.print(f"  {line}")
    return _exit_code(found)


def fit_command(
    frames: FramesArgument,
    template_shape: ShapeOption,
    out: OutOption,
    restarts: RestartsOption = DEFAULT.restarts,
    seed: SeedOption = DEFAULT.seed,
    hard: HardOption = DEFAULT.hard,
    prior_smoothing: SmoothingOption = DEFAULT.prior_smoothing,
    max_iterations: IterationsOption = DEFAULT.max_iterations,
    tolerance: ToleranceOption = DEFAULT.tolerance,
    plain: PlainOption = DEFAULT.plain,
) -> int:
    """Find the template hidden in FRAMES.

    Example: jaxem fit frames/ --template-shape 60 40 --out found
    """
    height_and_width = shape(template_shape)
    images = read_frames(frames)
    options = Options(height_and_width, restarts, seed, hard, prior_smoothing, max_iterations, tolerance, plain)
    _check(options, images.shape[1:])
    console.print(f"{describe_frames(images)} from {frames}")
    found, _ = _search(images, options, out)
    return _exit_code(found)


def _check(options: Options, image_shape: tuple[int, ...]) -> None:
    """The library's own checks, its complaints in the command line's spelling."""
    try:
        checks.as_template_shape(options.template_shape, image_shape)
        if options.restarts is not None:
            checks.as_count("restarts", options.restarts, at_least=1, at_most=10**5)
        checks.as_count("seed", options.seed, at_least=0, at_most=2**32 - 1)
        checks.as_count("max_iterations", options.max_iterations, at_least=1, at_most=10**6)
        checks.as_number("prior_smoothing", options.prior_smoothing, np.float32, at_least=0)
        checks.as_number("tolerance", options.tolerance, np.float32, at_least=0)
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UserError(f"--{name.replace('_', '-')} {rest}") from error


def _search(images: np.ndarray, options: Options, out: Path) -> tuple[Restarts, np.ndarray]:
    """Run, show, write; return what was found and the corner in each image."""
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    check_output(out)
    num_starts = options.restarts or (10 if options.plain else 2)
    num_runs = num_starts if options.plain else num_starts + 1  # and the best of them to its top
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("runs", total=num_runs)

        def report(number: int, ended: Fit) -> None:
            progress.console.print(f"  {describe_run(number, ended, len(images))}")
            progress.advance(bar)

        found = fit_restarts_parallel(
            jax.random.key(options.seed),
            images,
            options.template_shape,
            num_restarts=num_starts,
            hard=options.hard,
            prior_smoothing=options.prior_smoothing,
            max_iterations=options.max_iterations,
            tolerance=options.tolerance,
            search=None if options.plain else DEFAULT_SEARCH,
            report=report,
        )
    best, runs = found.best, found.runs
    corners, winner = locate(images, best.params), int(best_run(runs))
    arrays: dict[str, Any] = {
        **best.params._asdict(),
        "corners": corners,
        "elbo": best.elbo,
        "history": best.history,
        "elbos": runs.elbo,
        "statuses": runs.status,
    }
    with output_folder(out) as folder:
        write_results(folder, arrays, summary_figure(images[0], corners[0], best.params, runs, winner))
    console.print(
        f"best: start {winner + 1}, noise {float(best.params.noise_scale):.4g}, contrast "
        f"{float(found.diagnostics.contrast):.3g}, {float(found.diagnostics.effective_positions):.2f} positions a frame"
    )
    for warning in found.warnings():
        print(f"jaxem: warning: {warning}", file=sys.stderr)
    console.print(f"wrote {out / 'result.npz'} and {out / 'figure.png'}")
    return found, corners


def _exit_code(found: Restarts) -> int:
    if (found.runs.status == Status.CONVERGED).any():
        return 0
    print("jaxem: no run converged; the best of them was written all the same", file=sys.stderr)
    return 3
