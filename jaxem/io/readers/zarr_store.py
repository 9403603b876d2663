"""Frames in a Zarr array on disk, of version 2 or 3."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.npz import SLACK
from jaxem.io.readers.planes import LabelledSource, labels_of
from jaxem.io.readers.source import (
    MOST_LISTED,
    About,
    ArraySource,
    FramesError,
    Source,
    check_claim,
    library,
    nbytes,
    never_written,
)
from jaxem.io.readers.zarr_metadata import DESCRIPTIONS, describe, levels_of, own_names
from jaxem.runtime.text import listed

CHUNK = re.compile(r"(c[/.])?\d+([./]\d+)*|c")  # the name of a chunk within an array's folder, of either version
CODECS = {"blosc", "zstd", "gzip", "zlib", "lz4", "shuffle", "delta", "crc32c", "crc32", "adler32", "fletcher32"}
CODECS |= {"bytes", "transpose", "sharding_indexed", "fixedscaleoffset", "astype", "packbits", "bitround", "quantize"}
"""Codecs that only compute; among those left out is one that unpickles."""
SIZES_IN_CHUNKS = {"blosc": slice(4, 8), "lz4": slice(0, 4), "gzip": slice(-4, None)}
"""Where a packed chunk says how long it is unpacked."""


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any(os.path.lexists(folder / name) for name in DESCRIPTIONS)


@contextmanager
def open_zarr(path: Path, name: str | None) -> Iterator[Source]:
    """The named array, or the only one of three or four dimensions."""
    folder = _named(path, name) if name else path
    described = describe(folder)
    names: list[Any] = []
    notes: tuple[str, ...] = ()
    if described is None:
        folder, described, names, notes = _only_stack(folder)
    codecs = _check_codecs(path, described)
    files = _chunk_files(folder)
    zarr = library("zarr", path)
    array = zarr.open_array(
        zarr.storage.LocalStore(folder, read_only=True), mode="r", zarr_format=described["zarr_format"]
    )
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "buif":
        raise FramesError(f"{path} must hold real numbers, but holds {dtype}.")
    stored = sum(size for _, size in files)
    chunk = nbytes(array.chunks, dtype)
    check_claim(path, chunk, stored)
    chunks = math.prod(-(-size // max(1, step)) for size, step in zip(array.shape, array.chunks, strict=True))
    if chunks > 10 * len(files) + 10_000:
        raise FramesError(f"{path} is damaged: it claims {chunks} chunks but stores {len(files)}.")
    _check_chunks(path, files, codecs, chunk)
    if len(files) < chunks and "sharding_indexed" not in codecs:
        notes = (*notes, never_written(chunks - len(files), chunks, array.fill_value))
    labels = labels_of(names or own_names(folder, described))
    if labels is None or len(labels) != len(array.shape):
        yield ArraySource(array, stored, About(notes=notes))
    else:
        yield LabelledSource.of(array, labels, stored, *notes)


def _named(path: Path, name: str) -> Path:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise FramesError(f"{path} holds no array {name}.")
    folder = path.joinpath(*parts)
    if not is_zarr(folder):
        raise FramesError(f"{path} holds no array {name}; {_listed(_arrays(path))}.")
    return folder


def _arrays(root: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Every array under a group, by name."""
    found = {}
    for folder, below, _ in os.walk(root):
        described = describe(Path(folder))
        if described is not None:
            below.clear()  # chunks
            found[Path(folder).relative_to(root).as_posix()] = (Path(folder), described)
        below.sort()
    return found


def _only_stack(root: Path) -> tuple[Path, dict[str, Any], list[Any], tuple[str, ...]]:
    """The one array of frames under a group, what its axes are called, and what is to be said of the choice."""
    arrays = _arrays(root)
    levels, names = levels_of(root)
    if levels and levels[0] in arrays:
        notes = (f"the finest of {len(levels)} resolutions is taken, {levels[0]}",) if len(levels) > 1 else ()
        return (*arrays[levels[0]], names, notes)
    stacks = {
        name: array
        for name, array in arrays.items()
        if isinstance(array[1].get("shape"), list) and len(array[1]["shape"]) in (3, 4)
    }
    if len(stacks) != 1:
        raise FramesError(
            f"{root} must hold one stack, or the one to take be named as in {root.name}::name; {_listed(arrays)}."
        )
    return (*next(iter(stacks.values())), [], ())


