"""Frames in MRC stacks, as electron microscopes write them.

Source: the MRC2014 format, and what IMOD and others write beside it: bytes that are unsigned, as a stamp with a flag
or the header's statistics tell; and headers of files that were never finished.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers.source import About, FramesError, Source, library, mapped, nbytes, regular_size
from jaxem.runtime.text import plural

HEADER = 1024  # bytes
EXTENSION = slice(92, 96)  # where the header says how many bytes follow it before the pixels
IMOD_STAMP, IMOD_PLACE, SIGNED = 1146047817, slice(152, 160), 1  # stamp and flags; the flag of signed bytes
USUAL_AXES = (1, 2, 3)  # what columns, rows and sections are: x, y and z
MODES = {3: "complex numbers", 4: "complex numbers", 16: "colours", 101: "numbers of 4 bits"}  # not read here


@contextmanager
def open_mrc(path: Path, name: str | None) -> Iterator[Source]:
    """An MRC file, mapped into memory; a single image is one frame."""
    size = regular_size(path)
    mrcfile, interpreter = library("mrcfile", path), library("mrcfile.mrcinterpreter", path)
    with path.open("rb") as stream:
        head = stream.read(HEADER)
    if len(head) < HEADER:
        raise ValueError("it ends within its header")
    # The library makes room for as long an extension as the header claims, so it gets the header without.
    alone = io.BytesIO(head[: EXTENSION.start] + bytes(4) + head[EXTENSION.stop :])
    # Permissive, for old files have no mark of their kind.
    with interpreter.MrcInterpreter(alone, permissive=True, header_only=True) as mrc:
        header = mrc.header
        if int(header.mode) in MODES:
            raise FramesError(
                f"{path} holds {MODES[int(header.mode)]} (MRC mode {int(header.mode)}), which are not read here; "
                f"convert it to mode 2."
            )
        dtype = mrcfile.utils.data_dtype_from_header(header)
        shape = tuple(int(length) for length in mrcfile.utils.data_shape_from_header(header))
    order = header.mode.dtype.byteorder
    extension = _number(head[EXTENSION], order)
    if extension < 0 or min(shape) < 1:
        raise ValueError("its header holds negative sizes")
    axes = tuple(int(axis) for axis in (header.mapc, header.mapr, header.maps))
    signed, notes = _is_signed(head, header, order) if dtype == np.int8 else (True, ())
    if axes not in (USUAL_AXES, (0, 0, 0)):
        words = ", ".join("xyz"[axis - 1] if axis in USUAL_AXES else "?" for axis in axes)
        notes = (*notes, f"its header calls columns, rows and sections {words}; they are taken as they are stored")
    dtype = dtype if signed else np.dtype(np.uint8)
    shape = (int(np.prod(shape[:-2], dtype=object)), *shape[-2:])
    count, more = _count_frames(path, shape, dtype, size - HEADER - extension)
    yield mapped(path, dtype, HEADER + extension, (count, *shape[1:]), About(notes=(*notes, *more)))


def _is_signed(head: bytes, header: Any, order: Any) -> tuple[bool, tuple[str, ...]]:
    """Whether bytes are signed, as the standard has it, and what is to be said where they are not."""
    stamp, flags = _number(head[IMOD_PLACE][:4], order), _number(head[IMOD_PLACE][4:], order)
    if stamp == IMOD_STAMP:
        return bool(flags & SIGNED), () if flags & SIGNED else ("its bytes are unsigned, as IMOD has marked them",)
    low, high, mean = (float(number) for number in (header.dmin, header.dmax, header.dmean))
    if low >= 0 and high > np.iinfo(np.int8).max and low <= mean <= high:
        return False, (f"its bytes are unsigned: its header tells of values up to {high:g}",)
    return True, ()


def _count_frames(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], stored: int) -> tuple[int, tuple[str, ...]]:
    """How many frames there are by the length of the file, and what is to be said where the header tells of fewer.

    Raises:
        FramesError: bytes are left that are no frames, so that nobody knows where the pixels begin.
    """
    count, frame = shape[0], nbytes(shape[1:], dtype)
    left = stored - count * frame
    if left <= 0:
        return count, ()
    if left % frame:
        raise FramesError(
            f"{path} is {left} bytes longer than its header tells, which are no whole frames; if that is an extended "
            f"header, write its length to bytes 92 to 95."
        )
    total = count + left // frame
    return total, (f"its header tells of {plural(count, 'frame')}, but it holds {total}, and all are taken",)


def _number(data: bytes, order: Any) -> int:
    return int(np.frombuffer(data, np.dtype(np.int32).newbyteorder(order))[0])
