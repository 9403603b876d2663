"""The work of ``jaxem info``: frames looked at before the work.

JAX is imported only where a trial shall tell how long a fit will take: all else is there at once.
"""

from __future__ import annotations

import time

import numpy as np

from jaxem.assess.frame_stats import describe_statistics, frame_statistics
from jaxem.cli.frame_files import read_observed
from jaxem.cli.memory import fit_memory
from jaxem.cli.odd_data import say_what_is_odd
from jaxem.cli.requests import FrameChoice
from jaxem.cli.text import describe_frames, say
from jaxem.runtime.arguments import as_template_shape
from jaxem.runtime.resources import available_memory
from jaxem.runtime.text import bytes_in_words, clock

TEMPLATE_SHARE = 4  # the part of the frame's sides that a template has if nobody says


def info(choice: FrameChoice, template_shape: tuple[int, int] | None, estimate: bool) -> int:
    """Say what frames are, what is wrong with them, and what a fit will need."""
    before = time.monotonic()
    observed = read_observed(choice)
    images = observed.images
    seconds_to_read = time.monotonic() - before
    if template_shape is not None:
        as_template_shape(template_shape, images.shape[1:3])
    statistics = frame_statistics(images, observed.weights)
    say(f"frames     {describe_frames(images)}, {bytes_in_words(images.nbytes)}, from {choice.path}")
    for line in describe_statistics(images, statistics):
        say(line)
    say_what_is_odd(observed, template_shape, statistics)
    needed, available = fit_memory(images), available_memory()
    time_needed = _estimate(images, template_shape, seconds_to_read) if estimate else "add --estimate for the time"
    memory = f"about {bytes_in_words(round(needed))} of memory ({bytes_in_words(available)} are free)"
    say(f"a fit      {memory}; {time_needed}")
    if needed > available:
        say("warning: That is more memory than is free; take fewer frames with --every, or cut with --crop.")
    return 0


def _estimate(images: np.ndarray, template_shape: tuple[int, int] | None, seconds_to_read: float) -> str:
    """Seconds that a fit will take, in words, after a line on the template that was assumed."""
    from jaxem.cli.estimate import estimate_time  # imports JAX, as the docstring above says
    from jaxem.runtime.compilation_cache import cache_compiled_programs

    height, width = template_shape or (max(1, side // TEMPLATE_SHARE) for side in images.shape[1:3])
    why = "" if template_shape else ", a quarter of the frame's sides; --template-shape H W gives another"
    cache_compiled_programs()
    expected = estimate_time(images, (height, width), seconds_to_read)
    say(f"template   {height} x {width}{why}")
    around = clock(expected.seconds - expected.seconds_of_steps)
    return f"about {clock(expected.seconds)}, {around} of it before and after the search itself; {expected.reason}"
