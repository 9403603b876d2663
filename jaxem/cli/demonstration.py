"""The work of ``jaxem demo``: frames made, fitted, and held against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxem.cli import fitting, writing
from jaxem.cli.claims import FittedFrames, start_test
from jaxem.cli.demo import IMAGE_SHAPE, TEMPLATE_SHAPE, compare_with_truth, demo_frames
from jaxem.cli.long_running import choose_display
from jaxem.cli.observed import Observed
from jaxem.cli.odd_data import look_at
from jaxem.cli.requests import FitRequest, Reporting
from jaxem.cli.text import describe_frames
from jaxem.io.frames import Part
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.compilation_cache import cache_compiled_programs
from jaxem.runtime.files import check_output


def run_demo(seed: int, out: Path, reporting: Reporting) -> int:
    """Make the frames of the demonstration, fit them, and hold the result against the truth."""
    request = FitRequest(TEMPLATE_SHAPE, seed=seed)
    fitting.check_numbers(request)
    cache_compiled_programs()
    demo = demo_frames(seed)
    with choose_display(reporting, len(demo.frames)) as display:
        check_output(out)
        display.note("frames", f"{describe_frames(demo.frames)}, in each of them the same face hidden in noise")
        count, (height, width) = len(demo.frames), IMAGE_SHAPE
        whole = Part(demo.frames, range(count), count, slice(0, height), slice(0, width), IMAGE_SHAPE)
        frames = FittedFrames(
            look_at(Observed(demo.frames, None, whole), TEMPLATE_SHAPE), request, {}, "the demonstration"
        )
        test = start_test(frames)
        writing.import_plots()
        found = fitting.search(demo.frames, request, display, Checkpointer())
        report = writing.write(frames, frames.assess(found), test, out, display)
        lines = compare_with_truth(demo, found.best.params, np.asarray(found.best.corners))
        display.note("truth", "against the truth:", *(f"  {line}" for line in lines))
    return writing.exit_code(report)
