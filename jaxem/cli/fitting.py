"""The work of ``jaxem fit``: search, show, write."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from jaxem.assess.assessment import Report
from jaxem.cli.claims import (
    FEW_PIXELS,
    FittedFrames,
    TestRun,
    all_remarks,
    as_searched,
    say_remarks,
    search_options,
    start_test,
    test_failed,
    verdict,
)
from jaxem.cli.display import Display
from jaxem.cli.excluding import SecondSearch, fit_again, look_before
from jaxem.cli.exit_codes import ExitCode
from jaxem.cli.findings import describe_findings, in_words, number_shown
from jaxem.cli.frame_files import expect_there
from jaxem.cli.long_running import choose_display, fingerprint_of, open_checkpointer, save_interrupted
from jaxem.cli.model_options import files_of, model_options
from jaxem.cli.observed import expect_several, note_frames, read_observed
from jaxem.cli.outputs import check_folder
from jaxem.cli.parameters import spelling
from jaxem.cli.requests import FitRequest, FrameChoice, Reporting
from jaxem.cli.tables import write_positions
from jaxem.cli.text import InterruptedRunError
from jaxem.io.results import save
from jaxem.model.appearances import as_transforms
from jaxem.ops.validation import as_number
from jaxem.runtime.arguments import as_count, as_seed, as_template_shape
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.compilation_cache import cache_compiled_programs
from jaxem.runtime.files import output_folder
from jaxem.runtime.interruption import heard
from jaxem.runtime.text import listed
from jaxem.search.choosing import best_run
from jaxem.search.parallel import fit_restarts_parallel
from jaxem.search.restarts import Restarts
from jaxem.search.subsampling import as_sample
from jaxem.solvers.result import Status

MOST_RESTARTS, MOST_ITERATIONS = 10**5, 10**6
RESULT_FILES = ("result.npz", "positions.csv", "figure.png")


def fit(choice: FrameChoice, request: FitRequest, out: Path, reporting: Reporting, *, overwrite: bool = False) -> int:
    """Fit the frames that were chosen."""
    check_folder(out, RESULT_FILES, overwrite or reporting.resume)
    check_numbers(request)
    for argument, path in files_of(request):
        expect_there(path, argument)
    observed = read_observed(choice)
    images = observed.images
    expect_several(len(images), choice)
    as_template_shape(request.template_shape, images.shape[1:3])
    model = model_options(request, choice, observed)
    cache_compiled_programs()
    with choose_display(reporting, len(images)) as display:
        note_frames(observed, choice, display)
        looked = look_before(observed, request, display)
        model = looked.model(model)
        fingerprint = {} if reporting.checkpoint is None else fingerprint_of(images, request, model)
        checkpointer = open_checkpointer(reporting, fingerprint, display)
        frames = FittedFrames(looked, request, model, choice.source)
        test = start_test(frames) if images.size < FEW_PIXELS and not looked.leaves_out else None
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
        frames = FittedFrames(looked, request, looked.model(model), choice.source)
        report = write(frames, found, test or start_test(frames, found), out, display)
    return exit_code(report)


def check_numbers(request: FitRequest) -> None:
    """Find out before anything is read whether a request makes sense.

    Raises:
        ArgumentError: it does not.
    """
    as_template_shape(request.template_shape)
    if request.num_restarts is not None:
        as_count("num_restarts", request.num_restarts, at_least=1, at_most=MOST_RESTARTS)
    as_seed(request.seed)
    as_count("max_iterations", request.max_iterations, at_least=1, at_most=MOST_ITERATIONS)
    as_number("prior_smoothing", request.prior_smoothing, np.float32, at_least=0)
    as_number("tolerance", request.tolerance, np.float32, at_least=0)
    as_sample(as_searched(request))


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
    threading.Thread(target=importlib.import_module, args=("jaxem.plots",), daemon=True).start()
    return fit_restarts_parallel(
        jax.random.key(request.seed),
        images,
        request.template_shape,
        **search_options(request),
        sample=as_searched(request),
        callback=display.progress,
        checkpointer=checkpointer,
        **model,
    )


def write(frames: FittedFrames, found: Restarts, test: TestRun | None, out: Path, display: Display) -> Report:
    """Write ``result.npz``, which `jaxem.load` reads, ``positions.csv`` and ``figure.png``; say what was found.

    Args:
        frames: what was fitted, and how.
        found: what to write.
        test: the detection test that goes on.
        out: the folder.
        display: whom to tell.
    """
    from jaxem.plots import summary, write_figure  # `search` has begun to import it

    best, runs = found.best, found.runs
    transforms = as_transforms(best.transforms)
    winner = int(best_run(runs))
    report = frames.assess(found)
    about = about_frames(frames)
    with output_folder(out) as folder:
        save(folder / "result.npz", report, about=about)
        write_positions(
            folder / "positions.csv",
            frames.numbers,
            frames.names,
            report.assessment.located,
            transforms,
            frames.excluded,
        )
        shown = number_shown(best)
        write_figure(summary(report, frames.frame(shown), number=shown), folder / "figure.png")
    if test is not None:
        try:
            tested = report.assessment._replace(test=frames.of_all(test.result()))
        except KeyboardInterrupt:
            heard()
            raise InterruptedRunError(f"interrupted; {out} holds the result, but for the detection test") from None
        report = report._replace(assessment=tested)
        with output_folder(out) as folder:
            save(folder / "result.npz", report, about=about)
    lines, facts = describe_findings(best.positions, best.params, transforms)
    assessment, diagnostics = report.assessment, found.diagnostics
    noise_scale, contrast = best.params.noise_scale, float(assessment.contrast)
    open_positions = float(diagnostics.effective_positions)
    remarks = all_remarks(report, frames)
    notes = say_remarks(remarks)
    display.note(
        "result",
        f"best: start {winner + 1}, noise {in_words(noise_scale)}, contrast {contrast:.3g}, "
        f"{open_positions:.2f} positions a frame",
        *lines,
        *notes,
        start=winner + 1,
        status=Status(int(best.status)).name,
        sample=None if found.sample is None else len(found.sample),
        elbo=float(best.elbo),
        noise_scale=np.asarray(noise_scale).tolist(),
        **facts,
        contrast=contrast,
        effective_positions=open_positions,
        p_value=float(assessment.test.p_value),
        agreement=float(assessment.test.agreement),
        remarks=[remark.facts() for remark in remarks],
    )
    paths = [str(out / name) for name in RESULT_FILES]
    display.note("wrote", f"wrote {listed(paths[:-1], len(paths))} and {paths[-1]}", paths=paths)
    display.note("verdict", verdict(report, remarks))
    return report


def about_frames(frames: FittedFrames) -> dict[str, Any]:
    """What the result is of: the frames by number and name, what was left out of them, and what was asked for."""
    about = {
        "source": _shown(frames.source),
        "frame_numbers": np.array(frames.numbers),
        "excluded": frames.excluded,
        "options": json.dumps({spelling(name): value for name, value in asdict(frames.request).items()}),
    }
    return about if frames.names is None else about | {"frame_names": [_shown(name) for name in frames.names]}


def _shown(text: str) -> str:
    """Names of files may hold what is no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def exit_code(report: Report) -> int:
    # Runs on a sample that converged say nothing of the fit to all frames.
    ended = report.runs if report.found.sample is None else report.best
    if not np.any(ended.status == Status.CONVERGED):
        print("jaxem: no run converged; the best of them was written all the same", file=sys.stderr)
        return ExitCode.NOTHING_CONVERGED
    return ExitCode.NOTHING_FOUND if test_failed(report.assessment) else ExitCode.DONE
