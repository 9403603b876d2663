"""``jaxem demo`` and ``jaxem fit``: search, show, write."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np

from jaxem import checks
from jaxem.commands.long_work import (
    CheckpointOption,
    JsonOption,
    QuietOption,
    ResumeOption,
    choose_display,
    identity_of,
    open_journal,
    save_interrupted,
)
from jaxem.commands.options import (
    ChosenOption,
    CropOption,
    EveryOption,
    FramesArgument,
    GreyOption,
    HardOption,
    IterationsOption,
    Options,
    OutOption,
    PlainOption,
    RestartsOption,
    SeedOption,
    ShapeOption,
    SmoothingOption,
    ToleranceOption,
    UserError,
    read_chosen,
    shape,
)
from jaxem.demo import IMAGE_SHAPE, TEMPLATE_SHAPE, demo_frames
from jaxem.display import Display
from jaxem.figures import summary_figure
from jaxem.journal import Journal
from jaxem.loop import Status
from jaxem.output import check_output, output_folder, write_results
from jaxem.parallel import fit_restarts_parallel
from jaxem.report import compare_with_truth, describe_frames
from jaxem.restarts import DEFAULT_SEARCH, Restarts, best_run

DEFAULT = Options(template_shape=TEMPLATE_SHAPE)


def demo_command(
    out: OutOption = Path("jaxem-demo"),
    seed: SeedOption = DEFAULT.seed,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Hide a face in noisy photographs, find it again, and compare with the truth.

    Example: jaxem demo
    """
    options = Options(TEMPLATE_SHAPE, seed=seed)
    _check(options, IMAGE_SHAPE)
    demo = demo_frames(seed)
    with choose_display(quiet, json, len(demo.frames)) as display:
        check_output(out)
        display.note("frames", f"{describe_frames(demo.frames)}, in each of them the same face hidden in noise")
        found = _search(demo.frames, options, display, Journal())
        corners = _write(demo.frames, found, out, display)
        lines = compare_with_truth(demo, found.best.params, corners)
        display.note("truth", "\n  ".join(["against the truth:", *lines]))
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
    crop: CropOption = None,
    chosen: ChosenOption = None,
    every: EveryOption = 1,
    grey: GreyOption = "luma",
    checkpoint: CheckpointOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Find the template hidden in FRAMES.

    Example: jaxem fit frames/ --template-shape 60 40 --out found

    Work that must survive: jaxem fit ... --checkpoint saved, and after whatever ended it the same with --resume.
    """
    height_and_width = shape(template_shape)
    images = read_chosen(frames, crop, chosen, every, grey)
    options = Options(height_and_width, restarts, seed, hard, prior_smoothing, max_iterations, tolerance, plain)
    _check(options, images.shape[1:])
    with choose_display(quiet, json, len(images)) as display:
        check_output(out)
        words = f"{describe_frames(images)} from {frames}"
        display.note("frames", words, shape=list(images.shape), dtype=str(images.dtype))
        identity = {} if checkpoint is None else identity_of(images, options)
        journal = open_journal(checkpoint, resume, identity, display)
        try:
            found = _search(images, options, display, journal)
        except KeyboardInterrupt:
            raise save_interrupted(journal, identity or identity_of(images, options), out) from None
        journal.write()
        _write(images, found, out, display)
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


def _search(images: np.ndarray, options: Options, display: Display, journal: Journal) -> Restarts:
    return fit_restarts_parallel(
        jax.random.key(options.seed),
        images,
        options.template_shape,
        num_restarts=options.restarts,
        hard=options.hard,
        prior_smoothing=options.prior_smoothing,
        max_iterations=options.max_iterations,
        tolerance=options.tolerance,
        search=None if options.plain else DEFAULT_SEARCH,
        watch=display.progress,
        journal=journal,
    )


def _write(images: np.ndarray, found: Restarts, out: Path, display: Display) -> np.ndarray:
    """Write what was found and say it in short; return the corner in each image."""
    best, runs = found.best, found.runs
    corners, winner = np.asarray(best.corners), int(best_run(runs))
    with output_folder(out) as folder:
        write_results(folder, found, summary_figure(images[0], corners[0], best.params, runs, winner))
    noise_scale, diagnostics = float(best.params.noise_scale), found.diagnostics
    contrast, open_positions = float(diagnostics.contrast), float(diagnostics.effective_positions)
    display.note(
        "result",
        f"best: start {winner + 1}, noise {noise_scale:.4g}, contrast {contrast:.3g}, "
        f"{open_positions:.2f} positions a frame",
        start=winner + 1,
        status=Status(int(best.status)).name,
        elbo=float(best.elbo),
        noise_scale=noise_scale,
        contrast=contrast,
        effective_positions=open_positions,
        warnings=found.warnings(),
    )
    for warning in found.warnings():
        print(f"jaxem: warning: {warning}", file=sys.stderr)
    paths = [str(out / name) for name in ("result.npz", "figure.png")]
    display.note("wrote", f"wrote {' and '.join(paths)}", paths=paths)
    return corners


def _exit_code(found: Restarts) -> int:
    if (found.runs.status == Status.CONVERGED).any():
        return 0
    print("jaxem: no run converged; the best of them was written all the same", file=sys.stderr)
    return 3
