"""The work of ``jaxem fit``: search, show, write."""

from __future__ import annotations

import importlib.util
import sys
import threading
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from jaxem.assess.assessment import Report
from jaxem.cli.about import about_frames
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
from jaxem.cli.excluding import fit_again, look_before
from jaxem.cli.exit_codes import ExitCode
from jaxem.cli.findings import describe_findings, in_words, number_shown
from jaxem.cli.frame_files import expect_there
from jaxem.cli.long_running import (
    choose_display,
    fingerprint_of,
    meet,
    open_checkpointer,
    recorded_fingerprint,
    save_interrupted,
)
from jaxem.cli.memory import fit_memory
from jaxem.cli.model_options import files_of, model_options
from jaxem.cli.observed import Observed, expect_several, note_frames, open_observed
from jaxem.cli.odd_data import Looked
from jaxem.cli.outputs import check_folder
from jaxem.cli.requests import FitRequest, FrameChoice, Reporting, Together
from jaxem.cli.streaming import RECORDED, InPasses, Sample, choose_sample
from jaxem.cli.tables import write_positions
from jaxem.cli.text import InterruptedRunError
from jaxem.io.results import save
from jaxem.model.appearances import as_transforms
from jaxem.ops.validation import as_number
from jaxem.runtime.arguments import as_count, as_seed, as_template_shape
from jaxem.runtime.checkpoint import Checkpointer, PartOfWork
from jaxem.runtime.compilation_cache import cache_compiled_programs
from jaxem.runtime.errors import ProcessesError
from jaxem.runtime.files import output_folder
from jaxem.runtime.interruption import heard
from jaxem.runtime.processes import agree, from_first, is_first, num_processes, part, together
from jaxem.runtime.resources import available_memory
from jaxem.runtime.text import listed
from jaxem.search.choosing import best_run
from jaxem.search.parallel import fit_restarts_parallel
from jaxem.search.restarts import Restarts
from jaxem.search.subsampling import as_sample
from jaxem.solvers.result import Status

MOST_RESTARTS, MOST_ITERATIONS = 10**5, 10**6
RESULT_FILES = ("result.npz", "positions.csv", "figure.png")


def fit(
    choice: FrameChoice,
    request: FitRequest,
    out: Path,
    reporting: Reporting,
    *,
    overwrite: bool = False,
    memory: int | None = None,
    others: Together | None = None,
) -> int:
    """Fit the frames that were chosen: in memory, or, where they are more than that holds, in passes over their file.

    Args:
        choice: which frames.
        request: what to do with them.
        out: folder for the results.
        reporting: how to show it, and how to survive.
        overwrite: whether results may be replaced.
        memory: bytes that may be used; by default what is free.
        others: processes to share the frames with, which are read a few at a time then.
    """
    reporting = meet(others, reporting)
    with together(), ExitStack() as files:
        if is_first():
            check_folder(out, RESULT_FILES, overwrite or reporting.resume)
        check_numbers(request)
        for argument, path in files_of(request):
            expect_there(path, argument)
        opened = files.enter_context(open_observed(choice))
        shape = opened.frames.shape
        expect_several(shape[0], choice)
        as_template_shape(request.template_shape, shape[1:3])
        memory = available_memory() if memory is None else memory
        recorded = recorded_fingerprint(reporting)
        fits = fit_memory(shape, opened.frames.dtype) <= memory if recorded is None else RECORDED[0] not in recorded
        if fits and num_processes() == 1:
            stack: InMemory | InPasses = InMemory(opened.read(), request, choice)
            files.close()
        else:
            frames = opened.stream()
            sample = Sample(*map(int, from_first(np.array(choose_sample(frames, request, memory, recorded)))))
            stack = InPasses(frames, sample, request, memory)
        return fit_stack(stack, choice, request, out, reporting)


