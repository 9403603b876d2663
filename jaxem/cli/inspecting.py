"""The work of ``jaxem info``: frames looked at before the work.

JAX is imported only where a trial shall tell how long a fit will take: all else is there at once.
"""

from __future__ import annotations

import time

import numpy as np

from jaxem.assess.frame_stats import describe_statistics, frame_statistics
from jaxem.assess.recoverability import Verdict, expect_recovery
from jaxem.cli.display import Display, lines_or_json
from jaxem.cli.memory import fit_memory, frames_to_look_at
from jaxem.cli.observed import Observed, open_observed
from jaxem.cli.odd_data import say_what_is_odd
from jaxem.cli.requests import FrameChoice
from jaxem.cli.text import describe_frames
from jaxem.runtime.arguments import as_positive, as_template_shape
from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.resources import available_memory, taken_memory
from jaxem.runtime.text import bytes_in_words, clock, plural

TEMPLATE_SHARE = 4  # the part of the frame's sides that a template has if nobody says
WANTED_PRECISION = 10  # times smaller than the template's difference from its background is the error to aim at


def info(
    choice: FrameChoice,
    template_shape: tuple[int, int] | None,
    estimate: bool,
    difference: float | None = None,
    *,
    as_json: bool = False,
) -> int:
    """Say what frames are, what is wrong with them, and what a fit will need."""
    if template_shape is not None:
        as_template_shape(template_shape)
    if difference is not None:
        as_positive("difference", difference)
        if template_shape is None:
            raise ArgumentValueError(
                "difference", "needs --template-shape, too: how much contrast suffices depends on the size."
            )
    before = time.monotonic()
    observed, shape = read_or_look(choice)
    images = observed.images
    seconds_to_read = (time.monotonic() - before) * shape[0] / len(images)
    if template_shape is not None:
        as_template_shape(template_shape, images.shape[1:3])
    display = lines_or_json(as_json)
    statistics = frame_statistics(images, observed.weights)
    notes = list(observed.part.notes)
    if len(images) < shape[0]:
        notes.insert(0, f"they are more than memory holds; what follows is of {len(images)} of them, evenly spaced")
    stack = np.broadcast_to(images[:1], shape)
    display.note(
        "frames",
        f"frames     {describe_frames(stack)}, {bytes_in_words(stack.nbytes)}, from {choice.source}",
        *(f"note: {note}" for note in notes),
        shape=list(shape),
        dtype=str(images.dtype),
        notes=notes,
    )
    numbers = {name: value for name, value in statistics._asdict().items() if name != "limits"}
    display.note("pixels", *describe_statistics(images, statistics), **numbers)
    say_what_is_odd(observed, template_shape, statistics, display)
    if difference is not None and template_shape is not None:
        _say_what_to_expect(shape, template_shape, difference, statistics.noise, display)
    needed, available = fit_memory(shape, images.dtype), available_memory() + taken_memory()
    seconds, time_needed = None, "add --estimate for the time"
    if estimate:
        seconds, time_needed = _estimate(images, shape[0], template_shape, seconds_to_read, display)
    memory = f"about {bytes_in_words(round(needed))} of memory ({bytes_in_words(available)} are free)"
    lines = [f"a fit      {memory}; {time_needed}"]
    if needed > available:
        lines.append("note: That is more memory than is free; jaxem fit will read the frames anew in each pass.")
    display.note("fit", *lines, memory=round(needed), free=available, seconds=seconds)
    return 0


def read_or_look(choice: FrameChoice) -> tuple[Observed, tuple[int, ...]]:
    """The frames that were chosen, or as many of them as memory holds; and the shape of all of them."""
    with open_observed(choice) as opened:
        return opened.read_some(frames_to_look_at(available_memory(), opened.frames.shape[1:], opened.frames.dtype))


def _say_what_to_expect(
    shape: tuple[int, ...], template_shape: tuple[int, int], difference: float, noise_scale: float, display: Display
) -> None:
    """Whether a template that differs so much from its background can be found, and how precisely."""
    if not noise_scale > 0:
        words = "warning: These frames tell no noise, so nothing can be said of what a template of that contrast needs."
        display.note("template", words)
        return
    count = shape[0]
    found = expect_recovery(
        shape[1:3],
        template_shape,
        difference=difference,
        noise_scale=noise_scale,
        num_images=count,
        precision=difference / WANTED_PRECISION,
    )
    height, width = template_shape
    lines = [
        f"contrast   {found.contrast:.3g}: {height} x {width} pixels that differ by {difference:g}, "
        f"{difference / noise_scale:.3g} of the noise; {found.needed_contrast:.3g} is needed, chance finds "
        f"{found.chance_contrast:.3g}"
    ]
    least = f"it would have to differ by {found.needed_difference:.3g}, or be larger"
    said = {
        Verdict.RECOVERABLE: "finds such a template",
        Verdict.DOUBTFUL: f"finds it in {100 * found.probability:.0f} of 100 cases or more; to be sure, {least}",
        Verdict.HOPELESS: f"cannot tell it from chance; {least}",
    }
    lines.append(f"a search   {said[found.verdict]}")
    if found.verdict != Verdict.HOPELESS:
        wanted = f"{found.num_images:.0f} frames give it to 1 / {WANTED_PRECISION} of that difference"
        lines.append(f"           {plural(count, 'frame')} give its pixels to {found.standard_error:.3g}; {wanted}")
    display.note(
        "template",
        *lines,
        height=height,
        width=width,
        difference=difference,
        contrast=float(found.contrast),
        needed_contrast=float(found.needed_contrast),
        verdict=found.verdict.name,
        probability=float(found.probability),
    )


def _estimate(
    images: np.ndarray,
    num_images: int,
    template_shape: tuple[int, int] | None,
    seconds_to_read: float,
    display: Display,
) -> tuple[float, str]:
    """Seconds that a fit will take, also in words, after a line on the template that was assumed."""
    from jaxem.cli.estimate import estimate_time  # imports JAX, as the docstring above says
    from jaxem.runtime.compilation_cache import cache_compiled_programs

    height, width = template_shape or (max(1, side // TEMPLATE_SHARE) for side in images.shape[1:3])
    why = "" if template_shape else ", a quarter of the frame's sides; --template-shape H W gives another"
    cache_compiled_programs()
    expected = estimate_time(images, (height, width), seconds_to_read, num_images)
    display.note("template", f"template   {height} x {width}{why}", height=height, width=width)
    around = clock(expected.seconds - expected.seconds_of_steps)
    words = f"about {clock(expected.seconds)}, {around} of it before and after the search itself; {expected.reason}"
    return float(expected.seconds), words
