"""Frames in a dataset of an HDF5 file."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers.planes import LabelledSource, labels_of
from jaxem.io.readers.source import (
    About,
    ArraySource,
    FramesError,
    Source,
    check_claim,
    library,
    nbytes,
    never_written,
    regular_size,
)

MOST_LINKS = 32
MOST_OBJECTS = 100_000
FLETCHER32, SUM = 3, 4  # its number, and the bytes of one checksum
BUILT_IN = range(1, 7)
OTHER_FILTERS = {
    307: "bzip2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32019: "JPEG",
    32026: "Blosc2",
}
LONGEST_TEXT = 2**16
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
        _check_filters(h5py, path, dataset, size)
        stored = min(dataset.id.get_storage_size(), size)
        if dataset.chunks is None:
            check_claim(path, nbytes(dataset.shape, dtype), stored, most_packed=1)
        else:
            check_claim(path, nbytes(dataset.chunks, dtype), stored)
        labels, notes = _labels(file, dataset), _missing(dataset)
        if labels is None:
            yield ArraySource(dataset, stored, About(notes=notes))
        else:
            yield LabelledSource.of(dataset, labels, stored, *notes)


def _missing(dataset: Any) -> tuple[str, ...]:
    """What is to be said of chunks that were never written."""
    if dataset.chunks is None:
        return ()
    chunks = math.prod(-(-size // step) for size, step in zip(dataset.shape, dataset.chunks, strict=True))
    missing = chunks - dataset.id.get_num_chunks()
    return (never_written(missing, chunks, dataset.fillvalue),) if missing > 0 else ()


def _labels(file: Any, dataset: Any) -> str | None:
    """Letters of its axes, where the file tells which they are."""
    if "MATLAB_class" in dataset.attrs:  # which counts its axes backwards: (H, W, K) is stored as (K, W, H)
        samples = dataset.ndim == 4 and dataset.shape[1] in (1, 3, 4)
        return {2: "XY", 3: "TXY", 4: "TSXY" if samples else "TCXY"}.get(dataset.ndim)
    if dataset.ndim == 3 and dataset.name.startswith("/Data/Image/") and b"Velox" in _text(file.get("Version")):
        return "YXT"
    names = [dimension.label for dimension in dataset.dims]
    if not all(names):
        names = _names_in(dataset.attrs)
    return labels_of(names) if len(names) == dataset.ndim else None


def _names_in(attributes: Any) -> list[Any]:
    """What ilastik and others call axes."""
    for key in ("axistags", "axes", "dimension_names", "_ARRAY_DIMENSIONS"):
        told = attributes.get(key)
        if isinstance(told, bytes | str):
            text = told.decode() if isinstance(told, bytes) else told
            if key == "axistags":
                return [axis.get("key") for axis in json.loads(text).get("axes", [])]
            return text.split(",") if "," in text else [*text]
        if told is not None and np.ndim(told) == 1:
            return [*told]
    return []


def _text(dataset: Any) -> bytes:
    """The words in a small dataset."""
    if dataset is None or getattr(dataset, "size", 0) > LONGEST_TEXT or not hasattr(dataset, "shape"):
        return b""
    return b" ".join(word if isinstance(word, bytes) else str(word).encode() for word in np.ravel(dataset[()]))


def _check_filters(h5py: Any, path: Path, dataset: Any, size: int) -> None:
    """Refuse what makes HDF5's own decoders read outside their memory where a file is damaged."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    for kind in filters:
        if kind not in BUILT_IN and not h5py.h5z.filter_avail(kind):
            _add_filters()
        if kind not in BUILT_IN and not h5py.h5z.filter_avail(kind):
            by = OTHER_FILTERS.get(kind, f"the filter of number {kind}")
            raise FramesError(
                f"{path}: {dataset.name} is packed with {by}, which HDF5 lacks here; pip install hdf5plugin, or pack "
                f"it anew with h5repack -f GZIP=4."
            )
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


def _add_filters() -> None:
    """Those of a package that few have, if it is there."""
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")


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
