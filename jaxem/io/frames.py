"""Frames from files (extra ``app``).

A `FramesError` is a mistake of the person who chose the files, or of one who chose among the frames; its text is one
sentence made to be shown as it is, and its `argument` says which choice it was.
Nothing is ever unpickled, and no other file is opened than those named.
"""

from __future__ import annotations

import glob
import operator
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers.folder import frames_in, natural_order
from jaxem.io.readers.formats import ACCEPTED, FramesError, Source, is_zarr, open_files, open_source
from jaxem.io.readers.source import cannot_open, check_claim, check_memory, nbytes

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey pixel (ITU-R BT.601)."""
GREYS = ("luma", "mean", "red", "green", "blue")
BLOCK = 2**26  # bytes read at a time

__all__ = ["FramesError", "read_frames"]


def read_frames(
    path: str | os.PathLike[str],
    *,
    crop: Sequence[int] | None = None,
    frames: Sequence[int | None] | None = None,
    every: int = 1,
    grey: str = "luma",
) -> np.ndarray:
    """Read a stack of frames (K, H, W).

    Args:
        path: where the frames are, in any of these forms, recognised by content and by suffix only where that tells
            nothing: ``.npy``; ``.npz`` with one array or one named ``images`` or ``frames``, or ``file.npz::name``; a
            folder of PNG, JPEG and TIFF files of one frame each, or a pattern such as ``run/*.png``, taken in the
            natural order of their names (2 before 10); TIFF of several pages; MRC; HDF5, with ``file.h5::name``
            unless it holds but one dataset of three or four dimensions; Zarr, likewise; a video.
        crop: (row, column, height, width) in pixels of the part of each frame to take; all of it by default.
        frames: (first, last) numbers counted from 0, the last left out, negative from the end, None for the end.
        every: N to take every N-th of those.
        grey: how colour becomes grey: "luma", .299 red + .587 green + .114 blue; "mean" of the three; or one of
            them, "red", "green" or "blue".

    Returns:
        (K, H, W), in the pixel values of the files: grey numbers keep type and scale, as one channel of colour does;
        "luma" and "mean" are float32 on the same scale, except of videos, whose luma is whole numbers of 8 or 16 bits.
        Transparency is dropped.

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
    if grey not in GREYS:
        raise FramesError(f"must be one of {', '.join(GREYS)}, but is {grey!r}.", "grey")
    first, last, step = _choice(frames, every)
    place, name = _locate(path)
    opened: AbstractContextManager[Source]
    if isinstance(place, Path):
        opened = open_source(place, name, whole_grey=grey == "luma")
    else:
        place, files = place[0], place[1]
        numbers = range(*slice(first, last, step).indices(len(files)))
        _check_some(numbers, len(files), place, frames, every)
        opened, first, last, step = open_files([files[number] for number in numbers]), None, None, 1
    with opened as source:
        total = source.shape[0]
        if hasattr(source, "count") and min(first or 0, last or 0) < 0:  # only decoding tells how many there are
            total = source.count()
        numbers = range(*slice(first, last, step).indices(total))
        shape = _check_shape(source, place)
        _check_some(numbers, total, place, frames, every)
        rows, columns = _cut(crop, shape[1:3], place)
        return _read(source, place, numbers, rows, columns, grey)


def _read(source: Source, path: Path, numbers: range, rows: slice, columns: slice, grey: str) -> np.ndarray:
    """Block by block, so that colour needs little more memory than grey."""
    size = rows.stop - rows.start, columns.stop - columns.start
    claimed = nbytes((len(numbers), *size, *source.shape[3:]), source.dtype)
    if source.stored_bytes is not None:
        check_claim(path, claimed, source.stored_bytes)
    frame = nbytes(source.shape[1:], source.dtype)
    dtype = _grey(np.empty((0, *size, *source.shape[3:]), _native(source.dtype)), grey).dtype
    check_memory(path, nbytes((len(numbers), *size), dtype) + min(BLOCK, claimed) + frame)
    out = np.empty((len(numbers), *size), dtype)
    step, done = max(1, BLOCK // frame), 0
    for start in range(0, len(numbers), step):
        wanted = numbers[start : start + step]
        block = source.read(wanted, rows, columns)
        block = _grey(block.astype(_native(block.dtype), copy=False), grey)
        if not len(block):
            break
        if block.dtype != out.dtype:  # the first of the files was grey, and this one is in colour
            out = out.astype(np.result_type(out, block))
        if block.dtype.kind == "f":
            bad = ~np.isfinite(block).all(axis=(1, 2))
            if bad.any():
                number = wanted[int(bad.argmax())]
                raise FramesError(f"{path}: frame {number} (counted from 0) holds NaN or infinite pixels; mend it.")
        out[done : done + len(block)] = block
        done += len(block)
    if not done:
        raise FramesError(f"{path} holds no frame of those chosen.")
    return out if done == len(out) else out[:done].copy()


def _grey(pixels: np.ndarray, grey: str) -> np.ndarray:
    """Grey of (n, h, w) or (n, h, w, C); equal channels come out as they are, to the bit."""
    if pixels.ndim == 3:
        return pixels
    if pixels.shape[-1] < 3:
        return pixels[..., 0]
    if grey in ("red", "green", "blue"):
        return pixels[..., ("red", "green", "blue").index(grey)]
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    weights = np.array(LUMA if grey == "luma" else (1 / 3, 1 / 3, 1 / 3), np.float32)
    red -= green
    blue -= green
    return green + weights[0] * red + weights[2] * blue


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The same numbers as this machine and JAX know them."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float64) if dtype.kind == "f" and dtype.itemsize > 8 else dtype.newbyteorder("=")


def _locate(path: str | os.PathLike[str]) -> tuple[Any, str | None]:
    """A file or Zarr folder and the name of the array in it, or (place, image files)."""
    text = os.fspath(path)
    place = Path(text)
    name = None
    try:
        exists = place.exists()
        if not exists and not os.path.lexists(place) and "::" in text:
            text, name = text.split("::", 1)
            place = Path(text)
            exists = place.exists()
        if exists and (not place.is_dir() or is_zarr(place)):
            return place, name
        if exists:
            if name is not None:
                raise FramesError(f"{place} holds no arrays with names; leave out ::{name}.")
            files = frames_in(place)
            what = "holds no PNG or TIFF files, nor JPEG; give the folder that holds the frames"
        elif os.path.lexists(place):
            os.stat(place)  # says what is wrong with the link
            raise FramesError(f"{place} cannot be opened.")
        elif glob.has_magic(text):
            files, what = sorted(map(Path, glob.glob(text)), key=natural_order), "matches no files; look at the pattern"
        else:
            raise FramesError(f"{place} does not exist; give {ACCEPTED}.")
    except FramesError:
        raise
    except (OSError, ValueError) as error:
        raise cannot_open(place, error) from error
    if not files:
        raise FramesError(f"{place} {what} itself.")
    return (place, files), None


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
        raise FramesError(
            f"{path} holds {total} frames, and none of them lies in {'' if first is None else first}:"
            f"{'' if last is None else last}; choose frames between 0 and {total}."
        )


def _check_shape(source: Source, path: Path) -> tuple[int, ...]:
    shape = source.shape
    if source.dtype.kind not in "buif":
        raise FramesError(f"{path} must hold real numbers, but holds {source.dtype}.")
    if len(shape) != 3 and not (len(shape) == 4 and shape[-1] in (1, 3, 4)):
        remedy = " Save one frame as frame[None]." if len(shape) == 2 else ""
        raise FramesError(f"{path} must hold a stack (K, H, W), images first, but its shape is {shape}.{remedy}")
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
