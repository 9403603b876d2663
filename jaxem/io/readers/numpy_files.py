"""Frames in NumPy's ``.npy`` and ``.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxem.io.npz import MOST_PACKED, read_header
from jaxem.io.readers.source import (
    MOST_LISTED,
    PLAIN,
    About,
    ArraySource,
    FramesError,
    Source,
    check_claim,
    check_memory,
    mapped,
    nbytes,
    regular_size,
)
from jaxem.runtime.text import listed

LARGEST_DIRECTORY = 16 * 2**20  # bytes: some 200 000 members, more than anybody's archive of arrays
SKIP = 2**20
RESULT = "jaxem"  # an array that every result has, and no stack of frames


@contextmanager
def open_npy(path: Path, name: str | None) -> Iterator[Source]:
    """An ``.npy`` file, mapped into memory."""
    size = regular_size(path)
    with path.open("rb") as stream:
        shape, is_fortran, dtype = _read_header(stream, path)
        offset = stream.tell()
    if 0 in shape:
        yield ArraySource(np.empty(shape, dtype), size)
    elif is_fortran:
        check_claim(path, nbytes(shape, dtype), size - offset, most_packed=1)
        yield ArraySource(np.memmap(path, dtype, "r", offset, shape, "F"), size)
    else:
        yield mapped(path, dtype, offset, shape)


@contextmanager
def open_npz(path: Path, name: str | None) -> Iterator[Source]:
    """One member of an ``.npz`` archive, unpacked no further than it is asked for."""
    size = regular_size(path)
    _check_directory(path, size)
    with zipfile.ZipFile(path) as archive:
        info = _choose_member(path, archive, name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FramesError(f"{path} is packed in a way that NumPy does not use; save it with numpy.savez.")
        stored = info.compress_size
        if stored > size:
            raise ValueError(f"{info.filename} claims to be longer than the file")
        check_claim(path, info.file_size, stored, 1 if info.compress_type == zipfile.ZIP_STORED else MOST_PACKED)
        with archive.open(info) as stream:
            shape, is_fortran, dtype = _read_header(stream, path)
            offset = stream.tell()
            if nbytes(shape, dtype) != info.file_size - offset:
                raise FramesError(
                    f"{path} is damaged or no array of numbers: {info.filename} claims the shape {shape}, "
                    f"which is not what it holds."
                )
            if is_fortran:
                check_memory(path, info.file_size)
                flat = np.frombuffer(stream.read(), dtype)
                yield ArraySource(flat.reshape(shape, order="F"), stored)
            else:
                yield _Member(stream, shape, dtype, stored)


@dataclass
class _Member:
    """An array in C order inside an archive, read forwards."""

    stream: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored_bytes: int
    about: About = PLAIN
    position: int = field(default=0)  # number of the frame at which the stream stands

    def whole(self) -> np.ndarray:
        """All of it, of whatever shape."""
        data = self.stream.read()  # at its end the member's checksum is compared
        if len(data) < nbytes(self.shape, self.dtype):
            raise EOFError("the archive ends too early")
        return np.frombuffer(data, self.dtype).reshape(self.shape)

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        size = nbytes(self.shape[1:], self.dtype)
        frames = []
        for number in numbers:
            self._skip((number - self.position) * size)
            data = self.stream.read(size)
            if len(data) < size:
                raise EOFError("the archive ends too early")
            frame = np.frombuffer(data, self.dtype).reshape(self.shape[1:])
            frames.append(frame[rows, columns].copy())
            self.position = number + 1
        if self.position == self.shape[0]:
            self.stream.read(1)  # at its end the member's checksum is compared
        return np.stack(frames)

    def _skip(self, size: int) -> None:
        while size > 0:
            skipped = len(self.stream.read(min(size, SKIP)))
            if not skipped:
                raise EOFError("the archive ends too early")
            size -= skipped


def _read_header(stream: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    shape, is_fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise FramesError(f"{path} is damaged or no array of numbers: it holds Python objects; save numbers instead.")
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, is_fortran, dtype


def _choose_member(path: Path, archive: zipfile.ZipFile, name: str | None) -> zipfile.ZipInfo:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if name is not None:
        if name.removesuffix(".npy") not in members:
            raise FramesError(f"{path} has no array {name}; it holds {listed([*members], MOST_LISTED) or 'none'}.")
        return members[name.removesuffix(".npy")]
    names: list[str] = [name for name in ("images", "frames") if name in members] or [*members]
    if RESULT in members and len(names) != 1:
        raise FramesError(
            f"{path} is a result and holds no frames; give the frames themselves, or draw the result with jaxem plot."
        )
    if len(names) != 1:
        there = listed(names, MOST_LISTED) or "none"
        raise FramesError(
            f"{path} must hold one array or one named 'images' or 'frames', but holds {there}; "
            f"name the array as in {path.name}::name."
        )
    return members[names[0]]


def _check_directory(path: Path, size: int) -> None:
    """Refuse an archive whose list of members alone would fill memory."""
    with path.open("rb") as stream:
        stream.seek(max(0, size - 2**16 - 22))
        tail = stream.read()
    end = tail.rfind(b"PK\5\6")
    if end >= 0 and int.from_bytes(tail[end + 12 : end + 16], "little") > LARGEST_DIRECTORY:
        raise FramesError(f"{path} is damaged or no array of numbers: its list of members is too long.")