def _check_codecs(path: Path, described: dict[str, Any]) -> list[str]:
    """The array's codecs, all the way into shards; refuses those that are not known to be harmless."""
    if described["zarr_format"] == 2:
        codecs = [codec for codec in (*(described.get("filters") or ()), described.get("compressor")) if codec]
        names = [str(codec.get("id")) for codec in codecs]
    else:
        names, left = [], list(described.get("codecs") or ())
        while left:
            codec = left.pop(0)
            codec = {"name": codec} if isinstance(codec, str) else codec
            names.append(str(codec.get("name")).removeprefix("numcodecs."))
            settings = codec.get("configuration") or {}
            left += [*(settings.get("codecs") or ()), *(settings.get("index_codecs") or ())]
        if described.get("storage_transformers"):
            names.append("storage_transformers")
    for name in names:
        if name not in CODECS:
            raise FramesError(f"{path} is packed with {name}, which is not read here; use zstd, blosc or gzip.")
    return names


def _chunk_files(folder: Path) -> list[tuple[str, int]]:
    """The chunks of an array with their sizes; pipes and devices among them are refused before they are opened.

    What other programs leave in folders is none of them: no name of theirs is made of numbers alone.
    """
    files = []
    for place, below, names in os.walk(folder):
        for name in (*names, *(name for name in below if os.path.islink(os.path.join(place, name)))):
            file = os.path.join(place, name)
            if not CHUNK.fullmatch(os.path.relpath(file, folder).replace(os.sep, "/")):
                continue
            status = os.lstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise FramesError(f"{file} is not a file; a Zarr array must hold files alone.")
            files.append((file, status.st_size))
    return files


def _check_chunks(path: Path, files: list[tuple[str, int]], codecs: list[str], chunk: int) -> None:
    """Refuse chunks that would unpack to far more than a chunk holds, where the packing has no bound of its own."""
    if "sharding_indexed" in codecs or not codecs:
        return
    outermost = codecs[-1]
    most = 8 * chunk + SLACK  # filters may widen the numbers
    for file, size in files:
        unpacked = size
        if outermost in SIZES_IN_CHUNKS:
            with open(file, "rb") as stream:
                start = stream.read(8)
                stream.seek(-min(4, size), os.SEEK_END)
                unpacked = int.from_bytes((start + stream.read(4))[SIZES_IN_CHUNKS[outermost]], "little")
        elif outermost == "zstd":
            with open(file, "rb") as stream:
                start = stream.read(18)
            unpacked = _zstd_size(start)
            if not unpacked and size <= most:  # the decoder is told where to stop, and raises there
                library("imagecodecs", path).zstd_decode(Path(file).read_bytes(), out=most)
        if max(unpacked, size) > most:
            raise FramesError(f"{path} is damaged: a chunk of {chunk} bytes claims to unpack to {max(unpacked, size)}.")


def _zstd_size(start: bytes) -> int:
    """The length that a zstd frame claims unpacked; 0 where it does not tell."""
    if len(start) < 6 or start[:4] != b"\x28\xb5\x2f\xfd":
        return 0
    flag, single = start[4] >> 6, bool(start[4] & 0x20)
    length = (1 if single else 0, 2, 4, 8)[flag]
    place = 5 + (0 if single else 1) + (0, 1, 2, 4)[start[4] & 3]
    return int.from_bytes(start[place : place + length], "little") + (256 if flag == 1 else 0)


def _listed(arrays: dict[str, Any]) -> str:
    names = [f"{name} {array[1].get('shape')}" for name, array in arrays.items()]
    return f"it holds {listed(names, MOST_LISTED) or 'none'}"
