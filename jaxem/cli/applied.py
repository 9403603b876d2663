"""Frames that a saved result is applied to: in memory, or read anew in each pass where that does not hold them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxem import stream
from jaxem.assess.locating import locate
from jaxem.cli.display import Display
from jaxem.cli.memory import expect_room_for_results, expect_room_to_read, fit_memory
from jaxem.cli.observed import Observed, ObservedStream, OpenedObserved, note_frames, nothing_left, open_observed
from jaxem.cli.requests import FrameChoice
from jaxem.cli.saved_results import Model
from jaxem.io.readers.source import FramesError
from jaxem.model.predict import Located
from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.resources import CHUNK_BYTES, available_memory, return_chunks, taken_memory
from jaxem.runtime.text import bytes_in_words


class AppliedFrames(Protocol):
    """The frames, wherever they are."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, H, W) or (K, H, W, C)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""

    @property
    def numbers(self) -> Sequence[int]:
        """Theirs in the file."""

    @property
    def names(self) -> Sequence[str] | None:
        """Of the files that hold one frame each."""

    def note(self, display: Display) -> None:
        """What is read, and how."""

    def locate(self, model: Model, prior: str = "flat", *, fitted: bool = False) -> Located:
        """Where the template is in each."""

    def frame(self, number: int) -> np.ndarray:
        """One of them, NaN where it was not observed."""

    def in_order(self) -> Iterator[np.ndarray]:
        """One after the other, NaN where they were not observed."""

    def num_observed(self) -> np.ndarray | None:
        """Pixels of each that were observed, (K,), known once they were located; None where all have the same."""

    def extremes(self) -> tuple[float, float]:
        """The lowest pixel value and the highest."""


@dataclass(frozen=True)
class FramesInMemory:
    """Frames that were read.

    Args:
        observed: the frames.
        choice: which they are.
    """

    observed: Observed
    choice: FrameChoice

    @property
    def shape(self) -> tuple[int, ...]:
        return self.observed.images.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.observed.images.dtype

    @property
    def numbers(self) -> Sequence[int]:
        return self.observed.part.numbers[: self.shape[0]]

    @property
    def names(self) -> Sequence[str] | None:
        return self.observed.part.names

    def note(self, display: Display) -> None:
        note_frames(self.observed, self.choice, display)

    def locate(self, model: Model, prior: str = "flat", *, fitted: bool = False) -> Located:
        images, weights, _ = self.observed
        options: Any = {"prior": prior, "fitted": fitted, "transforms": model.transforms}
        return locate(images, model.found, weights=weights, **options)

    def frame(self, number: int) -> np.ndarray:
        return self.observed.frame(number)

    def in_order(self) -> Iterator[np.ndarray]:
        return map(self.frame, range(self.shape[0]))

    def num_observed(self) -> np.ndarray | None:
        weights = self.observed.weights
        return None if weights is None or weights.ndim == 2 else np.count_nonzero(weights, axis=(1, 2))

    def extremes(self) -> tuple[float, float]:
        images = self.observed.images
        return float(images.min()), float(images.max())


@dataclass(frozen=True)
class FramesInPasses:
    """Frames of an open file, of which a few at a time are in memory.

    Args:
        stream: the frames.
        memory: bytes that may be used.
    """

    stream: ObservedStream
    memory: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stream.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.stream.source.dtype

    @property
    def numbers(self) -> Sequence[int]:
        return self.stream.frames.numbers

    @property
    def names(self) -> Sequence[str] | None:
        return self.stream.frames.names

    def note(self, display: Display) -> None:
        self.stream.note(display, f"these are read a few at a time, since {bytes_in_words(self.memory)} may be used")

    def locate(self, model: Model, prior: str = "flat", *, fitted: bool = False) -> Located:
        options: Any = {"prior": prior, "fitted": fitted, "transforms": model.transforms}
        found = stream.locate(self.stream.source, model.found, weights=self.stream.weights, **options)
        seen = self.num_observed()
        if seen is not None and not seen.any():
            raise nothing_left(self.stream.choice)
        return found

    def frame(self, number: int) -> np.ndarray:
        return self.stream.frame(number)

    def in_order(self) -> Iterator[np.ndarray]:
        for start, stop in self._blocks():
            yield from self.stream.block(start, stop)

    def num_observed(self) -> np.ndarray | None:
        return self.stream.num_observed

    def extremes(self) -> tuple[float, float]:
        blocks = (self.stream.source.read(start, stop) for start, stop in self._blocks())
        lowest, highest = zip(*((block.min(), block.max()) for block in blocks), strict=True)
        return float(min(lowest)), float(max(highest))

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Frames that are read at once where nothing is computed."""
        step = max(1, CHUNK_BYTES // (math.prod(self.shape[1:]) * self.dtype.itemsize))
        return ((start, min(start + step, self.shape[0])) for start in range(0, self.shape[0], step))


@contextmanager
def open_for(model: Model, choice: FrameChoice, path: Path, memory: int | None = None) -> Iterator[AppliedFrames]:
    """Frames as a model knows them: in colour where it was found in colour, and of its size.

    Args:
        model: to apply.
        choice: which frames.
        path: of the model, to complain about.
        memory: bytes that may be used; by default what is free.

    Raises:
        FramesError: they cannot be used, or are others than the model knows.
        FileError, ArgumentValueError: a mask cannot be used, or there is too little memory to read a few of them.
    """
    in_colour = model.num_channels is not None
    if in_colour and choice.grey is not None:
        raise ArgumentValueError("grey", f"is of no use here: {path} was found in colour.")
    with ExitStack() as files:
        try:
            opened = files.enter_context(open_observed(replace(choice, colour=in_colour)))
        except FramesError as error:
            if error.argument != "colour":
                raise
            channels = model.num_channels
            problem = f"{choice.source} is grey, but {path} was found in frames of {channels} channels; give such."
            raise FramesError(problem) from error
        _expect_size(opened.frames.shape, model, choice, path)
        frames = _held(opened, memory)
        if isinstance(frames, FramesInMemory):
            files.close()
        yield frames


def _held(opened: OpenedObserved, memory: int | None) -> FramesInMemory | FramesInPasses:
    """Frames that were opened, read if memory holds all of them."""
    shape, dtype = opened.frames.shape, opened.frames.dtype
    free = available_memory() + taken_memory() if memory is None else memory
    if fit_memory(shape, dtype, has_weights=opened.may_have_weights) <= free:
        return FramesInMemory(opened.read(), opened.choice)
    if memory is not None:
        expect_room_to_read(memory, shape, dtype)
    expect_room_for_results(free, shape[0])
    return_chunks()
    return FramesInPasses(opened.stream(), free)


def _expect_size(shape: tuple[int, ...], model: Model, choice: FrameChoice, path: Path) -> None:
    size, expected = shape[1:3], np.shape(model.params.background)[:2]
    if size != expected:
        can_cut = size[0] >= expected[0] and size[1] >= expected[1]
        or_cut = ", or cut these with --crop" if can_cut else ""
        raise FramesError(
            f"{choice.source} has frames of {size[0]} x {size[1]}, but {path} was found in frames of {expected[0]} x "
            f"{expected[1]}; give frames of that size{or_cut}."
        )
    if model.num_channels is not None and shape[3] != model.num_channels:
        raise FramesError(
            f"{choice.source} has {shape[3]} channels, but {path} was found in frames of "
            f"{model.num_channels}; give such frames."
        )
