"""What every reader of frames shares: the protocol, the limits, and the boundary to other people's decoders.

Files come from anywhere. A reader checks what a header claims against what the file stores before anything is
allocated, opens no other file than the one that was named, and never unpickles.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxem.io.npz import MOST_PACKED, SLACK
from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.resources import available_memory
from jaxem.runtime.text import bytes_in_words, one_line

MEMORY_SHARE = 0.6  # of what is free, which frames may take
LONGEST_MESSAGE, LONGEST_REASON = 1000, 160  # characters, of a complaint and of what a decoder says in it
MOST_LISTED = 10  # names in a complaint
NOISY_LOGGERS = ("tifffile", "PIL", "h5py", "zarr", "numcodecs", "mrcfile", "libav", "asyncio")


class FramesError(ArgumentValueError):
    """The frames cannot be used; says which and why, in one line without control characters.

    Args:
        problem: a whole sentence about the files, or what is wrong with another argument in words that follow its name.
        argument: of `read_frames`, whose mistake it is.
    """

    def __init__(self, problem: str, argument: str = "path") -> None:
        super().__init__(argument, one_line(problem, LONGEST_MESSAGE))

    def __str__(self) -> str:
        return self.problem if self.argument == "path" else super().__str__()

    def __reduce__(self) -> tuple[type[FramesError], tuple[str, str]]:
        return type(self), (self.problem, self.argument)  # between processes it is made anew


class Axis(NamedTuple):
    """One of several axes that a file says its frames lie along.

    ======  ========================================================================
    field   meaning
    ======  ========================================================================
    letter  T for times, Z for depths, C for channels, or whatever the file calls it
    size    how many there are
    ======  ========================================================================
    """

    letter: str
    size: int


class About(NamedTuple):
    """What a file says of its frames besides their shape.

    =========  =====================================================================================================
    field      meaning
    =========  =====================================================================================================
    axes       that the frames lie along, the slowest first, of more than one frame each; none where they are simply
               frames
    num_whole  how many frames are there, of a recording that was cut short; None where it was not
    is_colour  whether a last axis of three or four is red, green, blue and opacity, and not channels of other kinds
    notes      what people should be told of how the file was read, sentences
    =========  =====================================================================================================
    """

    axes: tuple[Axis, ...] = ()
    num_whole: int | None = None
    is_colour: bool = True
    notes: tuple[str, ...] = ()


PLAIN = About()


class Source(Protocol):
    """An opened file of frames."""

    @property
    def about(self) -> About:
        """What else the file says; some of it is only known once the frames have been read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, H, W) or (K, H, W, C), by the header; a video may turn out to have fewer frames than K."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""

    @property
    def stored_bytes(self) -> int | None:
        """What the file really holds of these pixels, packed or not; None where that limits nothing."""

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        """The frames of these increasing numbers, cut: (n, h, w) or (n, h, w, C)."""


@dataclass(frozen=True)
class ArraySource:
    """Frames in anything that is sliced like a NumPy array."""

    array: Any
    stored_bytes: int | None
    about: About = PLAIN
    claimed: int | None = None  # frames, where the file was cut short and holds fewer

    @property
    def shape(self) -> tuple[int, ...]:
        shape = tuple(int(size) for size in self.array.shape)
        return shape if self.claimed is None else (self.claimed, *shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype)

    def whole(self) -> np.ndarray:
        """All of it, of whatever shape."""
        return np.asarray(self.array[()])

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        return np.asarray(self.array[numbers.start : numbers.stop : numbers.step, rows, columns])


