"""Frames in MRC stacks, as electron microscopes write them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jaxem.io.readers.source import ArraySource, Source, check_claim, library, nbytes, regular_size

HEADER = 1024  # bytes
EXTENSION = slice(92, 96)  # where the header says how many bytes follow it before the pixels


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
        dtype = mrcfile.utils.data_dtype_from_header(mrc.header)
        shape = tuple(int(length) for length in mrcfile.utils.data_shape_from_header(mrc.header))
        order = mrc.header.mode.dtype.byteorder
    extension = int(np.frombuffer(head[EXTENSION], np.dtype(np.int32).newbyteorder(order))[0])
    if extension < 0 or min(shape) < 1:
        raise ValueError("its header holds negative sizes")
    offset = HEADER + extension
    check_claim(path, nbytes(shape, dtype), max(0, size - offset), most_packed=1)
    frames = np.memmap(path, dtype, "r", offset, shape)
    yield ArraySource(frames.reshape(-1, *shape[-2:]), size)
