"""Frames that a person has chosen, with what was observed of them: in memory, or a few at a time. Imports no JAX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from jaxem.cli.display import Display
from jaxem.cli.frame_files import expect_there
from jaxem.cli.masks import ReadsFrames, open_mask, read_mask
from jaxem.cli.requests import FrameChoice
from jaxem.cli.text import describe_frames, describe_observed
from jaxem.io.frames import FramesError, OpenedFrames, Part, open_frames, part_of, read_all
from jaxem.runtime.errors import ArgumentValueError

DEFAULT_GREY = "luma"


class Observed(NamedTuple):
    """The frames that were asked for, and what was observed of them.

    =======  ==============================  ================================================================
    field    shape                           meaning
    =======  ==============================  ================================================================
    images   (K, H, W) or (K, H, W, C)       pixel values
    weights  (H, W), (K, H, W), or None      one where a pixel was observed, zero where not; None: everywhere
    part     `Part`                          which part of the file they are
    =======  ==============================  ================================================================
    """

    images: np.ndarray
    weights: np.ndarray | None
    part: Part

    def frame(self, number: int) -> np.ndarray:
        """One of the frames, NaN where it was not observed."""
        weights = self.weights
        return _seen_alone(self.images[number], weights if weights is None or weights.ndim == 2 else weights[number])


class OpenedObserved:
    """The frames that were asked for, not yet read.

    Args:
        frames: as the file holds them.
        choice: of the person.
        files: closed when they are.
    """

    def __init__(self, frames: OpenedFrames, choice: FrameChoice, files: ExitStack) -> None:
        self.frames, self.choice, self._files = frames, choice, files

    def read(self) -> Observed:
        """All of them, in memory.

        Raises:
            FramesError: they cannot be used.
            FileError, ArgumentValueError: the mask cannot be used.
        """
        images = read_all(self.frames)
        mask = None if self.choice.mask is None else read_mask(self.choice.mask, self.frames, len(images))
        seen = _seen(images, mask, self.has_missing)
        return _observed(part_of(self.frames, images), seen, self.choice)

    def read_some(self, most: int) -> tuple[Observed, tuple[int, ...]]:
        """All of them if they are no more than that, else so many, evenly spaced; and the shape of all."""
        if self.frames.shape[0] <= most:
            observed = self.read()
            return observed, observed.images.shape
        frames = self.stream()
        shape = frames.source.shape
        return frames.evenly(min(max(1, most), shape[0])), shape

    def stream(self) -> ObservedStream:
        """The same, to be read a few at a time while the files are open."""
        frames = self.frames.counted()
        mask = None if self.choice.mask is None else open_mask(self.choice.mask, frames, self._files)
        return ObservedStream(frames, mask, self.has_missing, self.choice)

    @property
    def may_have_weights(self) -> bool:
        """Whether each frame may have weights of its own."""
        return self.has_missing or self.choice.mask is not None

    @property
    def has_missing(self) -> bool:
        """Whether NaN is a pixel that was not observed."""
        return self.choice.nan_missing and self.frames.dtype.kind == "f"


class ObservedStream:
    """Frames to be read a few at a time, and which of their pixels were observed, as `jaxem.stream` takes them.

    Args:
        frames: as the file holds them.
        mask: of all frames (H, W), a source of those of each, or None.
        has_missing: whether NaN is a pixel that was not observed.
        choice: of the person.

    Attributes:
        source: of the pixels.
        weights: those of all frames (H, W), a source of those of each, or None.
    """

    def __init__(
        self, frames: OpenedFrames, mask: np.ndarray | ReadsFrames | None, has_missing: bool, choice: FrameChoice
    ) -> None:
        self.frames, self.choice, self.source = frames, choice, _LastRead(frames)
        self.weights: Any = None
        if has_missing or not (mask is None or isinstance(mask, np.ndarray)):
            self.weights = _SeenSource(self.source, mask, has_missing)
        elif mask is not None and not mask.any():
            raise nothing_left(choice)
        elif mask is not None and not mask.all():
            self.weights = mask.astype(np.float32)

    def note(self, display: Display, how: str, **facts: Any) -> None:
        """What is read, and how, as `note_frames`."""
        notes = [how, *self.frames.notes]
        lines = [f"{describe_frames(self.source)} from {self.choice.source}", *(f"note: {note}" for note in notes)]
        shape, dtype = list(self.source.shape), str(self.source.dtype)
        display.note("frames", *lines, shape=shape, dtype=dtype, notes=notes, **facts)

    def frame(self, number: int) -> np.ndarray:
        """One of the frames, NaN where it was not observed."""
        return self.block(number, number + 1)[0]

    def block(self, start: int, stop: int) -> np.ndarray:
        """Some of the frames, NaN where they were not observed."""
        pixels, weights = self.source.read(start, stop), self.weights
        if weights is not None and not isinstance(weights, np.ndarray):
            weights = weights.read(start, stop)
        return _seen_alone(pixels, weights)

    @property
    def num_observed(self) -> np.ndarray | None:
        """How many pixels of each frame were observed, (K,), of those that were read; None where no frame differs."""
        return self.weights.num_seen if isinstance(self.weights, _SeenSource) else None

    def evenly(self, count: int) -> Observed:
        """So many of the frames, evenly spaced."""
        numbers = np.linspace(0, self.source.shape[0] - 1, count).astype(int).tolist()
        images, weights = np.empty((count, *self.source.shape[1:]), self.source.dtype), self.weights
        if weights is not None and not isinstance(weights, np.ndarray):
            weights = np.empty(images.shape[:3], bool)
        for place, number in enumerate(numbers):
            images[place] = self.source.read(number, number + 1)[0]
            if weights is not self.weights:
                weights[place] = self.weights.read(number, number + 1)[0]
        return self.some(images, weights, numbers)

    def some(self, images: np.ndarray, weights: np.ndarray | None, numbers: Sequence[int]) -> Observed:
        """Some of the frames that were read, and what was observed of them, with their numbers among all.

        Raises:
            FramesError, ArgumentValueError: there is nothing in them.
        """
        part, names = part_of(self.frames, images), self.frames.names
        part = part._replace(
            numbers=[self.frames.numbers[number] for number in numbers],
            names=None if names is None else tuple(names[number] for number in numbers),
        )
        return _observed(part, None if weights is None else weights > 0, self.choice)


class _LastRead:
    """Frames of which those that were read last are kept, for whoever wants to know what was observed of them."""

    def __init__(self, frames: OpenedFrames) -> None:
        self.frames, self.shape, self.dtype = frames, frames.shape, frames.dtype
        self._last: tuple[tuple[int, int], np.ndarray] | None = None

    def read(self, start: int, stop: int) -> np.ndarray:
        last = self._last
        if last is None or last[0] != (start, stop):
            self._last = last = (start, stop), self.frames.read(start, stop)
        return last[1]


class _SeenSource:
    """Which pixels of each frame were observed."""

    def __init__(self, frames: _LastRead, mask: np.ndarray | ReadsFrames | None, has_missing: bool) -> None:
        self.frames, self.mask, self.has_missing = frames, mask, has_missing
        self.shape, self.dtype = frames.shape[:3], np.dtype(bool)
        self.num_seen = np.zeros(frames.shape[0], np.int64)

    def read(self, start: int, stop: int) -> np.ndarray:
        mask = self.mask if self.mask is None or isinstance(self.mask, np.ndarray) else self.mask.read(start, stop)
        seen = _seen(self.frames.read(start, stop), mask, self.has_missing)
        seen = np.broadcast_to(np.bool_(True) if seen is None else seen, (stop - start, *self.shape[1:]))
        self.num_seen[start:stop] = np.count_nonzero(seen, axis=(1, 2))
        return seen


@contextmanager
def open_observed(choice: FrameChoice) -> Iterator[OpenedObserved]:
    """The frames that were asked for, and what of them the mask and missing numbers leave.

    Raises:
        FramesError: the files cannot be used, or a choice cannot be met.
        FileError: there is no mask.
    """
    if choice.mask is not None:
        expect_there(choice.mask, "mask")
    with ExitStack() as files:
        frames = files.enter_context(
            open_frames(
                choice.path,
                crop=choice.crop,
                frames=choice.frames,
                every=choice.every,
                grey=choice.grey or DEFAULT_GREY,
                colour=choice.colour,
                channel=choice.channel,
                nan_missing=choice.nan_missing,
            )
        )
        yield OpenedObserved(frames, choice, files)


def expect_several(num_images: int, choice: FrameChoice, num_processes: int = 1) -> None:
    """Refuse a frame that is alone, or fewer than there are processes.

    Raises:
        FramesError: it is, or they are.
    """
    if num_images < num_processes:
        raise FramesError(f"{choice.source} holds {num_images} frames, too few for {num_processes} processes.")
    if num_images == 1:
        raise FramesError(
            f"{choice.source} is one frame alone, in which nothing tells the template from the background; give "
            f"several, in which it is at different places."
        )


def note_frames(observed: Observed, choice: FrameChoice, display: Display) -> None:
    """What was read, and how."""
    images, weights, part = observed
    words = describe_observed(images, weights, choice.source)
    notes = list(part.notes)
    lines = [words, *(f"note: {note}" for note in notes)]
    display.note("frames", *lines, shape=list(images.shape), dtype=str(images.dtype), notes=notes)


def nothing_left(choice: FrameChoice) -> FramesError | ArgumentValueError:
    """What is said where nothing was observed."""
    if choice.mask is None:
        return FramesError(f"{choice.source} holds nothing but NaN.")
    return ArgumentValueError("mask", f"must leave some pixels, but {choice.mask} leaves none of the frames'.")


def _seen(images: np.ndarray, mask: np.ndarray | None, has_missing: bool) -> np.ndarray | None:
    """Which pixels were observed, (H, W) or (K, H, W); None: all of them."""
    if not has_missing or images.dtype.kind != "f":
        return mask
    there = ~np.isnan(images)
    there = there.all(axis=-1) if there.ndim == 4 else there
    return there if mask is None else there & mask


def _observed(part: Part, seen: np.ndarray | None, choice: FrameChoice) -> Observed:
    if seen is None or seen.all():
        return Observed(part.images, None, part)
    if not seen.any():
        raise nothing_left(choice)
    if seen.ndim == 3 and (seen == seen[:1]).all():
        seen = seen[0]
    return Observed(part.images, seen.astype(np.float32), part)


def _seen_alone(pixels: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """One frame or several, NaN where they were not observed."""
    if weights is None:
        return pixels
    seen = weights > 0
    return np.where(seen[..., None] if pixels.ndim > seen.ndim else seen, pixels, np.nan)
