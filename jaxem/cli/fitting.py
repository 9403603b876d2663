"""The work of ``jaxem fit``: search, show, write."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from jaxem.cli.excluding import SecondSearch, fit_again, look_after, look_before, write_positions
from jaxem.cli.exit_codes import ExitCode
from jaxem.cli.findings import describe_findings, in_words, position_shown
from jaxem.cli.frame_files import read_observed
from jaxem.cli.long_running import choose_display, fingerprint_of, open_checkpointer, save_interrupted
from jaxem.cli.model_options import model_options
from jaxem.cli.odd_data import Looked
from jaxem.cli.progress import Display
from jaxem.cli.requests import FitRequest, FrameChoice, Reporting
from jaxem.cli.text import describe_observed, warn
from jaxem.io.results import save
from jaxem.model.appearances import as_transforms
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
    observed = read_observed(choice)
    images = observed.images
    check_request(request, images.shape[1:3])
    model = model_options(request, choice, observed)
    cache_compiled_programs()
    with choose_display(reporting, len(images)) as display:
        check_output(out)
        words = describe_observed(images, observed.weights, choice.path)
        display.note("frames", words, shape=list(images.shape), dtype=str(images.dtype))
        looked = look_before(observed, request, display)
        model = looked.model(model)
        fingerprint = {} if reporting.checkpoint is None else fingerprint_of(images, request, model)
        checkpointer = open_checkpointer(reporting, fingerprint, display)
        try:
            found = search(images, request, display, checkpointer, model)
            again = SecondSearch(checkpointer)
            looked, found = fit_again(
                looked, found, request, display, lambda more: search(images, request, display, again, model | more)
            )
        except KeyboardInterrupt:
            heard()
            fingerprint = fingerprint or fingerprint_of(images, request, model)
            raise save_interrupted(checkpointer, fingerprint, out) from None
        checkpointer.write()
        write(observed.frame, found, out, display, looked)
        look_after(looked, found, request, display)
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


def search(
    images: np.ndarray,
    request: FitRequest,
    display: Display,
    checkpointer: Checkpointer,
    model: Mapping[str, Any] = MappingProxyType({}),
) -> Restarts:
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
        **model,
    )


def write(
    frame: Callable[[int], np.ndarray], found: Restarts, out: Path, display: Display, looked: Looked | None = None
) -> None:
    """Write ``result.npz``, which `jaxem.load` reads, and ``figure.png``; say what was found in short.

    Args:
        frame: gives a frame by its number, for the figure.
        found: what to write.
        out: the folder.
        display: whom to tell.
        looked: the frames, of which ``positions.csv`` then says where the template is and which were left out.
    """
    from jaxem.plots.summary import DOTS_PER_INCH, summary_figure  # `search` has begun to import it

    best, runs = found.best, found.runs
    transforms = as_transforms(best.transforms)
    winner = int(best_run(runs))
    with output_folder(out) as folder:
        save(folder / "result.npz", found)
        if looked is not None:
            write_positions(folder, looked, found)
        shown, position = position_shown(best)
        figure = summary_figure(frame(shown), position, best.params, runs, winner, transforms)
        figure.savefig(folder / "figure.png", dpi=DOTS_PER_INCH)
    lines, facts = describe_findings(best.positions, best.params, transforms)
    noise_scale, diagnostics = best.params.noise_scale, found.diagnostics
    contrast, open_positions = float(diagnostics.contrast), float(diagnostics.effective_positions)
    warnings = found.warnings()
    display.note(
        "result",
        f"best: start {winner + 1}, noise {in_words(noise_scale)}, contrast {contrast:.3g}, "
        f"{open_positions:.2f} positions a frame",
        *lines,
        start=winner + 1,
        status=Status(int(best.status)).name,
        elbo=float(best.elbo),
        noise_scale=np.asarray(noise_scale).tolist(),
        **facts,
        contrast=contrast,
        effective_positions=open_positions,
        warnings=warnings,
    )
    for warning in warnings:
        warn(warning)
    names = ["result.npz", *["positions.csv"] * (looked is not None), "figure.png"]
    paths = [str(out / name) for name in names]
    display.note("wrote", f"wrote {', '.join(paths[:-1])} and {paths[-1]}", paths=paths)


def exit_code(found: Restarts) -> int:
    if (found.runs.status == Status.CONVERGED).any():
        return 0
    print("jaxem: no run converged; the best of them was written all the same", file=sys.stderr)
    return ExitCode.NOTHING_CONVERGED
