"""The work of ``jaxem fit``: open the frames, search, have the result assessed and written."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from jaxem.cli.claims import (
    FEW_PIXELS,
    FittedFrames,
    as_searched,
    search_options,
    start_test,
)
from jaxem.cli.display import Display
from jaxem.cli.excluding import fit_again, look_before
from jaxem.cli.exit_codes import ExitCode
from jaxem.cli.frame_files import expect_there
from jaxem.cli.long_running import (
    choose_display,
    fingerprint_of,
    meet,
    memory_of_each,
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
from jaxem.cli.streaming import NOTHING_CHOSEN, RECORDED, InPasses, Sample, assess_in_passes, choose_sample
from jaxem.cli.writing import RESULT_FILES, exit_code, has_converged, import_plots, write
from jaxem.ops.validation import as_number
from jaxem.runtime import processes
from jaxem.runtime.arguments import as_count, as_seed, as_template_shape
from jaxem.runtime.checkpoint import Checkpointer, PartOfWork
from jaxem.runtime.compilation_cache import cache_compiled_programs
from jaxem.runtime.errors import ProcessesError
from jaxem.runtime.interruption import heard
from jaxem.runtime.resources import return_chunks
from jaxem.search.parallel import fit_restarts_parallel
from jaxem.search.restarts import Restarts
from jaxem.search.subsampling import as_sample

MOST_RESTARTS, MOST_ITERATIONS = 10**5, 10**6


def fit(
    choice: FrameChoice,
    request: FitRequest,
    out: Path,
    reporting: Reporting,
    *,
    overwrite: bool = False,
    memory: int | None = None,
    together: Together | None = None,
) -> int:
    """Fit the frames that were chosen: in memory, or, where they are more than that holds, in passes over their file.

    Args:
        choice: which frames.
        request: what to do with them.
        out: folder for the results.
        reporting: how to show it, and how to survive.
        overwrite: whether results may be replaced.
        memory: bytes that may be used; by default what is free.
        together: with which other processes. They share out the frames, in passes; the first alone writes and shows.
    """
    reporting = meet(together, reporting)
    with ExitStack() as files:
        with processes.together():
            if processes.is_first():
                check_folder(out, RESULT_FILES, overwrite or reporting.resume)
            check_numbers(request)
            for argument, path in files_of(request):
                expect_there(path, argument)
            opened = files.enter_context(open_observed(choice))
            shape = opened.frames.shape
            expect_several(shape[0], choice, processes.num_processes())
            as_template_shape(request.template_shape, shape[1:3])
            recorded = recorded_fingerprint(reporting)
        memory = memory_of_each(memory)
        fits = fit_memory(shape, opened.frames.dtype, has_weights=opened.may_have_weights) <= memory
        fits = fits if recorded is None else RECORDED[0] not in recorded
        if fits and processes.num_processes() == 1:
            stack: InMemory | InPasses = InMemory(opened.read(), request, choice)
            files.close()
        else:
            sample = NOTHING_CHOSEN
            with processes.together():
                frames = opened.stream()
                if processes.is_first():
                    sample = choose_sample(frames, request, memory, recorded)
            sample = Sample(*map(int, processes.from_first(np.array(sample))))
            return_chunks()
            stack = InPasses(frames, sample, request, memory if recorded is None else None)
        return fit_stack(stack, choice, request, out, reporting)


def fit_stack(
    stack: InMemory | InPasses, choice: FrameChoice, request: FitRequest, out: Path, reporting: Reporting
) -> int:
    """Fit frames that were opened, and write what was found."""
    expect_several(stack.num_images, choice)
    cache_compiled_programs()
    with choose_display(reporting, stack.num_images) as display:
        with processes.together():
            stack.note(display)
            observed = stack.observed
            model = model_options(request, choice, observed)
            looked = None
            if processes.is_first():
                import_plots()
                looked = look_before(observed, request, display)
                model = looked.model(model)
            is_kept = reporting.checkpoint is not None or processes.num_processes() > 1
            fingerprint = stack.fingerprint(model) if is_kept else {}
            checkpointer = open_checkpointer(reporting, fingerprint, display)
        with processes.together():
            checkpointer.take_up_first()
        if looked is None:
            return help_first(stack, checkpointer, model, display)
        frames = stack.fitted(looked, model)
        test = start_test(frames) if observed.images.size < FEW_PIXELS and not looked.leaves_out else None
        try:
            found = stack.search(display, checkpointer, model)
            again = PartOfWork(checkpointer, "again ")
            looked, found = fit_again(
                looked, found, request, display, lambda more: stack.search(display, again, model | more)
            )
            frames = stack.fitted(looked, looked.model(model), found)
            checkpointer.write()
            if test is None or len(observed.images) != len(frames.images):  # more were searched than it was begun with
                test = start_test(frames, found)
            report = frames.assess(found)
            processes.part()
        except (KeyboardInterrupt, ProcessesError) as error:
            if isinstance(error, KeyboardInterrupt):
                heard()
            fingerprint = fingerprint or stack.fingerprint(model)
            raise save_interrupted(checkpointer, fingerprint, out, error) from None
        report = write(frames, report, test, out, display)
    return exit_code(report)


def help_first(
    stack: InMemory | InPasses, checkpointer: Checkpointer, model: Mapping[str, Any], display: Display
) -> int:
    """Do the share of a process that is not the first, which writes what was found."""
    assert isinstance(stack, InPasses)
    found = stack.search(display, checkpointer, model)
    report = assess_in_passes(stack.stream, found, model)
    processes.part()
    return ExitCode.DONE if has_converged(report) else ExitCode.NOTHING_CONVERGED


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