def fit_stack(
    stack: InMemory | InPasses, choice: FrameChoice, request: FitRequest, out: Path, reporting: Reporting
) -> int:
    """Fit frames that were opened, and write what was found."""
    expect_several(stack.num_images, choice)
    observed = stack.observed
    model = model_options(request, choice, observed)
    cache_compiled_programs()
    with choose_display(reporting, stack.num_images) as display:
        stack.note(display)
        import_plots()
        looked = look_before(observed, request, display)
        model = looked.model(model)
        fingerprint = {} if reporting.checkpoint is None and num_processes() == 1 else stack.fingerprint(model)
        agree(zlib.crc32(repr(fingerprint).encode()))
        checkpointer = open_checkpointer(reporting, fingerprint, display)
        checkpointer.take_up_first()
        frames = stack.fitted(looked, model)
        is_small = observed.images.size < FEW_PIXELS and is_first()
        test = start_test(frames) if is_small and not looked.leaves_out else None
        try:
            found = stack.search(display, checkpointer, model)
            again = PartOfWork(checkpointer, "again ")
            looked, found = fit_again(
                looked, found, request, display, lambda more: stack.search(display, again, model | more)
            )
        except ProcessesError:
            checkpointer.write()
            raise
        except KeyboardInterrupt:
            heard()
            if not is_first():
                raise
            fingerprint = fingerprint or stack.fingerprint(model)
            raise save_interrupted(checkpointer, fingerprint, out) from None
        checkpointer.write()
        frames = stack.fitted(looked, looked.model(model), found)
        if not is_first():
            frames.assess(found)
            part()
            return ExitCode.DONE
        report = write(frames, found, test or start_test(frames, found), out, display)
    return exit_code(report)


@dataclass(frozen=True)
class InMemory:
    """Frames that are in memory.

    Args:
        observed: the frames.
        request: what was asked for.
        choice: which they are.
    """

    observed: Observed
    request: FitRequest
    choice: FrameChoice

    @property
    def num_images(self) -> int:
        """K."""
        return len(self.observed.images)

    def note(self, display: Display) -> None:
        """What was read, and how."""
        note_frames(self.observed, self.choice, display)

    def fingerprint(self, model: Mapping[str, Any]) -> dict[str, str]:
        """What makes two runs the same."""
        return fingerprint_of(self.observed.images, self.request, model)

    def search(self, display: Display, checkpointer: Checkpointer, model: Mapping[str, Any]) -> Restarts:
        """Search as requested."""
        return search(self.observed.images, self.request, display, checkpointer, model)

    def fitted(self, looked: Looked, model: Mapping[str, Any], found: Restarts | None = None) -> FittedFrames:
        """What was fitted, to be tested, assessed and written."""
        return FittedFrames(looked, self.request, model, self.choice.source)


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
    """Search frames in memory as requested."""
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


def import_plots() -> None:
    """Begin to import what draws the figure, which takes as long as a stage of the search."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("the figure cannot be drawn", name="matplotlib")
    threading.Thread(target=importlib.import_module, args=("jaxem.plots",), daemon=True).start()


def write(frames: FittedFrames, found: Restarts, test: TestRun | None, out: Path, display: Display) -> Report:
    """Write ``result.npz``, which `jaxem.load` reads, ``positions.csv`` and ``figure.png``; say what was found.

    Args:
        frames: what was fitted, and how.
        found: what to write.
        test: the detection test that goes on.
        out: the folder.
        display: whom to tell.
    """
    from jaxem.plots import summary, write_figure  # `import_plots` has begun to

    best, runs = found.best, found.runs
    transforms = as_transforms(best.transforms)
    winner = int(best_run(runs))
    report = frames.assess(found)
    part()  # others have nothing more to do
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


def exit_code(report: Report) -> int:
    # Runs on a sample that converged say nothing of the fit to all frames.
    ended = report.runs if report.found.sample is None else report.best
    if not np.any(ended.status == Status.CONVERGED):
        print("jaxem: no run converged; the best of them was written all the same", file=sys.stderr)
        return ExitCode.NOTHING_CONVERGED
    return ExitCode.NOTHING_FOUND if test_failed(report.assessment) else ExitCode.DONE
