"""Frames in a dataset of an HDF5 file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers.source import ArraySource, FramesError, Source, check_claim, library, nbytes, regular_size

MOST_LINKS = 32
MOST_OBJECTS = 100_000
FLETCHER32, SUM = 3, 4  # its number, and the bytes of one checksum
UNSAFE_FILTERS = {4: "szip", 5: "n-bit", 6: "scale-offset"}


@contextmanager
def open_hdf5(path: Path, name: str | None) -> Iterator[Source]:
    """The named dataset, or the only one of three or four dimensions."""
    size = regular_size(path)
    h5py = library("h5py", path)
    with h5py.File(path, "r", locking=False) as file:
        dataset = _follow(h5py, path, file, name) if name else _only_stack(h5py, path, file)
        if dataset.external or dataset.is_virtual:
            raise FramesError(
                f"{path}: {dataset.name} keeps its pixels in other files, which stay closed; copy them in."
            )
        dtype = np.dtype(dataset.dtype)
        if dtype.kind not in "buif":
            raise FramesError(f"{path}: {dataset.name} must hold real numbers, but holds {dtype}.")
        _check_filters(path, dataset, size)
        stored = min(dataset.id.get_storage_size(), size)
        if dataset.chunks is None:
            check_claim(path, nbytes(dataset.shape, dtype), stored, most_packed=1)
        else:
            check_claim(path, nbytes(dataset.chunks, dtype), stored)
        yield ArraySource(dataset, stored)


def _check_filters(path: Path, dataset: Any, size: int) -> None:
    """Refuse what makes HDF5's own decoders read outside their memory where a file is damaged."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    for kind in filters:
        if kind in UNSAFE_FILTERS:
            name = UNSAFE_FILTERS[kind]
            raise FramesError(f"{path}: {dataset.name} is packed with {name}, which is not read here; use gzip.")
    if dataset.chunks is None:
        return
    if FLETCHER32 in filters[:-1]:
        raise ValueError("its checksums are not those of what is stored")
    shortest = SUM if FLETCHER32 in filters else 0  # a chunk shorter than its checksum is read without end

    def check(chunk: Any) -> None:
        if chunk.size < shortest or chunk.byte_offset + chunk.size > size:
            raise ValueError("a chunk is too short or outside the file")

    dataset.id.chunk_iter(check)


def _only_stack(h5py: Any, path: Path, file: Any) -> Any:
    found: list[str] = []
    seen = 0

    def visit(name: str, member: Any) -> None:
        nonlocal seen
        seen += 1
        if seen > MOST_OBJECTS:
            raise FramesError(f"{path} holds too much to search; name the dataset as in {path.name}::name.")
        if isinstance(member, h5py.Dataset) and member.ndim in (3, 4):
            found.append(name)

    file.visititems(visit)  # follows no link that leads elsewhere
    if len(found) == 1:
        return file[found[0]]
    if not found:
        raise FramesError(f"{path} holds no dataset of three or four dimensions.")
    listed = ", ".join(found[:10]) + (", ..." if len(found) > 10 else "")
    raise FramesError(f"{path} holds several stacks ({listed}); name one as in {path.name}::{found[0]}.")


def _follow(h5py: Any, path: Path, file: Any, name: str) -> Any:
    """The dataset of that name, never through a link into another file."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    place, links, done = file, 0, ""
    while parts:
        part = parts.pop(0)
        done = f"{done}/{part}"
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None  # looks, does not follow
        if isinstance(link, h5py.SoftLink):
            links += 1
            if links > MOST_LINKS:
                raise FramesError(f"{path}: the links at {name} form a circle.")
            parts = [step for step in link.path.split("/") if step not in ("", ".")] + parts
            place = file if link.path.startswith("/") else place
        elif isinstance(link, h5py.HardLink):
            place = place[part]
        elif link is None:
            there = ", ".join(sorted(place)[:10]) if isinstance(place, h5py.Group) else "nothing"
            raise FramesError(f"{path} has no {done}; beside it there is {there or 'nothing'}.")
        else:
            raise FramesError(f"{path}: {done} is a link into another file, which is not opened; name that file.")
    if not isinstance(place, h5py.Dataset):
        raise FramesError(f"{path}: {name} is no dataset; name one in it.")
    return place
