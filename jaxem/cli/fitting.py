"""The work of ``jaxem fit``: search, show, write."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path

import jax
import numpy as np

from jaxem.cli.exit_codes import ExitCode
from jaxem.cli.frame_files import read_chosen
from jaxem.cli.long_running import choose_display, fingerprint_of, open_checkpointer, save_interrupted
from jaxem.cli.progress import Display
from jaxem.cli.requests import FitRequest, FrameChoice, Reporting
from jaxem.cli.text import describe_frames, warn
from jaxem.io.results import save
from jaxem.ops.validation import as_number
from jaxem.runtime.arguments import as_count, as_seed, as_template_shape
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.compilation_cache import cache_compiled_programs
from jaxem.runtime.files import check_output, output_folder
from jaxem.runtime.interruption import heard
from jaxem.search.parallel import fit_restarts_parallel
from jaxem.search.restarts import DEFAULT_SEARCH, Restarts, best_run
from jaxem.solvers.result import Status

MOST_RESTARTS, MOST_ITERATIONS = 10**5, 10**6


def fit(choice: FrameChoice, request: FitRequest, out: Path, reporting: Reporting) -> int:
    """Fit the frames that were chosen."""
    images = read_chosen(choice)
    check_request(request, images.shape[1:])
    cache_compiled_programs()
    with choose_display(reporting, len(images)) as display:
        check_output(out)
        words = f"{describe_frames(images)} from {choice.path}"
        display.note("frames", words, shape=list(images.shape), dtype=str(images.dtype))
        fingerprint = {} if reporting.checkpoint is None else fingerprint_of(images, request)
        checkpointer = open_checkpointer(reporting, fingerprint, display)
        try:
            found = search(images, request, display, checkpointer)
        except KeyboardInterrupt:
            heard()
            raise save_interrupted(checkpointer, fingerprint or fingerprint_of(images, request), out) from None
        checkpointer.write()
        write(images, found, out, display)
    return exit_code(found)


def check_request(request: FitRequest, image_shape: tuple[int, ...]) -> None:
    """Find out before the work whether a request makes sense for images of this size.

    Raises:
        ArgumentError: it does not.
    """
    as_template_shape(request.template_shape, image_shape)
    if request.num_restarts is not None:
        as_count("num_restarts", request.num_restarts, at_least=1, at_most=MOST_RESTARTS)
    as_seed(request.seed)
    as_count("max_iterations", request.max_iterations, at_least=1, at_most=MOST_ITERATIONS)
    as_number("prior_smoothing", request.prior_smoothing, np.float32, at_least=0)
    as_number("tolerance", request.tolerance, np.float32, at_least=0)


def search(images: np.ndarray, request: FitRequest, display: Display, checkpointer: Checkpointer) -> Restarts:
    """Search as requested; meanwhile import what draws the figure, which takes as long as a stage of the search."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("the figure cannot be drawn", name="matplotlib")
    threading.Thread(target=importlib.import_module, args=("jaxem.plots.summary",), daemon=True).start()
    return fit_restarts_parallel(
        jax.random.key(request.seed),
        images,
        request.template_shape,
        num_restarts=request.num_restarts,
        hard=request.hard,
        prior_smoothing=request.prior_smoothing,
        max_iterations=request.max_iterations,
        tolerance=request.tolerance,
        search=None if request.plain else DEFAULT_SEARCH,
        callback=display.progress,
        checkpointer=checkpointer,
    )


def write(images: np.ndarray, found: Restarts, out: Path, display: Display) -> None:
    """Write ``result.npz``, which `jaxem.load` reads, and ``figure.png``; say what was found in short."""
    from jaxem.plots.summary import DOTS_PER_INCH, summary_figure  # `search` has begun to import it

    best, runs = found.best, found.runs
    winner = int(best_run(runs))
    with output_folder(out) as folder:
        save(folder / "result.npz", found)
        figure = summary_figure(images[0], best.corners[0], best.params, runs, winner)
        figure.savefig(folder / "figure.png", dpi=DOTS_PER_INCH)
    noise_scale, diagnostics = float(best.params.noise_scale), found.diagnostics
    contrast, open_positions = float(diagnostics.contrast), float(diagnostics.effective_positions)
    warnings = found.warnings()
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
        warnings=warnings,
    )
    for warning in warnings:
        warn(warning)
    paths = [str(out / name) for name in ("result.npz", "figure.png")]
    display.note("wrote", f"wrote {' and '.join(paths)}", paths=paths)


def exit_code(found: Restarts) -> int:
    if (found.runs.status == Status.CONVERGED).any():
        return 0
    print("jaxem: no run converged; the best of them was written all the same", file=sys.stderr)
    return ExitCode.NOTHING_CONVERGED
