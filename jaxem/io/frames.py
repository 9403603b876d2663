"""Frames from files (extra ``app``).

A `FramesError` is a mistake of the person who chose the files, or of one who chose among the frames; its text is one
sentence made to be shown as it is, and its `argument` says which choice it was.
Nothing is ever unpickled, and no other file is opened than those named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.choices import (
    Part,
    check_numbers,
    check_shape,
    check_some,
    check_whole,
    chosen_pixels,
    chosen_range,
    colour_note,
    no_channels,
)
from jaxem.io.pixels import GREYS, Wanted, as_wanted, native
from jaxem.io.places import Paths, locate
from jaxem.io.readers.formats import FramesError, Source, open_files, open_source
from jaxem.io.readers.planes import axis_note, check_axes, with_channels
from jaxem.io.readers.source import check_claim, check_memory, nbytes, room_for
from jaxem.io.rewinding import Rewinding
from jaxem.runtime.mapping import give_back

BLOCK = 2**26  # bytes read at a time

__all__ = ["FramesError", "OpenedFrames", "Part", "open_frames", "part_of", "read_all", "read_frames", "read_part"]


def read_frames(
    path: Paths,
    *,
    crop: Sequence[int] | None = None,
    frames: Sequence[int | None] | None = None,
    every: int = 1,
    grey: str = "luma",
    colour: bool = False,
    channel: int | None = None,
    nan_missing: bool = False,
) -> np.ndarray:
    """Read a stack of frames (K, H, W), or with channels (K, H, W, C).

    Args:
        path: where the frames are, in any of these forms, recognised by content and by suffix only where that tells
            nothing: ``.npy``; ``.npz`` with one array or one named ``images`` or ``frames``, or ``file.npz::name``; a
            folder of PNG, JPEG and TIFF files of one frame each, or a pattern such as ``run/*.png``, taken in the
            natural order of their names (2 before 10); a list of such files; TIFF of several pages; MRC; HDF5, with
            ``file.h5::name`` unless it holds but one dataset of three or four dimensions; Zarr, likewise; a video.
        crop: (row, column, height, width) in pixels of the part of each frame to take; all of it by default.
        frames: (first, last) numbers counted from 0, the last left out, negative from the end, None for the end.
        every: N to take every N-th of those.
        grey: how colour becomes grey: "luma", .299 red + .587 green + .114 blue; "mean" of the three; or one of
            them, "red", "green" or "blue".
        colour: keep the channels instead: red, green and blue, or those of an array (K, H, W, C), whatever they are.
        channel: of several channels that are no colours, or of several that follow each other as frames, the number of
            the one to take, counted from 0.
        nan_missing: let NaN pass, as pixels that were not observed.

    Returns:
        (K, H, W), in the pixel values of the files: grey numbers keep type and scale, as one channel of colour does;
        "luma" and "mean" are float32 on the same scale, except of videos, whose luma is whole numbers of 8 or 16 bits.
        In colour (K, H, W, C), of the type of the files. Transparency, which is the last of four channels, is dropped.

    Raises:
        FramesError: nothing there, not readable, not frames, frames that do not fit together or into memory, or a
            choice that leaves none.

    Example:
        >>> import tempfile, pathlib, numpy as np
        >>> from jaxem.io.frames import read_frames
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stack = pathlib.Path(folder, "stack.npy")
        ...     np.save(stack, np.zeros((3, 10, 12), np.uint8))
        ...     read_frames(stack).shape, read_frames(stack, crop=(2, 3, 4, 5), every=2).shape
        ((3, 10, 12), (2, 4, 5))
    """
    return read_part(
        path, crop=crop, frames=frames, every=every, grey=grey, colour=colour, channel=channel, nan_missing=nan_missing
    ).images


def read_part(path: Paths, **choices: Any) -> Part:
    """`read_frames`, with which part of the file that is."""
    with open_frames(path, **choices) as opened:
        return part_of(opened, read_all(opened))


def part_of(opened: OpenedFrames, images: np.ndarray) -> Part:
    """Frames that were read from what was opened, with which part of it they are."""
    size, names = opened.size, opened.names
    return Part(images, opened.numbers, opened.total, opened.rows, opened.columns, size, names, opened.notes)


@dataclass(frozen=True)
class OpenedFrames:
    """Frames that are read when they are wanted, for `jaxem.stream`.

    Args:
        source: of all frames of the file.
        path: of the file, to complain about.
        wanted: what becomes of the pixels.
        taken: numbers of the frames in the source.
        numbers: theirs in the file, or in the folder.
        total: how many that holds.
        rows: of the file's frames those that are taken.
        columns: likewise.
        names: of the files that hold one frame each.
    """

    source: Source
    path: Path
    wanted: Wanted
    taken: range
    numbers: range
    total: int
    rows: slice
    columns: slice
    names: tuple[str, ...] | None

    @property
    def size(self) -> tuple[int, ...]:
        """(height, width) of the file's frames."""
        return self.source.shape[1:3]

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, H, W) or (K, H, W, C), by what the file says of itself."""
        return (len(self.taken), *self._like.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels, by what the file says of itself."""
        return self._like.dtype

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should be told of how the file is read, as far as it has been, sentences."""
        along = axis_note(self.source, self.taken)
        grey = colour_note(self.source.shape, self.shape, self.wanted.grey)
        return (*self.source.about.notes, *filter(None, [along, grey]))

    def counted(self) -> OpenedFrames:
        """The same with as many frames as there really are, where only decoding a video tells.

        Raises:
            FramesError: there is none of those chosen.
        """
        count = getattr(self.source, "count", None)
        total = self.source.shape[0] if count is None else count()
        num = sum(number < total for number in self.taken) if total < self.source.shape[0] else len(self.taken)
        if not num:
            raise FramesError(f"{self.path} holds no frame of those chosen.")
        if num == len(self.taken):
            return self
        return replace(self, taken=self.taken[:num], numbers=self.numbers[:num], total=total)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop` - 1 of those that are taken, (n, H, W) or (n, H, W, C).

        Raises:
            FramesError: they are not there, or cannot be used.
        """
        numbers = self.taken[start:stop]
        stored = self.as_stored(numbers)
        block = self.as_asked_for(stored, numbers) if len(stored) else stored
        if len(block) < len(numbers):
            raise FramesError(
                f"{self.path} holds fewer frames than it claims, {start + len(block)} of {self.shape[0]}."
            )
        if len(self.source.shape) == 4 and np.can_cast(block.dtype, self.dtype):  # grey ones among others in colour
            block = block.astype(self.dtype, copy=False)
        if block.dtype != self.dtype or block.shape[1:] != self.shape[1:]:
            raise FramesError(f"{self.path} holds frames in colour among grey ones; they can be read at once alone.")
        block = np.array(block)
        give_back(stored)
        return block

    def as_stored(self, numbers: range) -> np.ndarray:
        """Frames of these numbers of the source with all their channels; fewer where a video ends early."""
        return self.source.read(numbers, self.rows, self.columns)

    def as_asked_for(self, block: np.ndarray, numbers: range) -> np.ndarray:
        """The same in grey or in colour, if their numbers can be used."""
        block = as_wanted(block.astype(native(block.dtype), copy=False), self.wanted)
        check_numbers(block, numbers, self.path, self.wanted.nan_missing)
        return block

    def expect_colour(self) -> None:
        """Refuse files of one frame each of which all are grey, where the first is.

        Raises:
            FramesError: they are.
        """
        if not any(self.as_stored(range(number, number + 1)).ndim == 4 for number in self.taken):
            raise no_channels(self.path)

    @property
    def claimed_bytes(self) -> int:
        """Of the pixels as the file holds them."""
        return nbytes((len(self.taken), *self._cut_size, *self.source.shape[3:]), self.source.dtype)

    @property
    def _cut_size(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def _like(self) -> np.ndarray:
        """No frames, of the shape and type of what is read."""
        channels = self.source.shape[3:]
        return as_wanted(np.empty((0, *self._cut_size, *channels), native(self.source.dtype)), self.wanted)


@contextmanager
def open_frames(
    path: Paths,
    *,
    crop: Sequence[int] | None = None,
    frames: Sequence[int | None] | None = None,
    every: int = 1,
    grey: str = "luma",
    colour: bool = False,
    channel: int | None = None,
    nan_missing: bool = False,
) -> Iterator[OpenedFrames]:
    """Frames that do not fit into memory, to be read a few at a time while the file is open.

    Args:
        path: where they are, like all that follows as for `read_frames`.
        crop: the part of each frame to take.
        frames: (first, last).
        every: N to take every N-th.
        grey: how colour becomes grey.
        colour: keep the channels.
        channel: the number of the one to take.
        nan_missing: let NaN pass; `jaxem.stream` takes weights to know which pixels count.

    Returns:
        A context that gives `OpenedFrames`, with ``shape``, ``dtype`` and ``read(start, stop)``.

    Raises:
        FramesError: as `read_frames`, but for what only the pixels tell, which comes when they are read.

    Example:
        >>> import tempfile, pathlib, numpy as np, jaxem
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stack = pathlib.Path(folder, "stack.npy")
        ...     np.save(stack, np.zeros((9, 10, 12), np.uint8))
        ...     with jaxem.io.open_frames(stack, frames=(2, 9)) as source:
        ...         source.shape, source.read(1, 3).shape
        ((7, 10, 12), (2, 10, 12))
    """
    if grey not in GREYS:
        raise FramesError(f"must be one of {', '.join(GREYS)}, but is {grey!r}.", "grey")
    first, last, step = chosen_range(frames, every)
    place, name = locate(path)
    if isinstance(place, Path):
        whole_grey = grey == "luma" and not colour and channel is None
        opened = partial(open_source, place, name, whole_grey=whole_grey, nan_missing=nan_missing)
        chosen, names = None, None
    else:
        place, files = place[0], place[1]
        chosen, in_folder = range(*slice(first, last, step).indices(len(files))), len(files)
        check_some(chosen, len(files), place, frames, every)
        taken = [files[number] for number in chosen]
        opened, names = partial(open_files, taken, nan_missing=nan_missing), tuple(file.name for file in taken)
        first, last, step = None, None, 1
    with Rewinding(opened) as whole_source:
        source = with_channels(whole_source, place, channel, colour)
        total = source.shape[0]
        if hasattr(whole_source, "count") and min(first or 0, last or 0) < 0:  # only decoding tells how many there are
            total = whole_source.count()
        numbers = range(*slice(first, last, step).indices(total))
        shape = check_shape(source, place, colour)
        check_some(numbers, total, place, frames, every)
        check_whole(source, place, numbers, last)
        check_axes(source, place, numbers, colour)
        rows, columns = chosen_pixels(crop, shape[1:3], place)
        wanted = Wanted(grey, colour, nan_missing, source.about.is_colour)
        in_file = (numbers, total) if chosen is None else (chosen, in_folder)
        found = OpenedFrames(source, place, wanted, numbers, *in_file, rows, columns, names)
        if source.stored_bytes is not None:
            check_claim(place, found.claimed_bytes, source.stored_bytes)
        if colour and len(source.shape) == 3:
            found.expect_colour()
        yield found


def read_all(opened: OpenedFrames) -> np.ndarray:
    """All frames, block by block, so that colour needs little more memory than grey."""
    path, source, numbers = opened.path, opened.source, opened.taken
    frame = nbytes(source.shape[1:], source.dtype)
    check_memory(path, nbytes(opened.shape, opened.dtype) + min(BLOCK, opened.claimed_bytes) + frame)
    out = room_for(path, opened.shape, opened.dtype)
    step, done = max(1, BLOCK // frame), 0
    for start in range(0, len(numbers), step):
        some = numbers[start : start + step]
        stored = opened.as_stored(some)
        block = opened.as_asked_for(stored, some)
        if not len(block):
            break
        if block.dtype != out.dtype:  # the first of the files was grey, and this one is in colour
            out = out.astype(np.result_type(out, block))
        out[done : done + len(block)] = block
        give_back(stored)
        done += len(block)
    if not done:
        raise FramesError(f"{path} holds no frame of those chosen.")
    return out if done == len(out) else out[:done].copy()
