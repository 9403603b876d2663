"""The work of ``jaxem fit`` where the frames are more than memory holds: they are read anew in each pass.

A sample of them is in memory: it is searched, looked at for what is odd, and tested. All of them are fitted, and each
is assessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem import stream
from jaxem.assess.assessment import Report
from jaxem.assess.detection import DetectionTest, nothing_tested
from jaxem.cli.claims import FittedFrames, as_searched, search_options
from jaxem.cli.display import Display
from jaxem.cli.long_running import fingerprint_of
from jaxem.cli.memory import expect_room_for_results, frames_in_memory, passes_memory
from jaxem.cli.observed import Observed, ObservedStream
from jaxem.cli.odd_data import Looked
from jaxem.cli.requests import FitRequest
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.processes import num_processes
from jaxem.runtime.text import bytes_in_words, plural
from jaxem.search.restarts import Restarts
from jaxem.search.subsampling import AUTO, LEAST_RATIO, draw_numbers, sufficient_size
from jaxem.stream.restarts import FRAMES_BETWEEN, MOST_PIXELS_AT_ONCE, TIMES_IN_MEMORY
from jaxem.stream.sources import as_stream, read_sample

FEWEST_SEARCHED = 16  # frames, of which a search can make anything
LOOKED_AT = 2  # times as many frames as are searched: each half of them is tested with what the other half tells
# What checkpoints call the fields of `Sample`.
RECORDED = ("number of frames searched", "number of frames in memory", "number of frames in a search")


class Sample(NamedTuple):
    """How many of the frames are held in memory.

    =========  ====================================================================================
    field      meaning
    =========  ====================================================================================
    searched   number of frames that are searched first
    in_memory  number of frames to look at and to test
    largest    number of frames that a search may have in memory, to fit them or to search more of them
    =========  ====================================================================================
    """

    searched: int
    in_memory: int
    largest: int

    def facts(self) -> dict[str, str]:
        """What checkpoints keep, since how much memory is free changes."""
        return dict(zip(RECORDED, map(str, self), strict=True))


NOTHING_CHOSEN = Sample(0, 0, 0)


@dataclass(frozen=True)
class StreamedFrames(FittedFrames):
    """Frames of which a sample is in memory.

    Args:
        stream: all of them.
        sampled: numbers of those in memory, among all.
    """

    stream: ObservedStream
    sampled: np.ndarray

    @property
    def numbers(self) -> Sequence[int]:
        return self.stream.frames.numbers

    @property
    def names(self) -> Sequence[str] | None:
        return self.stream.frames.names

    @property
    def excluded(self) -> np.ndarray:
        return np.zeros(len(self.numbers), bool)

    def frame(self, number: int) -> np.ndarray:
        return self.stream.frame(number)

    def assess(self, found: Restarts) -> Report:
        return assess_in_passes(self.stream, found, self.model)

    def of_all(self, test: DetectionTest) -> DetectionTest:
        whole: DetectionTest = jax.device_get(nothing_tested(len(self.numbers), test.gains.dtype))
        by_frame: Any = {name: np.array(getattr(whole, name)) for name in ("gains", "corners", "parts")}
        for name, values in by_frame.items():
            values[self.sampled] = getattr(test, name)
        return test._replace(**by_frame)


def choose_sample(
    frames: ObservedStream, request: FitRequest, memory: int, recorded: Mapping[str, str] | None
) -> Sample:
    """How many frames to hold in memory: as many as a search takes, if there is room for them.

    Args:
        frames: all of them.
        request: what was asked for.
        memory: bytes that may be used.
        recorded: of a checkpoint to go on from, in which it was decided.

    Raises:
        ArgumentValueError: there is too little room, or something was asked for that takes all frames.
    """
    for argument, is_asked in (("exclude_odd", request.exclude_odd), ("mask_hot", request.mask_hot)):
        if is_asked:
            raise ArgumentValueError(argument, f"needs all frames in memory, and {too_large(frames, memory)}.")
    if recorded is not None and RECORDED[0] in recorded:  # else of one process, which held all frames
        return Sample(*(int(recorded[name]) for name in RECORDED))
    count, shape = frames.source.shape[0], frames.source.shape[1:]
    expect_room_for_results(memory, count)
    has_weights = not (frames.weights is None or isinstance(frames.weights, np.ndarray))
    most = frames_in_memory(memory, shape, frames.source.dtype, has_weights=has_weights)
    fewest = min(LOOKED_AT * FEWEST_SEARCHED, count)
    if most < fewest:
        needed = passes_memory(fewest, shape, frames.source.dtype, has_weights=has_weights)
        takes = f"{fewest} frames in memory take {bytes_in_words(round(needed))}, with what JAX itself takes"
        raise ArgumentValueError("memory", f"of {bytes_in_words(memory)} is too little: {takes}.")
    asked = as_searched(request)
    if asked is None:
        raise ArgumentValueError("sample", f"of all frames needs them in memory, and {too_large(frames, memory)}.")
    if isinstance(asked, int) and asked > most:
        raise ArgumentValueError("sample", f"of {plural(asked, 'frame')} is more than memory holds, {most}.")
    wanted = sufficient_size(request.template_shape, math.prod(shape[2:]), request.num_templates, request.absent)
    size = min(asked, count) if isinstance(asked, int) else min(wanted, most // LOOKED_AT, count)
    # Half of the frames at most, so that there are passes to share out, and the same of however many processes.
    at_most = min(most - LOOKED_AT * size, MOST_PIXELS_AT_ONCE // math.prod(shape), count // 2)
    largest = max(size, at_most)
    if asked == AUTO:  # as `stream.fit_restarts` does
        in_search = min(TIMES_IN_MEMORY * wanted, largest, count)
        size = wanted if in_search >= LEAST_RATIO * wanted else in_search
    return Sample(size, min(LOOKED_AT * size, most, count), largest)


def assess_in_passes(frames: ObservedStream, found: Restarts, model: Mapping[str, Any]) -> Report:
    """A result with what may be claimed of it without a test."""
    claims = stream.assess_fit(frames.source, found, weights=frames.weights, fixed=tuple(model.get("fixed", ())))
    return Report(found, jax.device_get(claims))


def too_large(frames: ObservedStream, memory: int | None) -> str:
    """That frames do not fit into memory, in words; without a memory, that it was so in the checkpoint."""
    size = math.prod(frames.source.shape) * frames.source.dtype.itemsize
    why = "as before" if memory is None else f"since {bytes_in_words(memory)} may be used"
    if num_processes() > 1:
        why = f"by {num_processes()} processes"
    return f"these, {bytes_in_words(size)}, are read a few at a time, {why}"


@dataclass(frozen=True)
class InPasses:
    """Frames of which a sample is in memory, and which are read anew in each pass: as `fitting.InMemory`.

    Args:
        stream: all of them.
        sample: how many of them are in memory.
        request: what was asked for.
        memory: bytes that may be used; None where a checkpoint says how many are in memory.
    """

    stream: ObservedStream
    sample: Sample
    request: FitRequest
    memory: int | None

    @cached_property
    def numbers(self) -> np.ndarray:
        """Of the frames in memory that are looked at."""
        key, count = jax.random.key(self.request.seed), self.stream.source.shape[0]
        return np.asarray(draw_numbers(key, count, None, self.sample.in_memory))

    @cached_property
    def observed(self) -> Observed:
        """The frames in memory."""
        some = read_sample(as_stream(self.stream.source, self.stream.weights), self.numbers, FRAMES_BETWEEN)
        own = some.weights if some.shared_weights is None else some.shared_weights
        weights = None if own is None else np.asarray(own)
        return self.stream.some(np.asarray(some.pixels), weights, self.numbers.tolist())

    @property
    def num_images(self) -> int:
        """K."""
        return self.stream.source.shape[0]

    def note(self, display: Display) -> None:
        """What is read, and how."""
        sample = self.sample
        how = (
            f"{too_large(self.stream, self.memory)}; {sample.searched} of them are searched, {sample.in_memory} looked "
            "at and tested"
        )
        self.stream.note(display, how, searched=sample.searched, in_memory=sample.in_memory)

    def fingerprint(self, model: Mapping[str, Any]) -> dict[str, str]:
        """What makes two runs the same."""
        found = fingerprint_of(self.observed.images, self.request, model)
        shape = " x ".join(map(str, self.stream.source.shape))
        return found | self.sample.facts() | {"stack of frames": f"{shape}, in a sample {found['stack of frames']}"}

    def search(self, display: Display, checkpointer: Checkpointer, model: Mapping[str, Any]) -> Restarts:
        """Search the sample as requested, and fit all frames."""
        return stream.fit_restarts(
            jax.random.key(self.request.seed),
            self.stream.source,
            self.request.template_shape,
            **search_options(self.request),
            sample=as_searched(self.request),
            largest_sample=self.sample.largest,
            callback=display.progress,
            checkpointer=checkpointer,
            **{**model, "weights": self.stream.weights},
        )

    def fitted(self, looked: Looked, model: Mapping[str, Any], found: Restarts | None = None) -> FittedFrames:
        """What was fitted, to be tested, assessed and written: where more frames were searched, more are tested."""
        whole = self
        if found is not None and found.sample is not None and LOOKED_AT * len(found.sample) > self.sample.in_memory:
            in_memory = min(LOOKED_AT * len(found.sample), max(self.sample), self.num_images)
            whole = replace(self, sample=self.sample._replace(in_memory=in_memory))
        looked = looked._replace(observed=whole.observed)
        model = {name: value for name, value in model.items() if name != "weights"}
        if whole.observed.weights is not None:
            model["weights"] = whole.observed.weights
        return StreamedFrames(looked, self.request, model, self.stream.choice.source, self.stream, whole.numbers)
