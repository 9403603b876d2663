"""Frames in TIFF: one in a file, or the pages of one file, ImageJ's and OME's stacks among them."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers.pictures import jpeg_size
from jaxem.io.readers.source import (
    ArraySource,
    FramesError,
    Source,
    check_claim,
    check_memory,
    library,
    nbytes,
    regular_size,
)

UNPACKED, JPEG = 1, 7
CODECS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate", 34925: "LZMA"}
CODECS |= {50000: "zstd", 34926: "zstd"}
"""Of the forms of packing in TIFF those whose unpacked size is known before."""
MINISWHITE, MINISBLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
SMALLEST_PAGE = 2 + 3 * 12 + 4  # bytes: height, width, place


@contextmanager
def open_tiff(path: Path, name: str | None) -> Iterator[Source]:
    """All pages of a TIFF file as frames."""
    size = regular_size(path)
    number, described = check_pages(path, size)
    with library("tifffile", path).TiffFile(path, _multifile=False) as tiff:
        first = _Page.checked(path, tiff.pages.first, size)
        images = _imagej_images(tiff) if number == 1 else 1
        if images > 1 and first.page.is_contiguous:
            shape, dtype = (images, *first.page.shape), first.page.dtype.newbyteorder(tiff.byteorder)
            offset = first.page.dataoffsets[0]
            check_claim(path, nbytes(shape, dtype), size - offset, most_packed=1)
            yield ArraySource(np.memmap(path, dtype, "r", offset, shape), size)
        else:
            yield _Pages(path, tiff, number, first, size, size - described)


def read_single_tiff(path: Path) -> np.ndarray:
    """The pixels of a TIFF file of one page: (H, W), or (H, W, C) in colour."""
    with open_tiff(path, None) as source:
        if source.shape[0] != 1:
            raise FramesError(
                f"{path} holds {source.shape[0]} pages; give that file alone, or split it into files of one frame each."
            )
        return source.read(range(1), slice(None), slice(None))[0]


@dataclass
class _Page:
    page: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: int

    @classmethod
    def checked(cls, path: Path, page: Any, size: int) -> _Page:
        """A page whose pixels are of a kind that can be read, and are there."""
        if page.compression not in CODECS:
            raise FramesError(
                f"{path} cannot be read as an image (packed by method {int(page.compression)}); "
                f"save it uncompressed or with LZW."
            )
        if page.dtype is None or page.ndim not in (2, 3) or page.imagedepth != 1 or not page.chunks:
            raise FramesError(f"{path} cannot be read as an image (no plane of pixels); remove or replace it.")
        channels = page.samplesperpixel
        is_jpeg = page.compression == JPEG
        photometrics = (MINISWHITE, MINISBLACK, RGB, PALETTE) + ((YCBCR,) if is_jpeg else ())
        if channels > 4 or (channels == 2 and page.photometric == RGB):
            raise FramesError(f"{path} must be grey or colour, but has {channels} channels.")
        if channels > 1 and page.photometric not in photometrics:
            raise FramesError(f"{path} must be grey or RGB, but is {getattr(page.photometric, 'name', 'other')}.")
        counts, offsets = page.databytecounts, page.dataoffsets
        if not counts or len(counts) != len(offsets):
            raise FramesError(f"{path} cannot be read as an image (its pixels have no place); replace it.")
        if any(offset + count > size for offset, count in zip(offsets, counts, strict=True)):
            raise FramesError(f"{path} cannot be read as an image (it ends too early); remove or replace it.")
        stored = sum(counts)
        unpacked = page.compression == UNPACKED
        bits = math.prod(page.shape) * page.bitspersample if unpacked and isinstance(page.bitspersample, int) else 0
        check_claim(path, bits // 8, stored, most_packed=1)
        check_claim(path, nbytes(page.shape, page.dtype), 16 * stored if unpacked else stored)
        check_claim(path, nbytes(page.chunks, page.dtype), stored)
        check_memory(path, 3 * max(nbytes(page.shape, page.dtype), nbytes(page.chunks, page.dtype)))
        shape: tuple[int, ...] = (page.imagelength, page.imagewidth)
        dtype = page.dtype
        if page.photometric == PALETTE:
            shape, dtype = (*shape, 3), np.dtype(np.uint16)
        elif channels > 2:
            shape = (*shape, channels)
        return cls(page, shape, np.dtype(np.uint8) if dtype.kind == "b" else dtype, stored)

    def read(self) -> np.ndarray:
        if self.page.compression == JPEG:
            self._check_jpeg()
        pixels = np.asarray(self.page.asarray(maxworkers=1))
        if self.page.photometric == PALETTE:
            colours = np.asarray(self.page.colormap).T
            return colours[pixels]
        if self.page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.ndim == 3 and pixels.shape[-1] < 3:
            pixels = pixels[..., 0]  # the other is transparency
        if pixels.shape != self.shape:
            raise ValueError(f"its shape is {pixels.shape}")
        return pixels.astype(np.uint8) if pixels.dtype == bool else pixels

    def _check_jpeg(self) -> None:
        """A JPEG strip brings its own size, for which the decoder would make room."""
        stream = self.page.parent.filehandle
        height, width = self.page.chunks[:2] if self.page.chunks[0] > 4 or self.page.ndim == 2 else self.page.chunks[1:]
        for offset, count in zip(self.page.dataoffsets, self.page.databytecounts, strict=True):
            if count == 0:
                continue
            stream.seek(offset)
            found = jpeg_size(stream.read(count))
            if found[0] > height or found[1] > width:
                raise ValueError(f"a strip of {height} x {width} holds a JPEG of {found[0]} x {found[1]}")


@dataclass
class _Pages:
    """The pages of a TIFF file as frames of one size and kind."""

    path: Path
    tiff: Any
    number: int
    first: _Page
    size: int
    room: int  # bytes for pixels
    stored: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.number, *self.first.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.first.dtype

    @property
    def stored_bytes(self) -> int:
        return self.size

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        out = None
        for place, number in enumerate(numbers):
            page = _Page.checked(self.path, self.tiff.pages[number], self.size) if number else self.first
            if page.shape != self.first.shape or page.dtype != self.first.dtype:
                raise FramesError(
                    f"{self.path}: pages must be of one size and kind, but page 0 is {self.first.shape} of "
                    f"{self.first.dtype} and page {number} is {page.shape} of {page.dtype}."
                )
            self.stored += page.stored
            check_claim(self.path, self.stored, self.room, most_packed=1)  # else pages share their pixels
            cut = page.read()[rows, columns]
            out = np.empty((len(numbers), *cut.shape), cut.dtype) if out is None else out
            out[place] = cut
        return np.empty((0,)) if out is None else out


def check_pages(path: Path, size: int) -> tuple[int, int]:
    """Follow the chain of pages before the decoder does: how many there are, and how many bytes describe them.

    Raises:
        FramesError: the chain is a circle, leaves the file, or holds what cannot be there.
    """
    seen: set[int] = set()
    described = 0
    with path.open("rb") as stream:
        head = stream.read(16)
        order = "<" if head[:2] == b"II" else ">"
        is_big = struct.unpack(order + "H", head[2:4])[0] == 43
        count_format, tag_format, next_format = ("Q", "HHQQ", "Q") if is_big else ("H", "HHII", "I")
        inline = 8 if is_big else 4
        tag_size = struct.calcsize("=" + tag_format)
        place = struct.unpack_from(order + next_format, head, 8 if is_big else 4)[0]
        while place:
            if place in seen or len(seen) > size // SMALLEST_PAGE:
                raise FramesError(f"{path} cannot be read as an image (its pages form a circle); replace it.")
            seen.add(place)
            stream.seek(place)
            number = struct.unpack(order + count_format, stream.read(struct.calcsize(count_format)))[0]
            if not 1 <= number <= 4096:
                raise FramesError(f"{path} cannot be read as an image (a page has {number} tags); replace it.")
            tags = stream.read(number * tag_size)
            described += len(tags)
            for tag, kind, count, _ in struct.iter_unpack(order + tag_format, tags):
                length = TYPE_SIZES.get(kind, 1) * count
                if length > max(size, inline):
                    raise FramesError(f"{path} cannot be read as an image (tag {tag} is too long); replace it.")
            place = struct.unpack(order + next_format, stream.read(inline))[0]
    if not seen:
        raise FramesError(f"{path} cannot be read as an image (it has no pages); remove or replace it.")
    return len(seen), described


def _imagej_images(tiff: Any) -> int:
    """Frames behind a single page, as ImageJ writes stacks above 4 GB."""
    described = tiff.imagej_metadata if tiff.is_imagej else None
    images = (described or {}).get("images", 1)
    return images if isinstance(images, int) and images > 1 else 1
