"""Frames in TIFF: one in a file, or the pages of one file, ImageJ's and OME's stacks among them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers.pictures import jpeg_size
from jaxem.io.readers.planes import axes_of
from jaxem.io.readers.source import (
    About,
    ArraySource,
    FramesError,
    Source,
    check_claim,
    check_memory,
    library,
    mapped,
    nbytes,
    regular_size,
)
from jaxem.io.readers.tiff_axes import planes_behind, told_axes
from jaxem.io.readers.tiff_chain import Chain, follow
from jaxem.io.readers.turning import turned, turned_size

UNPACKED, JPEG = 1, 7
CODECS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate", 34925: "LZMA"}
CODECS |= {50000: "zstd", 34926: "zstd"}
"""Of the forms of packing in TIFF those whose unpacked size is known before."""
MINISWHITE, MINISBLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
ORIENTATION = 274  # a tag
OPACITY = (1, 2)  # what a sample beside colours is, if it is transparency


@contextmanager
def open_tiff(path: Path, name: str | None) -> Iterator[Source]:
    """All pictures of a TIFF file as frames, along the axes that it tells of."""
    size = regular_size(path)
    chain = follow(path, size)
    if not chain.pictures:
        raise FramesError(f"{path} holds thumbnails and masks alone; give the file of the pictures.")
    # ScanImage's pages it would not read but compute, and lose the last.
    with library("tifffile", path).TiffFile(path, _multifile=False, is_scanimage=False) as tiff:
        first = _Page.checked(path, tiff.pages[chain.pictures[0]], size)
        behind = planes_behind(first.page, tiff) if len(chain.pictures) == 1 else 1
        if size - first.page.dataoffsets[0] < 2 * first.stored:  # a description that was copied along
            behind = 1
        if behind > 1:
            source = _behind_one_page(path, tiff, first, behind)
            if chain.is_cut and source.about.num_whole is None:
                source = replace(source, about=source.about._replace(num_whole=behind))
            yield source
        else:
            numbers, is_cut = _whole_pages(path, tiff, chain, size)
            about = _about(tiff, first, len(numbers), chain)
            about = about._replace(num_whole=len(numbers) if is_cut else None)
            yield _Pages(path, tiff, numbers, first, size, size - chain.described, about)


def read_single_tiff(path: Path) -> tuple[np.ndarray, About]:
    """The pixels of a TIFF file of one page, (H, W) or (H, W, C), and what it says of them."""
    with open_tiff(path, None) as source:
        if source.shape[0] != 1:
            raise FramesError(
                f"{path} holds {source.shape[0]} pages; give that file alone, or split it into files of one frame each."
            )
        return source.read(range(1), slice(None), slice(None))[0], source.about


def _about(tiff: Any, first: _Page, num_planes: int, chain: Chain) -> About:
    """What is said of the frames, and what is to be said of them."""
    axes, odd = axes_of(told_axes(first.page, tiff), num_planes)
    left_out = len(chain.kinds) - len(chain.pictures)
    notes = [odd] if odd else []
    notes += [f"{left_out} of its pages are thumbnails or masks and are left out"] if left_out else []
    notes += ["its frames are turned as it says"] if first.orientation > 1 else []
    return About(axes, None, first.is_colour, tuple(notes))


def _behind_one_page(path: Path, tiff: Any, first: _Page, planes: int) -> ArraySource:
    """Frames that follow each other without pages of their own."""
    page = first.page
    is_plain = page.is_contiguous and page.compression == UNPACKED and page.axes in ("YX", "YXS")
    if not is_plain or first.orientation > 1 or _has_palette(page):
        raise FramesError(
            f"{path} holds {planes} planes behind one page that are packed, turned or apart by colours, which is not "
            f"read here; save a page for each frame."
        )
    axes, odd = axes_of(told_axes(page, tiff), planes)
    about = About(axes, None, first.is_colour, (odd,) if odd else ())
    return mapped(path, page.dtype.newbyteorder(tiff.byteorder), page.dataoffsets[0], (planes, *page.shape), about)


def _whole_pages(path: Path, tiff: Any, chain: Chain, size: int) -> tuple[list[int], bool]:
    """The pages whose pixels are in the file, and whether others are not: those that were written last."""
    numbers = chain.pictures
    whole = len(numbers)
    while whole > 1 and not _Page.is_whole(tiff.pages[numbers[whole - 1]], size):
        whole -= 1
    return numbers[:whole], chain.is_cut or whole < len(numbers)


@dataclass
class _Page:
    page: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: int
    orientation: int  # as EXIF counts them

    @property
    def is_colour(self) -> bool:
        """Whether the samples of a pixel are red, green and blue."""
        return self.page.samplesperpixel == 1 or self.page.photometric in (RGB, YCBCR, PALETTE)

    @staticmethod
    def is_whole(page: Any, size: int) -> bool:
        """Whether all pixels are in the file."""
        counts, offsets = page.databytecounts, page.dataoffsets
        return all(offset + count <= size for offset, count in zip(offsets, counts, strict=False))

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
        if channels == 2 and page.photometric == RGB:
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
        orientation = int(page.tags.valueof(ORIENTATION, default=1) or 1)
        shape: tuple[int, ...] = turned_size((page.imagelength, page.imagewidth), orientation)
        dtype = page.dtype
        if _has_palette(page):
            shape, dtype = (*shape, 3), np.dtype(np.uint16)
        elif channels > 2 or (channels == 2 and not _has_opacity(page)):
            shape = (*shape, channels)
        return cls(page, shape, np.dtype(np.uint8) if dtype.kind == "b" else dtype, stored, orientation)

    def read(self) -> np.ndarray:
        if self.page.compression == JPEG:
            self._check_jpeg()
        pixels = np.asarray(self.page.asarray(maxworkers=1))
        if self.page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        if _has_palette(self.page):
            pixels = np.asarray(self.page.colormap).T[pixels]
        if pixels.ndim == 3 and len(self.shape) == 2:
            pixels = pixels[..., 0]  # the other is transparency
        pixels = turned(pixels, self.orientation)
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
    pages: list[int]  # of the frames
    first: _Page
    size: int
    room: int  # bytes for pixels
    about: About
    stored: int = 0  # bytes of pixels, of the frames that were read
    counted: set[int] = field(default_factory=set)  # which these are

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.pages), *self.first.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.first.dtype

    @property
    def stored_bytes(self) -> int:
        return self.size

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        out = None
        for place, number in enumerate(numbers):
            page = self.first
            if number:
                page = _Page.checked(self.path, self.tiff.pages[self.pages[number]], self.size)
            if page.page.photometric != self.first.page.photometric or page.orientation != self.first.orientation:
                raise FramesError(f"{self.path}: page {number} is stored otherwise than page 0; save them alike.")
            if page.shape != self.first.shape or page.dtype != self.first.dtype:
                raise FramesError(
                    f"{self.path}: pages must be of one size and kind, but page 0 is {self.first.shape} of "
                    f"{self.first.dtype} and page {number} is {page.shape} of {page.dtype}."
                )
            if number not in self.counted:
                self.counted.add(number)
                self.stored += page.stored
            check_claim(self.path, self.stored, self.room, most_packed=1)  # else pages share their pixels
            cut = page.read()[rows, columns]
            out = np.empty((len(numbers), *cut.shape), cut.dtype) if out is None else out
            out[place] = cut
        return np.empty((0,)) if out is None else out


def _has_palette(page: Any) -> bool:
    """Whether numbers stand for colours; ImageJ keeps there how it shows numbers that are what was measured."""
    return page.photometric == PALETTE and not page.parent.is_imagej


def _has_opacity(page: Any) -> bool:
    """Whether the last sample of a pixel says how transparent it is."""
    return any(kind in OPACITY for kind in page.extrasamples)