def mapped(path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], about: About = PLAIN) -> ArraySource:
    """Frames that follow each other in a file, mapped into memory; of a file that was cut short those that are whole.

    Raises:
        FramesError: not one is.
    """
    size = regular_size(path)
    frame = nbytes(shape[1:], dtype)
    whole = min(shape[0], max(0, size - offset) // frame) if len(shape) > 2 else 0
    if whole in (0, *shape[:1]):
        check_claim(path, nbytes(shape, dtype), max(0, size - offset), most_packed=1)
        return ArraySource(np.memmap(path, dtype, "r", offset, shape), size, about)
    pixels = np.memmap(path, dtype, "r", offset, (whole, *shape[1:]))
    return ArraySource(pixels, size, about._replace(num_whole=whole), shape[0])


@contextmanager
def reading(path: Path, complaint: str) -> Iterator[None]:
    """The boundary to other people's decoders: whatever they raise at a damaged file becomes one sentence.

    Args:
        path: what is read.
        complaint: the sentence after the path; ``{}`` in it stands for what the decoder said.
    """
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    before = [(logger.propagate, logger.handlers) for logger in loggers]
    for logger in loggers:
        logger.propagate, logger.handlers = False, [logging.NullHandler()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FramesError:
        raise
    except MemoryError as error:
        raise _too_large(path) from error
    except Exception as error:  # decoders raise whatever they like
        reason = one_line(str(error), LONGEST_REASON).rstrip(".") or type(error).__name__
        raise FramesError(f"{path} {complaint.format(reason)}") from error
    finally:
        for logger, (propagate, handlers) in zip(loggers, before, strict=True):
            logger.propagate, logger.handlers = propagate, handlers


class Guarded:
    """A source whose decoder is other people's: see `reading`, which is for their mistakes and not for the caller's.

    Args:
        source: the source.
        path: its file.
        complaint: what is said of it.
    """

    def __init__(self, source: Any, path: Path, complaint: str) -> None:
        self._source, self._path, self._complaint = source, path, complaint

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._source, name)
        if not callable(value):
            return value

        @functools.wraps(value)
        def guarded(*arguments: Any) -> Any:
            with reading(self._path, self._complaint):
                return value(*arguments)

        return guarded


def library(name: str, path: Path) -> Any:
    """A library that only some files need, imported when one comes: the command line must start fast."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = {"PIL.Image": "pillow"}.get(name, name)
        raise FramesError(f"{path} needs {package}; install it with pip install 'jaxem[app]'.") from error


def regular_size(path: Path) -> int:
    """The size in bytes of a regular file; anything else, such as a pipe, is refused before it is opened.

    Raises:
        FramesError: not there, not a regular file, not readable, or empty.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise cannot_open(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise FramesError(f"{path} is not a file; give the files that hold the frames.")
    if not os.access(path, os.R_OK):
        raise FramesError(f"{path} cannot be opened: Permission denied.")
    if status.st_size == 0:
        raise FramesError(f"{path} cannot be read as frames: the file is empty.")
    return status.st_size


def cannot_open(path: Path, error: OSError | ValueError) -> FramesError:
    """The complaint about a path that the operating system refuses."""
    return FramesError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}.")


def check_claim(path: Path, claimed: int, stored: int, most_packed: int = MOST_PACKED) -> None:
    """Refuse pixels of which the file stores too little for them to be there."""
    if claimed > most_packed * stored + (SLACK if most_packed > 1 else 0):
        raise FramesError(
            f"{path} is damaged: it claims {bytes_in_words(claimed)} of pixels but stores {bytes_in_words(stored)}."
        )


def check_memory(path: Path, needed: int) -> None:
    """Refuse what would fill the machine's memory."""
    available = available_memory()
    if needed > MEMORY_SHARE * available:
        raise FramesError(
            f"{path}: these frames need {bytes_in_words(needed)} of memory, too much of the "
            f"{bytes_in_words(available)} that are free; choose fewer of them or crop them."
        )


def room_for(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array for these frames, if there is room."""
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        raise _too_large(path) from error


def _too_large(path: Path) -> FramesError:
    return FramesError(f"{path} needs more memory than there is; choose fewer frames or crop them.")


def not_finite(pixels: np.ndarray) -> str:
    """What is wrong with pixels that are not all numbers, and what to do."""
    if np.isnan(pixels).any():
        return "holds NaN; --nan-missing takes such pixels for missing"
    return "holds infinite pixels; put finite ones in their place"


def never_written(missing: int, chunks: int, fill: Any) -> str:
    """That parts of an array hold nothing that was measured."""
    return f"{missing} of its {chunks} chunks were never written and read as {fill}"


def nbytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of an array, in whole numbers that do not overflow."""
    return math.prod(int(size) for size in shape) * dtype.itemsize
