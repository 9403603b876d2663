"""Masks that go with frames: which of their pixels count. Imports no JAX."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxem.cli.frame_files import FileError
from jaxem.io.arrays import read_array
from jaxem.io.frames import FramesError, OpenedFrames, Part, open_frames
from jaxem.runtime.errors import ArgumentValueError


class ReadsFrames(Protocol):
    """What gives frames by their numbers: see `jaxem.stream.FrameSource`."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop` - 1."""


class _OpenedMasks:
    """Masks of which each frame has its own, cropped as the frames are."""

    def __init__(self, pictures: OpenedFrames, rows: slice, columns: slice) -> None:
        self.pictures, self.rows, self.columns = pictures, rows, columns

    def read(self, start: int, stop: int) -> np.ndarray:
        whole = np.nan_to_num(self.pictures.read(start, stop), nan=0) != 0
        return whole[:, self.rows, self.columns]


class _ReadMasks:
    """The same, in memory."""

    def __init__(self, masks: np.ndarray) -> None:
        self.masks = masks

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.masks[start:stop]


def like_frames(size: tuple[int, ...], part: Part | OpenedFrames, argument: str, name: object) -> tuple[slice, slice]:
    """Rows and columns of pictures of the whole frames, as the frames were cropped; of cropped ones all.

    Args:
        size: height and width of the pictures.
        part: of the frames.
        argument: to complain about.
        name: of the picture.

    Raises:
        ArgumentValueError: they are neither.
    """
    rows, columns = part.rows, part.columns
    expected = (rows.stop - rows.start, columns.stop - columns.start)
    if size == expected:
        return slice(None), slice(None)
    if size != part.size:
        words = " or ".join(f"{height} x {width}" for height, width in dict.fromkeys((expected, part.size)))
        given = " x ".join(map(str, size))
        raise ArgumentValueError(argument, f"takes pictures as large as the frames, {words}, but {name} is {given}.")
    return rows, columns


def read_mask(path: Path, frames: OpenedFrames, count: int) -> np.ndarray:
    """Which pixels count, (H, W) or (K, H, W)."""
    try:
        mask = np.nan_to_num(read_array(path, grey="mean"), nan=0) != 0
    except FramesError as error:
        raise FileError(error.problem, "mask") from error
    mask = mask.any(axis=-1) if mask.ndim == 4 else mask
    if mask.ndim not in (2, 3):
        shape = "() " if not mask.ndim else mask.shape
        raise ArgumentValueError("mask", f"must be a picture or a stack of them, but {path} has shape {shape}.")
    rows, columns = like_frames(mask.shape[-2:], frames, "mask", path)
    mask = mask[..., rows, columns]
    if mask.ndim == 2 or len(mask) == 1:
        return mask if mask.ndim == 2 else mask[0]
    _expect_as_many(len(mask), count, frames.total, path)
    return mask if len(mask) == count else mask[np.array(frames.numbers)[:count]]


def open_mask(path: Path, frames: OpenedFrames, files: ExitStack) -> np.ndarray | ReadsFrames:
    """The same, of many pictures what gives them when they are wanted."""
    count = frames.shape[0]
    try:
        masks = files.enter_context(open_frames(path, grey="mean", nan_missing=True))
    except FramesError:  # one picture, or an array that is no stack: reading it tells
        masks = None
    if masks is None or masks.shape[0] == 1 or len(masks.shape) != 3:
        mask = read_mask(path, frames, count)
        return mask if mask.ndim == 2 else _ReadMasks(mask)
    _expect_as_many(masks.shape[0], count, frames.total, path)
    rows, columns = like_frames(masks.shape[1:], frames, "mask", path)
    if masks.shape[0] != count:
        numbers = frames.numbers
        chosen = (numbers[0], numbers[-1] + 1)
        masks = files.enter_context(open_frames(path, frames=chosen, every=numbers.step, grey="mean", nan_missing=True))
    return _OpenedMasks(masks, rows, columns)


def _expect_as_many(given: int, count: int, total: int, path: Path) -> None:
    if given not in (count, total):
        words = " or ".join(map(str, dict.fromkeys((1, count, total))))
        raise ArgumentValueError("mask", f"must hold {words} pictures, but {path} holds {given}.")
