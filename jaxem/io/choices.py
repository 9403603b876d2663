"""Which frames of a file, and which of their pixels, were asked for: what cannot be met is told in one sentence."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxem.io.readers.folder import FolderSource
from jaxem.io.readers.formats import FramesError, Source
from jaxem.io.readers.source import not_finite
from jaxem.runtime.text import plural


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
    numbers: Sequence[int]
    total: int
    rows: slice
    columns: slice
    size: tuple[int, ...]
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def chosen_range(frames: Sequence[int | None] | None, every: int) -> tuple[int | None, int | None, int]:
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


def check_some(numbers: range, total: int, path: Path, frames: Any, every: int) -> None:
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


def check_whole(source: Source, path: Path, numbers: range, last: int | None) -> None:
    """Of a recording that was cut short take what is asked for, if it is there, and nothing if all is."""
    whole = source.about.num_whole
    if whole is not None and (last is None or numbers[-1] >= whole):
        claimed = f", of {source.shape[0]} that it tells of" if source.shape[0] > whole else ""
        them = "it" if whole == 1 else "them"
        are = "is" if whole == 1 else "are"
        raise FramesError(
            f"{path} was cut short: {plural(whole, 'frame')} {are} whole{claimed}; --frames 0:{whole} reads {them}."
        )


def check_shape(source: Source, path: Path, colour: bool) -> tuple[int, ...]:
    shape = source.shape
    if source.dtype.kind not in "buif":
        raise FramesError(f"{path} must hold real numbers, but holds {source.dtype}.")
    if colour and (len(shape) == 3 or shape[-1:] == (1,)) and not isinstance(source, FolderSource):
        raise no_channels(path, shape)
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


def chosen_pixels(crop: Sequence[int] | None, size: tuple[int, ...], path: Path) -> tuple[slice, slice]:
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


def no_channels(path: Path, shape: tuple[int, ...] | None = None) -> FramesError:
    of_shape = "" if shape is None else f", of shape {shape}"
    return FramesError(f"keeps the channels of colour, but {path} is grey{of_shape}; leave it out.", "colour")


def colour_note(before: tuple[int, ...], after: tuple[int, ...], grey: str) -> str | None:
    """That colour becomes grey, or that a channel is left out, which nobody may want; by the shapes of the frames."""
    if before[3:] == (4,) and after[3:] == (3,):
        return "the last of four channels is taken for transparency and left out"
    if len(before) == 4 and before[3] > 1 and len(after) == 3:
        how = "by luma" if grey == "luma" else "as the mean of its channels" if grey == "mean" else f"as its {grey}"
        return f"colour has become grey, {how}; --colour keeps it"
    return None


def check_numbers(block: np.ndarray, numbers: range, path: Path, nan_missing: bool) -> None:
    if block.dtype.kind != "f":
        return
    bad = (np.isinf(block) if nan_missing else ~np.isfinite(block)).reshape(len(block), -1).any(axis=1)
    if bad.any():
        number = numbers[int(bad.argmax())]
        raise FramesError(f"{path}: frame {number} (counted from 0) {not_finite(block[bad.argmax()])}.")
