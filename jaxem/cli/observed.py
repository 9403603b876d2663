"""Frames that a person has chosen, with what was observed of them: in memory. Imports no JAX."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxem.cli.display import Display
from jaxem.cli.frame_files import FileError, expect_there
from jaxem.cli.requests import FrameChoice
from jaxem.cli.text import describe_observed
from jaxem.io.arrays import read_array
from jaxem.io.frames import FramesError, Part, read_part
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
        frame = self.images[number]
        if self.weights is None:
            return frame
        seen = (self.weights if self.weights.ndim == 2 else self.weights[number]) > 0
        return np.where(seen[..., None] if frame.ndim == 3 else seen, frame, np.nan)


def read_observed(choice: FrameChoice) -> Observed:
    """The same, and what of them the mask and missing numbers leave.

    Raises:
        FramesError: the files cannot be used, or a choice cannot be met.
        FileError, ArgumentValueError: the mask cannot be used.
    """
    if choice.mask is not None:
        expect_there(choice.mask, "mask")
    part = _read_part(choice)
    seen = None if choice.mask is None else _read_mask(choice.mask, part)
    if choice.nan_missing and part.images.dtype.kind == "f":
        there = ~np.isnan(part.images)
        there = there.all(axis=-1) if there.ndim == 4 else there
        seen = there if seen is None else seen & there
    if seen is None or seen.all():
        return Observed(part.images, None, part)
    if not seen.any():
        if choice.mask is None:
            raise FramesError(f"{choice.source} holds nothing but NaN.")
        raise ArgumentValueError("mask", f"must leave some pixels, but {choice.mask} leaves none of the frames'.")
    if seen.ndim == 3 and (seen == seen[:1]).all():
        seen = seen[0]
    return Observed(part.images, seen.astype(np.float32), part)


def expect_several(images: np.ndarray, choice: FrameChoice) -> None:
    """Refuse a frame that is alone.

    Raises:
        FramesError: it is.
    """
    if len(images) == 1:
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


def cut_like_frames(array: np.ndarray, part: Part, argument: str, name: object, *, axis: int = 0) -> np.ndarray:
    """A picture of the whole frames as the frames were cropped; of the cropped ones as it is.

    Args:
        array: whose rows and columns begin at that axis.
        part: of the frames.
        argument: to complain about.
        name: of the picture.
        axis: where its rows are.

    Raises:
        ArgumentValueError: neither.
    """
    size, expected = array.shape[axis : axis + 2], part.images.shape[1:3]
    if size == part.size and size != expected:
        return array[(slice(None),) * axis + (part.rows, part.columns)]
    if size != expected:
        words = " or ".join(f"{height} x {width}" for height, width in dict.fromkeys((expected, part.size)))
        given = " x ".join(map(str, size))
        raise ArgumentValueError(argument, f"takes pictures as large as the frames, {words}, but {name} is {given}.")
    return array


def _read_mask(path: Path, part: Part) -> np.ndarray:
    """Which pixels count, (H, W) or (K, H, W)."""
    try:
        mask = np.nan_to_num(read_array(path, grey="mean"), nan=0) != 0
    except FramesError as error:
        raise FileError(error.problem, "mask") from error
    mask = mask.any(axis=-1) if mask.ndim == 4 else mask
    if mask.ndim not in (2, 3):
        shape = "() " if not mask.ndim else mask.shape
        raise ArgumentValueError("mask", f"must be a picture or a stack of them, but {path} has shape {shape}.")
    if mask.ndim == 2:
        return cut_like_frames(mask, part, "mask", path)
    mask = cut_like_frames(mask, part, "mask", path, axis=1)
    count = len(part.images)
    if len(mask) == 1:
        return mask[0]
    if len(mask) not in (count, part.total):
        words = " or ".join(map(str, dict.fromkeys((1, count, part.total))))
        raise ArgumentValueError("mask", f"must hold {words} pictures, but {path} holds {len(mask)}.")
    return mask if len(mask) == count else mask[np.array(part.numbers)[:count]]


def _read_part(choice: FrameChoice) -> Part:
    return read_part(
        choice.path,
        crop=choice.crop,
        frames=choice.frames,
        every=choice.every,
        grey=choice.grey or DEFAULT_GREY,
        colour=choice.colour,
        channel=choice.channel,
        nan_missing=choice.nan_missing,
    )
