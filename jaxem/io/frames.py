"""Frames from files (extra ``app``).

A `FramesError` is a mistake of the person who chose the files, or of one who chose among the frames; its text is one
sentence made to be shown as it is, and its `argument` says which choice it was.
Nothing is ever unpickled, and no other file is opened than those named.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxem.io.pixels import GREYS, Wanted, as_wanted, native
from jaxem.io.places import Paths, locate
from jaxem.io.readers.folder import FolderSource
from jaxem.io.readers.formats import FramesError, Source, open_files, open_source
from jaxem.io.readers.planes import axis_note, check_axes, with_channels
from jaxem.io.readers.source import check_claim, check_memory, nbytes, not_finite
from jaxem.runtime.text import plural

BLOCK = 2**26  # bytes read at a time

__all__ = ["FramesError", "Part", "read_frames", "read_part"]


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


class Part(NamedTuple):
    """Frames that were read, and which part of the file they are.

    =======  ==================================================================
    field    meaning
    =======  ==================================================================
    images   the frames
    numbers  theirs in the file
    total    how many frames the file holds
    rows     of the file's frames those that were taken
    columns  likewise
    size     (height, width) of the file's frames
    names    of the files that hold one frame each, those of these frames
    notes    what people should be told of how the file was read, sentences
    =======  ==================================================================
    """

    images: np.ndarray
    numbers: range
    total: int
    rows: slice
    columns: slice
    size: tuple[int, ...]
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def read_part(
    path: Paths,
    *,
    crop: Sequence[int] | None = None,
    frames: Sequence[int | None] | None = None,
    every: int = 1,
    grey: str = "luma",
    colour: bool = False,
    channel: int | None = None,
    nan_missing: bool = False,
) -> Part:
    """`read_frames`, with which part of the file that is."""
    if grey not in GREYS:
        raise FramesError(f"must be one of {', '.join(GREYS)}, but is {grey!r}.", "grey")
    first, last, step = _choice(frames, every)
    place, name = locate(path)
    opened: AbstractContextManager[Source]
    if isinstance(place, Path):
        whole_grey = grey == "luma" and not colour and channel is None
        opened = open_source(place, name, whole_grey=whole_grey, nan_missing=nan_missing)
        chosen, names = None, None
    else:
        place, files = place[0], place[1]
        chosen, in_folder = range(*slice(first, last, step).indices(len(files))), len(files)
        _check_some(chosen, len(files), place, frames, every)
        taken = [files[number] for number in chosen]
        opened, names = open_files(taken, nan_missing=nan_missing), tuple(file.name for file in taken)
        first, last, step = None, None, 1
    with opened as whole_source:
        source = with_channels(whole_source, place, channel, colour)
        total = source.shape[0]
        if hasattr(whole_source, "count") and min(first or 0, last or 0) < 0:  # only decoding tells how many there are
            total = whole_source.count()
        numbers = range(*slice(first, last, step).indices(total))
        shape = _check_shape(source, place, colour)
        _check_some(numbers, total, place, frames, every)
        _check_whole(source, place, numbers, last)
        check_axes(source, place, numbers, colour)
        rows, columns = _cut(crop, shape[1:3], place)
        wanted = Wanted(grey, colour, nan_missing, source.about.is_colour)
        images = _read(source, place, numbers, rows, columns, wanted)
        notes = (*source.about.notes, *filter(None, [axis_note(source, numbers), _colour_note(source, images, grey)]))
    if chosen is not None:
        numbers, total = chosen, in_folder
    return Part(images, numbers, total, rows, columns, shape[1:3], names, notes)


def _check_whole(source: Source, path: Path, numbers: range, last: int | None) -> None:
    """Of a recording that was cut short take what is asked for, if it is there, and nothing if all is."""
    whole = source.about.num_whole
    if whole is not None and (last is None or numbers[-1] >= whole):
        claimed = f", of {source.shape[0]} that it tells of" if source.shape[0] > whole else ""
        them = "it" if whole == 1 else "them"
        are = "is" if whole == 1 else "are"
        raise FramesError(
            f"{path} was cut short: {plural(whole, 'frame')} {are} whole{claimed}; --frames 0:{whole} reads {them}."
        )


def _colour_note(source: Source, images: np.ndarray, grey: str) -> str | None:
    """That colour has become grey, or that a channel was left out, which nobody may want."""
    if source.shape[3:] == (4,) and images.shape[3:] == (3,):
        return "the last of four channels is taken for transparency and left out"
    if len(source.shape) == 4 and source.shape[3] > 1 and images.ndim == 3:
        how = "by luma" if grey == "luma" else "as the mean of its channels" if grey == "mean" else f"as its {grey}"
        return f"colour has become grey, {how}; --colour keeps it"
    return None


def _read(source: Source, path: Path, numbers: range, rows: slice, columns: slice, wanted: Wanted) -> np.ndarray:
    """Block by block, so that colour needs little more memory than grey."""
    size = rows.stop - rows.start, columns.stop - columns.start
    claimed = nbytes((len(numbers), *size, *source.shape[3:]), source.dtype)
    if source.stored_bytes is not None:
        check_claim(path, claimed, source.stored_bytes)
    frame = nbytes(source.shape[1:], source.dtype)
    like = as_wanted(np.empty((0, *size, *source.shape[3:]), native(source.dtype)), wanted)
    shape = (len(numbers), *like.shape[1:])
    check_memory(path, nbytes(shape, like.dtype) + min(BLOCK, claimed) + frame)
    out = np.empty(shape, like.dtype)
    step, done, has_channels = max(1, BLOCK // frame), 0, False
    for start in range(0, len(numbers), step):
        some = numbers[start : start + step]
        block = source.read(some, rows, columns)
        has_channels = has_channels or block.ndim == 4
        block = as_wanted(block.astype(native(block.dtype), copy=False), wanted)
        if not len(block):
            break
        if block.dtype != out.dtype:  # the first of the files was grey, and this one is in colour
            out = out.astype(np.result_type(out, block))
        _check_numbers(block, some, path, wanted.nan_missing)
        out[done : done + len(block)] = block
        done += len(block)
    if not done:
        raise FramesError(f"{path} holds no frame of those chosen.")
    if wanted.colour and not has_channels:
        raise _no_channels(path)
    return out if done == len(out) else out[:done].copy()


def _check_numbers(block: np.ndarray, numbers: range, path: Path, nan_missing: bool) -> None:
    if block.dtype.kind != "f":
        return
    bad = (np.isinf(block) if nan_missing else ~np.isfinite(block)).reshape(len(block), -1).any(axis=1)
    if bad.any():
        number = numbers[int(bad.argmax())]
        raise FramesError(f"{path}: frame {number} (counted from 0) {not_finite(block[bad.argmax()])}.")


def _no_channels(path: Path, shape: tuple[int, ...] | None = None) -> FramesError:
    of_shape = "" if shape is None else f", of shape {shape}"
    return FramesError(f"keeps the channels of colour, but {path} is grey{of_shape}; leave it out.", "colour")


def _choice(frames: Sequence[int | None] | None, every: int) -> tuple[int | None, int | None, int]:
    try:
        first, last = (None, None) if frames is None else frames
        ends = [None if end is None else operator.index(end) for end in (first, last)]
    except (TypeError, ValueError):
        raise FramesError(f"must be two whole numbers or None, (first, last), but are {frames!r}.", "frames") from None
    try:
        step = operator.index(every)
    except TypeError:
        step = 0
    if step < 1:
        raise FramesError(f"must be a whole number of at least 1, but is {every!r}.", "every")
    return ends[0], ends[1], step


def _check_some(numbers: range, total: int, path: Path, frames: Any, every: int) -> None:
    if total and not numbers:
        first, last = frames or (None, None)
        if first is not None and last == first + 1:
            raise FramesError(f"is {first}, but {path} holds {total} frames; choose 0 to {total - 1}.", "frames")
        ends = ":".join("" if end is None else str(end) for end in (first, last))
        raise FramesError(
            f"{ends} takes none of the {total} frames of {path}, numbered 0 to {total - 1}; 0:{total} would take all, "
            f"the second number being one past the last.",
            "frames",
        )


def _check_shape(source: Source, path: Path, colour: bool) -> tuple[int, ...]:
    shape = source.shape
    if source.dtype.kind not in "buif":
        raise FramesError(f"{path} must hold real numbers, but holds {source.dtype}.")
    if colour and (len(shape) == 3 or shape[-1:] == (1,)) and not isinstance(source, FolderSource):
        raise _no_channels(path, shape)
    if len(shape) not in (3, 4):
        if len(shape) == 2:
            raise FramesError(
                f"{path} has shape {shape}, and several frames (K, H, W) are needed. If these are {shape[0]} signals "
                f"of length {shape[1]}, save x[:, None, :] and take a template of height 1; one frame for locate is "
                f"x[None]."
            )
        raise FramesError(f"{path} must hold a stack (K, H, W), images first, but its shape is {shape}.")
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > shape[2] and not isinstance(source, FolderSource):
        raise FramesError(
            f"{path}, of shape {shape}, looks like one colour picture; give a stack of several, (K, H, W, {shape[2]}). "
            f"If it is {shape[0]} frames of {shape[1]} x {shape[2]}, save the array x as x[..., None]."
        )
    if 0 in shape:
        raise FramesError(f"{path} holds no pixels: its shape is {shape}.")
    return shape


def _cut(crop: Sequence[int] | None, size: tuple[int, ...], path: Path) -> tuple[slice, slice]:
    if crop is None:
        return slice(0, size[0]), slice(0, size[1])
    try:
        row, column, height, width = (operator.index(number) for number in crop)
    except (TypeError, ValueError):
        problem = f"must be four whole numbers (row, column, height, width), but is {crop!r}."
        raise FramesError(problem, "crop") from None
    if min(row, column) < 0 or min(height, width) < 1 or row + height > size[0] or column + width > size[1]:
        raise FramesError(
            f"must lie within the frames of {path}, {size[0]} x {size[1]}, but takes {height} x {width} pixels from "
            f"row {row}, column {column}.",
            "crop",
        )
    return slice(row, row + height), slice(column, column + width)
