"""Arrays out of an ``.npz`` file that may come from anywhere: nothing is unpickled, and no claim believed."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxem.runtime.resources import available_memory

MOST_PACKED = 1100
"""Bytes that a stored byte can stand for: deflate packs 1030, and what packs better holds nothing to fit."""
SLACK = 2**20
MOST_MEMBERS = 1000


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays in an ``.npz`` file, each held against what the file stores before it is unpacked.

    Raises:
        ValueError: damaged, or no archive of arrays of numbers and text.
        OSError: not there, or not to be opened.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a file; give the .npz file of a result.")
    with path.open("rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                _check_members(members, status.st_size)
                return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
        except Exception as error:  # damaged archives make zipfile and NumPy raise whatever they like
            reason = " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__
            if isinstance(error, zipfile.BadZipFile) and not _begins_with(stream, b"PK"):
                raise ValueError(
                    f"{path} is no result; give the result.npz of jaxem fit, or what jaxem.save wrote."
                ) from error
            raise ValueError(f"{path} is damaged ({reason}); give a result that jaxem saved.") from error


def _begins_with(stream: IO[bytes], magic: bytes) -> bool:
    """Whether a file begins so."""
    stream.seek(0)
    return stream.read(len(magic)) == magic


def _check_members(members: list[zipfile.ZipInfo], stored: int) -> None:
    if len(members) > MOST_MEMBERS or len({member.filename for member in members}) < len(members):
        raise ValueError("its list of arrays is not one that NumPy writes")
    claimed = sum(member.file_size for member in members)
    if claimed > MOST_PACKED * stored + SLACK:
        raise ValueError("it claims more than it stores")
    if claimed > available_memory():
        raise ValueError("there is not enough memory for it")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        shape, is_fortran, dtype = read_header(stream)
        data = stream.read()  # at its end the checksum is compared
    count = int(np.prod(shape, dtype=object))
    if dtype.hasobject or dtype.kind not in "biufU" or min(shape, default=0) < 0:
        raise ValueError(f"{member.filename} holds {dtype} of shape {shape} and not numbers")
    if count * dtype.itemsize != len(data):
        raise ValueError(f"{member.filename} claims the shape {shape}, which is not what it stores")
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if is_fortran else "C")


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and dtype, as an ``.npy`` file begins."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)
