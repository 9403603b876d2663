"""Pictures in PNG, JPEG, WebP, BMP and Netpbm's formats: one in a file, or several, as in animations."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers import pnm
from jaxem.io.readers.source import About, FramesError, check_claim, check_memory, library, regular_size
from jaxem.io.readers.turning import turned, turned_size

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "LA", "La")
COLOUR_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA")
ORIENTATION = 274  # of EXIF's tags
TRANSPARENT = "transparency is left out; --mask FILE says which pixels count"
SMALL_PICTURE = 64 * 2**20
"""Bytes of pixels that even the shortest file may have, of a kind of packing that has no bound."""


@dataclass(frozen=True)
class Picture:
    """What a file of pictures holds.

    Args:
        pixels: (H, W), or (H, W, 3) in colour, of the first.
        count: how many there are.
        read: gives another by its number.
        notes: what is to be said of how they were read.
    """

    pixels: np.ndarray
    count: int
    read: Callable[[int], np.ndarray]
    notes: tuple[str, ...]


def is_webp(start: bytes) -> bool:
    """Whether a file that begins like this is one."""
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def open_picture(path: Path) -> Picture | None:
    """The pictures in a file, recognised by its content; None where it is none of these kinds.

    Raises:
        FramesError, ValueError: damaged, or nothing that can be read without loss.
    """
    check_memory(path, regular_size(path))
    data = path.read_bytes()
    if data.startswith(pnm.MAGIC) and data[2:3].isspace():
        pictures = pnm.read_pnm(data)
        return Picture(pictures[0], len(pictures), pictures.__getitem__, ())
    for form, recognises, check in FORMS:
        if recognises(data):
            check(path, data)
            return _decode(path, data, form)
    return None


@dataclass
class PicturesSource:
    """Pictures of one size in one file as frames."""

    path: Path
    picture: Picture
    stored_bytes: int | None = None  # what moves little packs without bound

    @property
    def about(self) -> About:
        return About(notes=self.picture.notes)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.picture.count, *self.picture.pixels.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.picture.pixels.dtype

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        frames = []
        for number in numbers:
            pixels = self.picture.read(number)
            if pixels.shape != self.picture.pixels.shape or pixels.dtype != self.dtype:
                raise FramesError(
                    f"{self.path}: pictures must be of one size and kind, but picture 0 is "
                    f"{self.picture.pixels.shape} and picture {number} is {pixels.shape}."
                )
            frames.append(pixels[rows, columns])
        return np.stack(frames)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width by the header of a JPEG stream.

    Raises:
        ValueError: there is none.
    """
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = data[place + 5 : place + 7], data[place + 7 : place + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        has_length = marker not in (0xFF, 0x01) and not 0xD0 <= marker <= 0xD8
        place += 1 if marker == 0xFF else 2
        place += max(2, int.from_bytes(data[place : place + 2], "big")) if has_length else 0
    raise ValueError("no JPEG header")


def _check_png(path: Path, data: bytes) -> None:
    depth, kind = data[24:26] if len(data) >= 26 else (8, 0)
    if depth == 16 and kind not in (0, 3):  # the usual decoder would quietly keep the upper 8 bits alone
        raise FramesError(f"{path} holds 16-bit colour, which PNG readers cut to 8; save it as TIFF or as 16-bit grey.")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    _check_pixels(path, height, width, 8, len(data))
    _check_png_sums(data)


def _check_jpeg(path: Path, data: bytes) -> None:
    _check_pixels(path, *jpeg_size(data), 4, len(data))


def _check_webp(path: Path, data: bytes) -> None:
    """By the size in its first chunk, which the decoder makes room for."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[place : place + 3], "little") for place in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(data[place : place + 2], "little") & 0x3FFF for place in (26, 28))
    check_claim(path, max(0, height * width * 4 - SMALL_PICTURE), len(data))
    check_memory(path, 4 * height * width * 4)


def _check_bmp(path: Path, data: bytes) -> None:
    old = int.from_bytes(data[14:18], "little") == 12  # a header with sizes of two bytes
    places = (slice(18, 20), slice(20, 22)) if old else (slice(18, 22), slice(22, 26))
    width, height = (abs(int.from_bytes(data[place], "little", signed=not old)) for place in places)
    _check_pixels(path, height, width, 4, len(data))


FORMS: tuple[tuple[str, Callable[[bytes], bool], Callable[[Path, bytes], None]], ...] = (
    ("PNG", lambda start: start.startswith(PNG_MAGIC), _check_png),
    ("JPEG", lambda start: start.startswith(JPEG_MAGIC), _check_jpeg),
    ("WEBP", is_webp, _check_webp),
    ("BMP", lambda start: start.startswith(b"BM") and start[6:10] == bytes(4), _check_bmp),
)


def _check_pixels(path: Path, height: int, width: int, pixel_bytes: int, stored: int) -> None:
    check_claim(path, height * width * pixel_bytes, stored)
    check_memory(path, 3 * height * width * pixel_bytes)


def _check_png_sums(data: bytes) -> None:
    """Compare the checksum of every chunk, which the usual decoder leaves out for the pixels."""
    place, kind = len(PNG_MAGIC), b""
    while kind != b"IEND":
        length = int.from_bytes(data[place : place + 4], "big")
        kind, end = data[place + 4 : place + 8], place + 8 + length
        if end + 4 > len(data):
            raise ValueError("the file ends too early")
        if zlib.crc32(memoryview(data)[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(f"wrong checksum of {kind!r}")
        place = end + 4


def _decode(path: Path, data: bytes, form: str) -> Picture:
    forms = ("JPEG", "MPO") if form == "JPEG" else (form,)

    def opened() -> Any:
        return library("PIL.Image", path).open(io.BytesIO(data), formats=forms)

    image, notes = opened(), list[str]()
    orientation = int(image.getexif().get(ORIENTATION, 1))
    if orientation in range(2, 9):
        notes.append("turned as EXIF says")

    skipped = int(bool(image.info.get("default_image")))  # for those who cannot show the animation

    def read(number: int) -> np.ndarray:
        nonlocal image
        if image.tell() > number + skipped:  # some formats lose count where they go back
            image = opened()
        if image.tell() != number + skipped:
            image.seek(number + skipped)
        return turned(_pixels(path, image, notes), orientation)

    pixels = read(0)
    if pixels.shape[:2] != turned_size((image.height, image.width), orientation):
        raise ValueError(f"its picture is {pixels.shape}")
    count = _count_alike(image, notes) - skipped
    return Picture(pixels, count, read, tuple(notes))


def _count_alike(image: Any, notes: list[str]) -> int:
    """How many pictures follow each other; beside a photograph there may be smaller ones, for screens and depth."""
    count = int(getattr(image, "n_frames", 1))
    if image.format != "MPO" or count == 1:
        return count
    size, alike = image.size, 1
    while alike < count:
        image.seek(alike)
        if image.size != size:
            notes.append("holds smaller pictures besides, which are left out")
            break
        alike += 1
    return alike


def _pixels(path: Path, image: Any, notes: list[str]) -> np.ndarray:
    """The picture at which a file stands, without its transparency, of which people are told where it hides any."""
    if image.mode not in GREY_MODES + COLOUR_MODES:
        raise FramesError(f"{path} must be grey or colour, but is {image.mode}; save it as RGB.")
    if image.mode in ("P", "PA"):
        has_opacity = image.mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if has_opacity else "RGB")
    pixels = np.asarray(image)
    if pixels.ndim == 3:
        opacity = pixels[..., -1] if image.mode in ("LA", "La", "RGBA", "RGBa") else None
        if opacity is not None and opacity.min() < opacity.max() and TRANSPARENT not in notes:
            notes.append(TRANSPARENT)
        return pixels[..., 0] if image.mode in GREY_MODES else pixels[..., :3]
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels
